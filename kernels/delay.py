"""Synaptic delays: DCLS taps and the delay convolution.

Legend: T time steps, B batch, C input channels, N neurons, K delay taps, E elements per synapse.
Tap i delays by K - 1 - i steps.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from . import choice, fft_conv, reference
from .choice import Call
from .dispatch import dispatch
from .precision import triton_precision
from .synapses import Synapses

VERSIONS = ("v0", "v1", "max", "gauss")


def _triton_linear(x_TBC: Tensor, synapses: Synapses, extra_steps: int) -> Tensor:
    from .triton import delay as triton_delay  # imports triton

    return triton_delay.delay_linear(x_TBC, synapses, extra_steps, triton_precision())


TAPS = {"reference": reference.delay_taps}
CONV = {
    "cpu": fft_conv.compiled_delay_conv,
    "fft": fft_conv.delay_conv,
    "reference": reference.delay_conv,
}
LINEAR = {
    "triton": _triton_linear,
    "cpu": fft_conv.compiled_delay_linear,
    "fft": fft_conv.delay_linear,
    "reference": reference.delay_linear,
}


def _cpu_integer(*args):
    from .cpu import delay_integer as integer  # imports numba

    return integer.cpu_delay_integer(*args)


def _triton_integer(
    x_TBC: Tensor, w_ENC: Tensor, delay_ENC: Tensor, K: int, extra_steps: int
) -> Tensor:
    precision, (_, N, C) = triton_precision(), w_ENC.shape
    # dynamo wants no caches
    if torch.compiler.is_compiling() or not choice.events_win(C, N, K, extra_steps, precision):
        from .triton import delay_one_hot

        return delay_one_hot.delay_integer(x_TBC, w_ENC, delay_ENC, K, extra_steps, precision)
    from .triton import delay_integer as triton_integer

    # the kernel takes one delay per synapse; elements of a synapse are independent
    first, *others = (
        triton_integer.delay_integer(x_TBC, w, d, extra_steps)
        for w, d in zip(w_ENC, delay_ENC, strict=True)
    )
    return sum(others, first)


INTEGER = {
    "triton": _triton_integer,
    "cpu": _cpu_integer,
    "fft": fft_conv.delay_integer,
    "reference": reference.delay_integer,
}


# -- which of them ---


def backend_of(op: str, call: Call, backend: str = "auto") -> str:
    """The backend that runs an op on inputs of a shape, in training (``delay_linear``,
    ``delay_lif``, ``delay_conv``) or in evaluation (``delay_integer``).

    Args:
        op: one of these.
        call: shape, device and type of the inputs.
        backend: as the op takes it; under ``auto`` work is counted, see choice.py.

    Raises:
        BackendError: the backend cannot run.
    """
    if op == "delay_integer":
        return choice.integer_backend(call, tuple(INTEGER), backend)
    return choice.backend(op, call, tuple(CONV if op == "delay_conv" else LINEAR), backend)


def pick(
    op: str,
    implementations: dict[str, Callable],
    x_TBC: Tensor,
    N: int,
    K: int,
    extra_steps: int,
    backend: str,
) -> Callable:
    """The implementation, by the cost model where ``backend`` leaves the choice."""
    call = Call(*x_TBC.shape, N, K, extra_steps, x_TBC.device.type, x_TBC.dtype)
    return implementations[choice.backend(op, call, tuple(implementations), backend)]


def check_synapses(op: str, synapses: Synapses, x_TBC: Tensor | None = None) -> None:
    """ValueError in the name of ``op`` where the synapses, or they and their input, do not fit."""
    w, p, _, K, version = synapses
    _check_elements(op, w, p, "position")
    if version not in VERSIONS:
        raise ValueError(f"{op}: version must be one of {', '.join(VERSIONS)}, not {version!r}")
    _check_taps(op, K)
    if x_TBC is not None:
        _check_input(op, x_TBC, w.shape[2])


def _check_elements(op: str, w: Tensor, other: Tensor, name: str) -> None:
    if w.ndim != 3 or w.shape != other.shape:
        raise ValueError(
            f"{op}: weight and {name} must both be (E, N, C), not {tuple(w.shape)} and "
            f"{tuple(other.shape)}"
        )


def _check_taps(op: str, K: int) -> None:
    if K < 1:
        raise ValueError(f"{op}: K must be at least 1 tap, not {K}")


def _check_input(op: str, x: Tensor, C: int) -> None:
    if x.dtype == torch.int32 and C > 1 and x.ndim == 3 and x.shape[2] == -(-C // 32):
        raise ValueError(
            f"{op}: x is int32, as spikes packed into bits are, which are for evaluation on whole "
            "delays: call .eval() and torch.no_grad(), or give floating spikes (T, B, "
            f"{C})"
        )
    if not x.is_floating_point():
        raise ValueError(f"{op}: x must be floating, not {x.dtype}: call .float()")
    if not x.numel():
        raise ValueError(f"{op}: x is empty, {tuple(x.shape)}: give at least one step and sample")
    if x.ndim != 3 or x.shape[2] != C:
        raise ValueError(f"{op}: x must be (T, B, {C}) to fit the weights, not {tuple(x.shape)}")


def delay_taps(synapses: Synapses, backend: str = "auto") -> Tensor:
    """Delay kernel of every synapse: ``k_i = sum_e W X_i(P, SIG)``, X as ``reference.delay_taps``
    defines it.

    Args:
        synapses: weight and position (E, N, C), floating, sigma () or (E, N, C), K and version, see
            ``Synapses``.
        backend: ``auto`` or ``reference``.

    Returns:
        Taps, (N, C, K), in the dtype of the weight. Differentiable in weight, position and sigma.

    Raises:
        ValueError: shapes disagree, K < 1 or an unknown version.
        BackendError: the backend cannot run.

    Source: Khalfaoui-Hassani et al. 2023 (arXiv 2306.00817); Hammouamri et al. 2024 (arXiv
    2306.17670), equations 5 to 7.
    """
    check_synapses("delay_taps", synapses)
    return dispatch("delay_taps", TAPS, backend, synapses.weight.device.type)(synapses)


def delay_conv(x_TBC: Tensor, k_NCK: Tensor, extra_steps: int = 0, backend: str = "auto") -> Tensor:
    """Delay convolution ``y[t] = sum_c sum_i k_i x[t - (K-1) + i]``, causal.

    Args:
        x_TBC: spikes or counts, (T, B, C), floating; zero before t = 0.
        k_NCK: taps, (N, C, K), same dtype.
        extra_steps: how many steps the output outlasts the input, >= 0.
        backend: ``auto``, ``reference``, ``fft`` or ``cpu``.

    Returns:
        Input current, (T + extra_steps, B, N), same dtype.

    Raises:
        ValueError: shapes disagree. BackendError: the backend cannot run.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.2.
    """
    N, C, K = k_NCK.shape
    _check_taps("delay_conv", K)
    _check_input("delay_conv", x_TBC, C)
    run = pick("delay_conv", CONV, x_TBC, N, K, extra_steps, backend)
    return run(x_TBC, k_NCK, extra_steps)


def delay_linear(
    x_TBC: Tensor, synapses: Synapses, extra_steps: int = 0, backend: str = "auto"
) -> Tensor:
    """Synapses with weight and delay in one op: ``delay_conv(x, delay_taps(synapses))``.

    Args:
        x_TBC: spikes or counts, (T, B, C), floating; zero before t = 0.
        synapses: weight and position (E, N, C), floating, sigma () or (E, N, C), K and version, see
            ``Synapses``.
        extra_steps: how many steps the output outlasts the input, >= 0.
        backend: ``auto``, ``reference``, ``fft``, ``triton`` or ``cpu``. ``triton`` is as exact as
            torch lets convolutions be (see ``precision.triton_precision``), ``fft`` as its
            products of float32 matrices. ``auto`` counts work, see choice.py.

    Returns:
        Input current, (T + extra_steps, B, N), in the dtype of ``x_TBC``, in which it is computed
        under autocast too. Differentiable in x, weight, position and sigma.

    Raises:
        ValueError: shapes disagree, K < 1 or an unknown version.
        BackendError: the backend cannot run.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.2.
    """
    check_synapses("delay_linear", synapses, x_TBC)
    N, K = synapses.weight.shape[1], synapses.K
    run = pick("delay_linear", LINEAR, x_TBC, N, K, extra_steps, backend)
    return run(x_TBC, synapses, extra_steps)


def delay_integer(
    x_TBC: Tensor,
    w_ENC: Tensor,
    delay_ENC: Tensor,
    K: int,
    extra_steps: int = 0,
    backend: str = "auto",
) -> Tensor:
    """Synapses whose delays are whole steps, for evaluation: ``y[t] = sum_c w x[t - delay]``.

    Args:
        x_TBC: spikes or counts, (T, B, C), floating; or spikes as bits, (T, B, ceil(C / 32)) int32,
            bit j of word k for channel 32 k + j, as ``lif(..., packed=True)`` returns them. Zero
            before t = 0.
        w_ENC: weights, (E, N, C).
        delay_ENC: delays in steps, 0 ... K - 1, (E, N, C), int32.
        K: number of possible delays.
        extra_steps: how many steps the output outlasts the input, >= 0.
        backend: ``auto``, ``reference``, ``fft``, ``triton`` or ``cpu``. ``cpu`` walks from event
            to event where few inputs are non-zero. ``triton`` does so where delays are very long
            (``choice.events_win``), and else multiplies weights in so many parts as
            ``precision.triton_precision`` says: all 24 bits of them at ``highest``, the exact path
            on CUDA; 16 at ``default``, which can flip a spike whose potential is within 2^-16 of
            its currents from the threshold. ``fft`` errs by 1e-6 of the currents where torch's
            products are float32, and its last bits depend on the length and the batch. ``auto`` on
            CUDA takes it for long delays where they are (``choice.frequencies_evaluate``), at
            ``highest`` too, as training does.

    Returns:
        Input current, (T + extra_steps, B, N), in the dtype of ``x_TBC`` (float32 for bits).
        Carries no gradient: use ``delay_linear`` to differentiate.

    Raises:
        ValueError: shapes disagree, a delay is out of range or not int32.
        BackendError: the backend cannot run.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.2 (discretisation).
    """
    C = w_ENC.shape[-1]
    if C == 1 and x_TBC.dtype == torch.int32:
        x_TBC = x_TBC.float()  # bits of one channel are its spikes, and counts stay counts
    packed = x_TBC.dtype == torch.int32  # no other op takes integers
    if packed and x_TBC.shape[2:] != (-(-C // 32),):
        raise ValueError(
            f"delay_integer: spikes of {C} channels are packed into (T, B, {-(-C // 32)}), "
            f"not {tuple(x_TBC.shape)}"
        )
    _check_elements("delay_integer", w_ENC, delay_ENC, "delay")
    _check_taps("delay_integer", K)
    if not packed:
        _check_input("delay_integer", x_TBC, C)
    if delay_ENC.dtype != torch.int32:
        raise ValueError(f"delay_integer: delays must be int32, not {delay_ENC.dtype}")
    T, B, _ = x_TBC.shape
    call = Call(T, B, C, w_ENC.shape[1], K, extra_steps, x_TBC.device.type, x_TBC.dtype)
    run = INTEGER[choice.integer_backend(call, tuple(INTEGER), backend)]
    if packed and run is not _triton_integer:
        x_TBC = reference.unpack(x_TBC, C)
    with torch.no_grad():
        return run(x_TBC, w_ENC, delay_ENC, K, extra_steps)
