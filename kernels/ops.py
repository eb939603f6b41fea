"""OPS: every op with its backends, random inputs and the work it does. Tests and the profile
command iterate over it.

Legend: T time steps, B batch, C input channels, N neurons, K delay taps, M = T * B. One element per
synapse, no extra steps, float32.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from .delay import CONV, INTEGER, LINEAR, TAPS, delay_conv, delay_integer, delay_linear, delay_taps
from .delay_depthwise import DEPTHWISE, delay_depthwise
from .delay_lif import CURRENT, delay_lif
from .dropout import Dropout
from .lif import LIF, READOUT, lif, readout
from .neurons import NEURONS
from .recurrent import RECURRENT, recurrent_lif
from .synapses import Synapses


@dataclass(frozen=True)
class Shape:
    """Sizes of one benchmark or test case: steps, batch, channels, neurons, taps."""

    T: int = 100
    B: int = 64
    C: int = 256
    N: int = 256
    K: int = 25

    @property
    def M(self) -> int:
        """Rows of a product over all steps and samples."""
        return self.T * self.B


@dataclass(frozen=True)
class Work:
    """What one pass has to do, whatever the backend: additions and multiplications of the direct
    algorithm, and bytes to read and write if everything between input and output stayed on chip.
    """

    flop: int
    bytes: int

    def floor_s(self, bandwidth: float, peak: float) -> float:
        """Least seconds on a machine that moves ``bandwidth`` byte/s and computes ``peak``
        FLOP/s.
        """
        return max(self.bytes / bandwidth, self.flop / peak)


def learned(inputs: tuple) -> list[Tensor]:
    """The tensors among the inputs of an op that get a gradient."""
    return [a for a in tree_leaves(inputs) if isinstance(a, Tensor) and a.requires_grad]


def on(device: torch.device, inputs: tuple) -> tuple:
    """The inputs of an op with their tensors there, leaves of the graph."""

    def move(a):
        if not isinstance(a, Tensor):
            return a
        return a.to(device).detach().requires_grad_(a.requires_grad)

    return tree_map(move, inputs)


@dataclass(frozen=True)
class Op:
    """One op: ``run(*inputs, backend=...)``, its backends, inputs for a shape, and its work.

    ``inputs(shape, generator, dtype)`` gives the arguments with random tensors, some of them in a
    ``Synapses``; those that a layer learns, or passes gradients to, require them. ``run`` returns
    one tensor. ``forward(shape)`` and ``backward(shape)`` are the work of the two passes,
    ``backward`` None for an op without gradient. ``per_step`` counts, for one step of one sample,
    the neurons that advance and the synapses that deliver.
    """

    run: Callable
    backends: tuple[str, ...]
    inputs: Callable[[Shape, torch.Generator, torch.dtype], tuple]
    forward: Callable[[Shape], Work]
    backward: Callable[[Shape], Work] | None
    per_step: Callable[[Shape], tuple[int, int]]

    def neuron_steps(self, s: Shape) -> int:
        """Neurons times steps times samples of one pass."""
        return s.M * self.per_step(s)[0]

    def synaptic_operations(self, s: Shape) -> int:
        """Synapses times steps times samples of one pass; a synapse counts once, not K times."""
        return s.M * self.per_step(s)[1]


# -- random inputs ---


def _spikes(s: Shape, g: torch.Generator, dtype: torch.dtype) -> Tensor:
    return (torch.rand(s.T, s.B, s.C, generator=g) < 0.1).to(dtype).requires_grad_()


def _synapses(s: Shape, g: torch.Generator, dtype: torch.dtype) -> Synapses:
    """With a width that is not learned, as published."""
    w = torch.randn(1, s.N, s.C, generator=g) / s.C**0.5
    p = (torch.rand(1, s.N, s.C, generator=g) - 0.5) * (s.K - 1)
    width = torch.tensor(s.K / 8, dtype=dtype)
    return Synapses(w.to(dtype).requires_grad_(), p.to(dtype).requires_grad_(), width, s.K)


def _current(s: Shape, g: torch.Generator, dtype: torch.dtype) -> Tensor:
    return torch.randn(s.T, s.B, s.N, generator=g).to(dtype).requires_grad_()


def _taps(s: Shape, g: torch.Generator, dtype: torch.dtype) -> Tensor:
    k = torch.randn(s.N, s.C, s.K, generator=g) / (s.C * s.K) ** 0.5
    return k.to(dtype).requires_grad_()


def _channel_taps(s: Shape, g: torch.Generator, dtype: torch.dtype) -> Tensor:
    return (torch.randn(s.C, s.K, generator=g) / s.K**0.5).to(dtype).requires_grad_()


def _lif_inputs(neuron: str, s: Shape, g: torch.Generator, dtype: torch.dtype) -> tuple:
    """Current, one tensor per state variable and one (N,) per constant of the neuron."""
    states = [torch.zeros(s.B, s.N, dtype=dtype) for _ in NEURONS[neuron].states]
    constants = [
        c.init(torch.full((s.N,), 2.0), 10.0).to(dtype).requires_grad_(c.learned)
        for c in NEURONS[neuron].constants.values()
    ]
    return _current(s, g, dtype), *states, *constants


def _run_lif(neuron: str, x: Tensor, *tensors: Tensor, backend: str = "auto") -> Tensor:
    n = len(NEURONS[neuron].states)
    constants = dict(zip(NEURONS[neuron].constants, tensors[n:], strict=True))
    return lif(x, tensors[:n], neuron=neuron, backend=backend, **constants)[0]


def _integer_inputs(s: Shape, g: torch.Generator, dtype: torch.dtype) -> tuple:
    """As at evaluation: no gradients."""
    delay = torch.randint(s.K, (1, s.N, s.C), generator=g, dtype=torch.int32)
    return _spikes(s, g, dtype).detach(), _synapses(s, g, dtype).weight.detach(), delay, s.K


def _block_inputs(s: Shape, g: torch.Generator, dtype: torch.dtype) -> tuple:
    """Spikes, synapses, scale and shift of the normalisation, tau, and the dropout's seed."""
    scale, shift = (torch.full((s.N,), v, dtype=dtype).requires_grad_() for v in (1.0, 0.0))
    tau = torch.full((s.N,), 2.0, dtype=dtype)
    return _spikes(s, g, dtype), _synapses(s, g, dtype), scale, shift, tau, torch.tensor(0)


