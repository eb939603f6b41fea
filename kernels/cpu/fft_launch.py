"""What runs the compiled transforms of fft.py on tensors.

Legend: L transform length, M = 1.5 L - 1 rows of products, T steps, B batch, C input channels, N
neurons, K delay taps, E elements per synapse, I tiles. All tensors are float32 and contiguous.
"""

import torch
from torch import Tensor

from ..synapses import Synapses
from . import fft
from .threads import use_torch_threads


def _columns(*tensors: Tensor) -> list:
    """All axes but the first as columns, as numpy sees them."""
    return [a.view(a.shape[0], -1).numpy() for a in tensors]


def forward(x_TBC: Tensor, L: int, hop: int, tiles: int, before: int, adjoint: bool) -> Tensor:
    """Products (M, I B, C) of a signal: split, or with ``adjoint`` merge's transpose."""
    use_torch_threads()
    _, B, C = x_TBC.shape
    p = x_TBC.new_empty(3 * L // 2 - 1, tiles, B * C)
    fft.forward(*_columns(x_TBC), tiles, hop, before, int(adjoint), *fft.plan(L)[1:], p.numpy())
    return p.view(-1, tiles * B, C)


def inverse(p: Tensor, T: int, L: int, hop: int, tiles: int, before: int, adjoint: bool) -> Tensor:
    """Signal (T, B, C) of products (M, I B, C): merge, or with ``adjoint`` split's transpose."""
    use_torch_threads()
    x = p.new_empty(T, p.shape[1] // tiles, p.shape[2])
    planes = p.view(p.shape[0], tiles, -1).numpy()
    fft.inverse(planes, hop, before, int(adjoint), *fft.plan(L)[1:], *_columns(x))
    return x


def gauss_taps(synapses: Synapses) -> Tensor:
    """Taps (K, N, C), by delay."""
    use_torch_threads()
    w = synapses.weight
    k = w.new_empty(synapses.K, *w.shape[1:])
    fft.gauss_taps(*_columns(*synapses[:3], k))
    return k


def gauss_taps_grad(dk_KNC: Tensor, synapses: Synapses) -> list[Tensor]:
    """Gradients of weight, position and sigma from that of their taps."""
    use_torch_threads()
    grads = [torch.empty_like(synapses.weight) for _ in range(3)]
    fft.gauss_taps_grad(*_columns(dk_KNC, *synapses[:3], *grads))
    return grads


def gauss_forward(synapses: Synapses, L: int) -> Tensor:
    """Products (M, N, C) of the taps, which are never stored."""
    use_torch_threads()
    w = synapses.weight
    p = w.new_empty(3 * L // 2 - 1, *w.shape[1:])
    fft.gauss_forward(*_columns(*synapses[:3]), synapses.K, *fft.plan(L)[1:], *_columns(p))
    return p


def gauss_inverse(p_MNC: Tensor, synapses: Synapses, L: int) -> list[Tensor]:
    """Gradients of weight, position and sigma from that of the products."""
    use_torch_threads()
    grads = [torch.empty_like(synapses.weight) for _ in range(3)]
    given = _columns(p_MNC, *synapses[:3])
    fft.gauss_inverse(*given, synapses.K, *fft.plan(L)[1:], *_columns(*grads))
    return grads
