"""OPS: every op with its backends, random inputs and the work it does. Tests and benchmarks iterate
over it.

Legend: T time steps, B batch, C input channels, N neurons, K delay taps.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .delay import CONV, LINEAR, TAPS, delay_conv, delay_linear, delay_taps
from .lif import LIF, READOUT, lif, readout


@dataclass(frozen=True)
class Shape:
    """Sizes of one benchmark or test case."""

    T: int = 100
    B: int = 64
    C: int = 256
    N: int = 256
    K: int = 25


@dataclass(frozen=True)
class Op:
    """One op: ``run(*inputs, backend=...)``, its backends, inputs for a shape, and its work.

    ``inputs(shape, generator, dtype)`` gives the arguments with random tensors (floating ones may
    get gradients); ``flop(shape)`` counts additions and multiplications of the forward pass,
    ``bytes(shape)`` what it must read and write in fp32.
    """

    run: Callable
    backends: tuple[str, ...]
    inputs: Callable[[Shape, torch.Generator, torch.dtype], tuple]
    flop: Callable[[Shape], int]
    bytes: Callable[[Shape], int]


def _spikes(s: Shape, g: torch.Generator, dtype: torch.dtype) -> Tensor:
    return (torch.rand(s.T, s.B, s.C, generator=g) < 0.1).to(dtype)


def _synapses(s: Shape, g: torch.Generator, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    w = torch.randn(1, s.N, s.C, generator=g) / s.C**0.5
    p = (torch.rand(1, s.N, s.C, generator=g) - 0.5) * (s.K - 1)
    return w.to(dtype), p.to(dtype), torch.tensor(s.K / 8, dtype=dtype)


def _current(s: Shape, g: torch.Generator, dtype: torch.dtype) -> Tensor:
    return torch.randn(s.T, s.B, s.N, generator=g).to(dtype)


def _taps(s: Shape, g: torch.Generator, dtype: torch.dtype) -> Tensor:
    return torch.randn(s.N, s.C, s.K, generator=g).to(dtype) / (s.C * s.K) ** 0.5


def _run_lif(x: Tensor, v: Tensor, backend: str = "auto") -> tuple[Tensor, Tensor]:
    s, (v,) = lif(x, (v,), tau=2.0, backend=backend)
    return s, v


OPS = {
    "delay_taps": Op(
        delay_taps,
        tuple(TAPS),
        lambda s, g, d: (*_synapses(s, g, d), s.K),
        flop=lambda s: 8 * s.N * s.C * s.K,
        bytes=lambda s: 4 * s.N * s.C * (2 + s.K),
    ),
    "delay_conv": Op(
        delay_conv,
        tuple(CONV),
        lambda s, g, d: (_spikes(s, g, d), _taps(s, g, d)),
        flop=lambda s: 2 * s.T * s.B * s.C * s.N * s.K,
        bytes=lambda s: 4 * (s.T * s.B * (s.C + s.N) + s.N * s.C * s.K),
    ),
    "delay_linear": Op(
        delay_linear,
        tuple(LINEAR),
        lambda s, g, d: (_spikes(s, g, d), *_synapses(s, g, d), s.K),
        flop=lambda s: 2 * s.T * s.B * s.C * s.N * s.K + 8 * s.N * s.C * s.K,
        bytes=lambda s: 4 * (s.T * s.B * (s.C + s.N) + 2 * s.N * s.C),
    ),
    "lif": Op(
        _run_lif,
        tuple(LIF),
        lambda s, g, d: (_current(s, g, d), torch.zeros(s.B, s.N, dtype=d)),
        flop=lambda s: 4 * s.T * s.B * s.N,
        bytes=lambda s: 8 * s.T * s.B * s.N,
    ),
    "readout": Op(
        readout,
        tuple(READOUT),
        lambda s, g, d: (_current(s, g, d), torch.zeros(s.B, s.N, dtype=d)),
        flop=lambda s: 2 * s.T * s.B * s.N,
        bytes=lambda s: 8 * s.T * s.B * s.N,
    ),
}