def _run_block(*inputs, backend: str = "auto") -> Tensor:
    *inputs, tau, seed = inputs
    dropout = Dropout(0.4, "held", seed)
    return delay_lif(*inputs, dropout=dropout, tau=tau, backend=backend)[0]


def _recurrent_inputs(s: Shape, g: torch.Generator, dtype: torch.dtype) -> tuple:
    """Current, weights, shares of the taps and tau; on a grid, so that every sum is exact."""

    def grid(*shape: int, scale: float) -> Tensor:
        return (torch.randn(*shape, generator=g) * scale * 64).round() / 64

    taps = torch.randint(5, (s.N, s.K), generator=g) / 8
    given = grid(s.T, s.B, s.N, scale=1.0), grid(s.N, s.N, scale=s.N**-0.5), taps
    return *(a.to(dtype).requires_grad_() for a in given), torch.full((s.N,), 2.0, dtype=dtype)


def _run_recurrent(
    x: Tensor, weight: Tensor, taps: Tensor, tau: Tensor, backend: str = "auto"
) -> Tensor:
    return recurrent_lif(x, weight, taps, tau=tau, backend=backend)[0]


# -- work: float32, 4 bytes a number ---

TAP_FLOP, TAP_BACK_FLOP = 8, 22  # per synapse and tap: the Gaussian, its sum and its gradients
STEP_FLOP, STEP_BACK_FLOP = 5, 12  # per state variable, neuron and step: charge, fire, reset
NORM_FLOP, NORM_BACK_FLOP = 5, 12  # per neuron and step: statistics, scale, shift


def _product(s: Shape, times: int = 1) -> int:
    """A dense product over all taps."""
    return 2 * times * s.M * s.C * s.N * s.K


def _numbers(*counts: int) -> int:
    return 4 * sum(counts)


def _lif_op(neuron: str) -> Op:
    states = len(NEURONS[neuron].states)
    return Op(
        partial(_run_lif, neuron),
        tuple(LIF) if NEURONS[neuron].charge else ("reference",),
        partial(_lif_inputs, neuron),
        # read the current, write the spikes; backward: read current and cotangent, write gradient
        lambda s: Work(STEP_FLOP * states * s.M * s.N, _numbers(2 * s.M * s.N)),
        lambda s: Work(STEP_BACK_FLOP * states * s.M * s.N, _numbers(3 * s.M * s.N)),
        lambda s: (s.N, 0),
    )


