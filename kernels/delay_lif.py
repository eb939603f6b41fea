"""The block of a delay network: synaptic delays, normalisation over steps and samples, a neuron,
and dropout on its spikes.

Legend: T input steps, S output steps, B batch, C input channels, N neurons, K delay taps, E
elements per synapse.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.library import custom_op

from .delay import LINEAR, check_synapses, pick, triton_precision
from .dispatch import dispatch, why_not_dtype
from .dropout import Dropout
from .lif import lif
from .neurons import NeuronOptions, State
from .reference import batch_statistics as reference_statistics
from .reference import fold_norm
from .synapses import Synapses

# -- mean and variance over steps and samples ---


@custom_op("snndelay::cpu_statistics", mutates_args=())
def _cpu_statistics(y: Tensor) -> tuple[Tensor, Tensor]:
    from .cpu import statistics as cpu  # imports numba

    return cpu.statistics(y)


@_cpu_statistics.register_fake
def _(y):
    return tuple(y.new_empty(y.shape[2], dtype=torch.float32) for _ in range(2))


@custom_op("snndelay::cpu_statistics_bwd", mutates_args=())
def _cpu_statistics_bwd(dmean: Tensor, dvar: Tensor, y: Tensor, mean: Tensor) -> Tensor:
    from .cpu import statistics as cpu  # imports numba

    return cpu.statistics_bwd(dmean, dvar, y, mean)


_cpu_statistics_bwd.register_fake(lambda dmean, dvar, y, mean: torch.empty_like(y))

_cpu_statistics.register_autograd(
    lambda ctx, dmean_N, dvar_N: _cpu_statistics_bwd(dmean_N, dvar_N, *ctx.saved_tensors),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0], output[0]),
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


# -- the block ---


def _with_statistics(name: str, linear: Callable) -> Callable:
    def run(*given):
        y_TBN = linear(*given)
        backend = "reference" if name == "reference" else "auto"
        return y_TBN, *batch_statistics(y_TBN, backend)

    return run


def _triton_current(x_TBC: Tensor, synapses: Synapses, extra_steps: int) -> tuple[Tensor, ...]:
    from .triton import delay as triton_delay  # imports triton

    return triton_delay.delay_linear_stats(x_TBC, synapses, extra_steps, triton_precision())


CURRENT = {name: _with_statistics(name, linear) for name, linear in LINEAR.items()}
CURRENT["triton"] = _triton_current  # out of the convolution's epilogue


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
    backend: str = "auto",
    **constants: Tensor | float,
) -> tuple[Tensor, State, tuple[Tensor, Tensor]]:
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
        neuron, options, dropout, constants: see ``lif``.
        backend: ``auto`` chooses for each part by itself; ``fft`` means the delays and leaves
            the neurons to ``auto``; else one of ``reference``, ``triton`` and ``cpu``.

    Returns:
        Spikes, (T + extra_steps, B, N) in the dtype of ``x_TBC``; the state after the last step;
        and the pair mean_N, var_N (biased) of the current, (N,). Differentiable in every tensor.

    Raises:
        ValueError: as ``delay_linear`` and ``lif``. BackendError: the backend cannot run.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3; Ioffe and Szegedy 2015 (arXiv
    1502.03167), algorithm 1.
    """
    check_synapses("delay_lif", synapses, x_TBC)
    N, K = synapses.weight.shape[1], synapses.K
    run = pick("delay_lif", CURRENT, x_TBC, N, K, extra_steps, backend)
    y_TBN, mean_N, var_N = run(x_TBC, synapses, extra_steps)
    s_TBN, state = lif(
        y_TBN,
        state,
        neuron=neuron,
        options=options,
        norm=fold_norm(mean_N, var_N, gamma_N, beta_N, eps),
        dropout=dropout,
        backend=backend,
        **constants,
    )
    return s_TBN, state, (mean_N, var_N)
