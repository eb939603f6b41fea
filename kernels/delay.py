"""Synaptic delays: DCLS taps and the delay convolution.

Legend: T time steps, B batch, C input channels, N neurons, K delay taps, E elements per synapse.
Tap i delays by K - 1 - i steps.
"""

from torch import Tensor

from . import reference, spectral
from .launch import dispatch

VERSIONS = ("v0", "v1", "max", "gauss")

TAPS = {"reference": reference.delay_taps}
CONV = {"cpu": spectral.delay_conv, "reference": reference.delay_conv}
LINEAR = {"cpu": spectral.delay_linear, "reference": reference.delay_linear}


def _check(op: str, x: Tensor | None, w: Tensor, p: Tensor | None, K: int, version: str) -> None:
    if p is not None and (w.ndim != 3 or w.shape != p.shape):
        raise ValueError(
            f"{op}: w and p must both be (E, N, C), not {tuple(w.shape)} and {tuple(p.shape)}"
        )
    if version not in VERSIONS:
        raise ValueError(f"{op}: version must be one of {', '.join(VERSIONS)}, not {version!r}")
    if K < 1:
        raise ValueError(f"{op}: K must be at least 1 tap, not {K}")
    if x is not None and (x.ndim != 3 or x.shape[2] != w.shape[2]):
        raise ValueError(
            f"{op}: x must be (T, B, {w.shape[2]}) to fit the weights, not {tuple(x.shape)}"
        )


def delay_taps(
    w_ENC: Tensor,
    p_ENC: Tensor,
    sigma: Tensor,
    K: int,
    version: str = "gauss",
    backend: str = "auto",
) -> Tensor:
    """Delay kernel of every synapse: ``k_i = sum_e W X_i(P, SIG)``.

    Args:
        w_ENC: weights, (E, N, C), floating.
        p_ENC: positions in [-(K//2), K//2], (E, N, C), in steps; the delay is ``K - 1 - (K//2 +
            p)`` steps.
        sigma: width parameter SIG >= 0 in steps, () or (E, N, C); unused by ``v0`` and ``v1``.
        K: number of taps.
        version: ``v0`` bilinear, ``v1`` triangle, ``max`` triangle of width SIG + 1, ``gauss`` of
            width SIG + 0.27.
        backend: ``auto`` or ``reference``.

    Returns:
        Taps, (N, C, K), in the dtype of ``w_ENC``. Differentiable in w, p and sigma.

    Raises:
        ValueError: shapes disagree, K < 1 or an unknown version.
        BackendError: the backend cannot run.

    Source: Khalfaoui-Hassani et al. 2023 (arXiv 2306.00817); Hammouamri et al. 2024 (arXiv
    2306.17670), equations 5 to 7.
    """
    _check("delay_taps", None, w_ENC, p_ENC, K, version)
    run = dispatch("delay_taps", TAPS, backend, w_ENC.device.type)
    return run(w_ENC, p_ENC, sigma, K, version)


def delay_conv(x_TBC: Tensor, k_NCK: Tensor, extra_steps: int = 0, backend: str = "auto") -> Tensor:
    """Delay convolution ``y[t] = sum_c sum_i k_i x[t - (K-1) + i]``, causal.

    Args:
        x_TBC: spikes or counts, (T, B, C), floating; zero before t = 0.
        k_NCK: taps, (N, C, K), same dtype.
        extra_steps: how many steps the output outlasts the input, >= 0.
        backend: ``auto``, ``reference`` or ``cpu``.

    Returns:
        Input current, (T + extra_steps, B, N), same dtype.

    Raises:
        ValueError: shapes disagree. BackendError: the backend cannot run.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.2.
    """
    _check("delay_conv", x_TBC, k_NCK.permute(2, 0, 1), None, k_NCK.shape[2], "gauss")
    run = dispatch("delay_conv", CONV, backend, x_TBC.device.type)
    return run(x_TBC, k_NCK, extra_steps)


def delay_linear(
    x_TBC: Tensor,
    w_ENC: Tensor,
    p_ENC: Tensor,
    sigma: Tensor,
    K: int,
    version: str = "gauss",
    extra_steps: int = 0,
    backend: str = "auto",
) -> Tensor:
    """Synapses with weight and delay in one op: ``delay_conv(x, delay_taps(w, p, sigma, K))``.

    Args:
        x_TBC: spikes or counts, (T, B, C), floating; zero before t = 0.
        w_ENC, p_ENC, sigma, K, version: the synapses, see ``delay_taps``.
        extra_steps: how many steps the output outlasts the input, >= 0.
        backend: ``auto``, ``reference`` or ``cpu``.

    Returns:
        Input current, (T + extra_steps, B, N), in the dtype of ``x_TBC``. Differentiable in x, w, p
        and sigma.

    Raises:
        ValueError: shapes disagree, K < 1 or an unknown version.
        BackendError: the backend cannot run.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.2.
    """
    _check("delay_linear", x_TBC, w_ENC, p_ENC, K, version)
    run = dispatch("delay_linear", LINEAR, backend, x_TBC.device.type)
    return run(x_TBC, w_ENC, p_ENC, sigma, K, version, extra_steps)