OPS = {
    "delay_taps": Op(
        delay_taps,
        tuple(TAPS),
        lambda s, g, d: (_synapses(s, g, d),),
        lambda s: Work(TAP_FLOP * s.N * s.C * s.K, _numbers(s.N * s.C * (2 + s.K))),
        lambda s: Work(TAP_BACK_FLOP * s.N * s.C * s.K, _numbers(s.N * s.C * (4 + s.K))),
        lambda s: (0, 0),
    ),
    "delay_conv": Op(
        delay_conv,
        tuple(CONV),
        lambda s, g, d: (_spikes(s, g, d), _taps(s, g, d)),
        lambda s: Work(_product(s), _numbers(s.M * (s.C + s.N), s.N * s.C * s.K)),
        lambda s: Work(_product(s, 2), _numbers(s.M * (2 * s.C + s.N), 2 * s.N * s.C * s.K)),
        lambda s: (s.N, s.N * s.C),
    ),
    "delay_linear": Op(
        delay_linear,
        tuple(LINEAR),
        lambda s, g, d: (_spikes(s, g, d), _synapses(s, g, d)),
        lambda s: Work(
            _product(s) + TAP_FLOP * s.N * s.C * s.K,
            _numbers(s.M * (s.C + s.N), 2 * s.N * s.C),
        ),
        lambda s: Work(
            _product(s, 2) + TAP_BACK_FLOP * s.N * s.C * s.K,
            _numbers(s.M * (2 * s.C + s.N), 4 * s.N * s.C),
        ),
        lambda s: (s.N, s.N * s.C),
    ),
    "delay_depthwise": Op(
        delay_depthwise,
        tuple(DEPTHWISE),
        lambda s, g, d: (_spikes(s, g, d), _channel_taps(s, g, d)),
        lambda s: Work(2 * s.M * s.C * s.K, _numbers(2 * s.M * s.C, s.C * s.K)),
        lambda s: Work(4 * s.M * s.C * s.K, _numbers(3 * s.M * s.C, 2 * s.C * s.K)),
        lambda s: (0, s.C),
    ),
    "delay_integer": Op(
        delay_integer,
        tuple(INTEGER),
        _integer_inputs,
        lambda s: Work(2 * s.M * s.C * s.N, _numbers(s.M * (s.C + s.N), 2 * s.N * s.C)),
        None,
        lambda s: (s.N, s.N * s.C),
    ),
    "lif": _lif_op("lif"),
    "delay_lif": Op(
        _run_block,
        tuple(CURRENT),
        _block_inputs,
        # the current goes to memory and back, since its statistics need all of it
        lambda s: Work(
            _product(s) + TAP_FLOP * s.N * s.C * s.K + (NORM_FLOP + STEP_FLOP) * s.M * s.N,
            _numbers(s.M * (s.C + 3 * s.N), 2 * s.N * s.C),
        ),
        lambda s: Work(
            _product(s, 2)
            + TAP_BACK_FLOP * s.N * s.C * s.K
            + (NORM_BACK_FLOP + STEP_BACK_FLOP) * s.M * s.N,
            _numbers(s.M * (2 * s.C + 4 * s.N), 4 * s.N * s.C),
        ),
        lambda s: (s.N, s.N * s.C),
    ),
    "recurrent_lif": Op(
        _run_recurrent,
        tuple(RECURRENT),
        _recurrent_inputs,
        # taps of each neuron's own spikes, then a product; backward twice that
        lambda s: Work(
            2 * s.M * s.N * (s.K + s.N) + STEP_FLOP * s.M * s.N,
            _numbers(2 * s.M * s.N, s.N * (s.N + s.K)),
        ),
        lambda s: Work(
            4 * s.M * s.N * (s.K + s.N) + STEP_BACK_FLOP * s.M * s.N,
            _numbers(3 * s.M * s.N, 2 * s.N * (s.N + s.K)),
        ),
        lambda s: (s.N, s.N * s.N),
    ),
    "readout": Op(
        readout,
        tuple(READOUT),
        lambda s, g, d: (_current(s, g, d), torch.zeros(s.B, s.N, dtype=d)),
        lambda s: Work(2 * s.M * s.N, _numbers(2 * s.M * s.N)),
        lambda s: Work(2 * s.M * s.N, _numbers(2 * s.M * s.N)),
        lambda s: (s.N, 0),
    ),
}

# what the profile command measures: an op is one row, and lif one row per neuron
ROWS = OPS | {f"lif:{neuron}": _lif_op(neuron) for neuron in NEURONS if neuron != "lif"}
