"""The block of a delay network: synaptic delays, normalisation over steps and samples, a neuron,
and dropout on its spikes.

Legend: T input steps, S output steps, B batch, C input channels, N neurons, K delay taps, E
elements per synapse.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .delay import LINEAR, check_synapses, pick
from .dispatch import dispatch, why_not_dtype
from .dropout import Dropout
from .lif import lif
from .neurons import NeuronOptions, State
from .precision import triton_precision
from .reference import batch_statistics as reference_statistics
from .reference import fold_norm
from .reference import update_running_ as reference_update_running_
from .registered import register, register_differentiable
from .synapses import Synapses

# -- mean and variance over steps and samples ---


def _run_statistics(y):
    from .cpu import statistics as cpu  # imports numba

    return cpu.statistics(y)


def _run_statistics_bwd(dmean, dvar, y, mean):
    from .cpu import statistics as cpu  # imports numba

    return cpu.statistics_bwd(dmean, dvar, y, mean)


_cpu_statistics_bwd = register(
    "cpu_statistics_bwd(Tensor dmean, Tensor dvar, Tensor y, Tensor mean) -> Tensor",
    _run_statistics_bwd,
    lambda dmean, dvar, y, mean: torch.empty_like(y),
)
_cpu_statistics = register_differentiable(
    "cpu_statistics(Tensor y) -> (Tensor, Tensor)",
    _run_statistics,
    lambda y: tuple(y.new_empty(y.shape[2], dtype=torch.float32) for _ in range(2)),
    tensors=lambda y: (y,),
    save=lambda ctx, arguments, results: ctx.save_for_backward(arguments[0], results[0]),
    gradients=lambda ctx, *d: (_cpu_statistics_bwd(*d, *ctx.saved_tensors),),
)

STATISTICS = {
    "cpu": lambda y_TBN: _cpu_statistics(y_TBN.contiguous()),
    "reference": reference_statistics,
}


def batch_statistics(y_TBN: Tensor, backend: str = "auto") -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each neuron's input over steps and samples.

    Args:
        y_TBN: input current, (T, B, N), floating.
        backend: ``auto``, ``reference`` or ``cpu``.

    Returns:
        mean_N and var_N, (N,) in float32 (float64 for float64). Differentiable.

    Raises:
        BackendError: the backend cannot run.
    """
    why_not = why_not_dtype(y_TBN.dtype)
    return dispatch("batch_statistics", STATISTICS, backend, y_TBN.device.type, cpu=why_not)(y_TBN)


# -- running statistics ---


def _update_running_triton(*given) -> None:
    from .triton import norm as triton_norm  # imports triton

    triton_norm.update_running_(*given)


RUNNING = {"triton": _update_running_triton, "reference": reference_update_running_}


def update_running_(
    mean_N: Tensor,
    var_N: Tensor,
    running_mean_N: Tensor,
    running_var_N: Tensor,
    count: Tensor,
    momentum: float | None,
    rows: int,
    backend: str = "auto",
) -> None:
    """Moves the running statistics of a BatchNorm towards those of a batch, in place.

    Args:
        mean_N, var_N: of the batch, biased, (N,).
        running_mean_N, running_var_N, count: what a BatchNorm keeps; the variance unbiased, the
            count of batches () int64.
        momentum: part of the new statistics; None: the mean over all batches so far.
        rows: what the statistics are over, at least 2.
        backend: ``auto``, ``reference`` or ``triton``.

    Raises:
        BackendError: the backend cannot run.
    """
    wide = {t.dtype for t in (mean_N, var_N, running_mean_N, running_var_N)} - {torch.float32}
    why_not = f"it keeps statistics in float32, not {wide.pop()}" if wide else None
    device = mean_N.device.type
    run = dispatch("update_running_", RUNNING, backend, device, triton=why_not)
    run(mean_N, var_N, running_mean_N, running_var_N, count, momentum, rows)


# -- the block ---


def _with_statistics(name: str, linear: Callable) -> Callable:
    def run(x_TBC, synapses, extra_steps, *affine):
        y_TBN = linear(x_TBC, synapses, extra_steps)
        statistics = batch_statistics(y_TBN, "reference" if name == "reference" else "auto")
        return y_TBN, *statistics, *fold_norm(*statistics, *affine)

    return run


def _triton_current(
    x_TBC: Tensor, synapses: Synapses, extra_steps: int, *affine
) -> tuple[Tensor, ...]:
    from .triton import delay as triton_delay  # imports triton

    return triton_delay.delay_linear_norm(x_TBC, synapses, *affine, extra_steps, triton_precision())


# current, its mean and variance, and the scale and shift that normalise it
CURRENT = {name: _with_statistics(name, linear) for name, linear in LINEAR.items()}
CURRENT["triton"] = _triton_current  # statistics out of the convolution's epilogue


def delay_lif(
    x_TBC: Tensor,
    synapses: Synapses,
    gamma_N: Tensor | None,
    beta_N: Tensor | None,
    state: State | None = None,
    *,
    extra_steps: int = 0,
    eps: float = 1e-5,
    neuron: str = "lif",
    options: NeuronOptions | None = None,
    dropout: Dropout | None = None,
    potentials: bool = False,
    coefficients: Sequence[Tensor] | None = None,
    backend: str = "auto",
    **constants: Tensor | float,
) -> tuple:
    """A layer of delays and neurons while training: ``delay_linear``, BatchNorm with the statistics
    of this batch, ``lif`` with dropout.

    The normalised current is never stored, and on the backend ``triton`` the statistics come out of
    the convolution.

    Args:
        x_TBC: spikes or counts, (T, B, C), floating; zero before t = 0.
        synapses, extra_steps: see ``delay_linear``.
        gamma_N, beta_N: scale and shift of the normalised current, (N,), or None for 1 and 0.
        state: see ``lif``.
        eps: added to the variance.
        neuron, options, dropout, potentials, coefficients, constants: see ``lif``.
        backend: ``auto`` chooses for each part by itself; ``fft`` means the delays and leaves
            the neurons to ``auto``; else one of ``reference``, ``triton`` and ``cpu``.

    Returns:
        Spikes, (T + extra_steps, B, N) in the dtype of ``x_TBC``; the state after the last step;
        the pair mean_N, var_N (biased) of the current, (N,); and, if asked for, the potentials
        after the reset of every step. Differentiable in every tensor.

    Raises:
        ValueError: as ``delay_linear`` and ``lif``. BackendError: the backend cannot run.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3; Ioffe and Szegedy 2015 (arXiv
    1502.03167), algorithm 1.
    """
    check_synapses("delay_lif", synapses, x_TBC)
    N, K = synapses.weight.shape[1], synapses.K
    run = pick("delay_lif", CURRENT, x_TBC, N, K, extra_steps, backend)
    y_TBN, mean_N, var_N, *norm = run(x_TBC, synapses, extra_steps, gamma_N, beta_N, eps)
    s_TBN, state, *u_TBN = lif(
        y_TBN,
        state,
        neuron=neuron,
        options=options,
        norm=(norm[0], norm[1]),
        dropout=dropout,
        potentials=potentials,
        coefficients=coefficients,
        backend=backend,
        **constants,
    )
    return s_TBN, state, (mean_N, var_N), *u_TBN
