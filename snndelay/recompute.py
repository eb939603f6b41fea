"""The exact way to save memory: a block keeps its input, one bit per spike, and runs once more in
the backward pass.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.utils.checkpoint import checkpoint

from .blocks import DelayLIF
from .conv import ConvLIF, ResidualLIF
from .parts import hooked
from .recurrent_net import RecurrentBlock

BLOCKS = (DelayLIF, ConvLIF, ResidualLIF, RecurrentBlock)


def recompute_(module: nn.Module) -> None:
    """Makes every block inside (one of ``BLOCKS``) keep nothing for the backward pass but its
    input, at one bit per spike, and run once more there. Outputs, gradients and running statistics
    stay the same to the last bit; time grows by about one forward pass, in which hooks on the parts
    fire again.

    Source: Chen et al. 2016 (arXiv 1604.06174).
    """
    if not isinstance(module, BLOCKS):
        for part in module.children():
            recompute_(part)
    elif not isinstance(module, _Recomputed):
        module.__class__ = _recomputed(type(module))


@cache
def _recomputed(cls: type) -> type:
    return type(cls.__name__, (_Recomputed, cls), {})


def _blank(cls: type):
    """A recomputing block without anything in it, for pickle and copies."""
    made = _recomputed(cls)
    return made.__new__(made)


class _Recomputed:
    """Put before a block's class; ``forward`` may call ``scan`` or the other way round."""

    running = False

    def __reduce_ex__(self, protocol):
        # pickle finds classes by name, and this one has the name of the block's own
        _, _, *state = super().__reduce_ex__(max(int(protocol), 2))  # type: ignore[arg-type]
        return _blank, (type(self).__mro__[2],), *state

    def forward(self, x, *args, **options):
        return self._recomputed(super().forward, x, args, options)

    def scan(self, x, *args, **options):
        return self._recomputed(super().scan, x, args, options)

    def _recomputed(self, plain: Callable, x: Tensor, args: tuple, options: dict):
        if self.running or not torch.is_grad_enabled():
            return plain(x, *args, **options)
        packed, unpack = _pack(x.detach())
        needed, given = x.requires_grad, [x]  # the forward pass takes x out of the list
        before = _changed_by_hooks(self)

        def run(kept: Tensor):
            self.running = True
            try:
                if given:
                    return plain(given.pop(), *args, **options)
                with _scratch_buffers(self, before):
                    return plain(unpack(kept).requires_grad_(needed), *args, **options)
            finally:
                self.running = False

        del x
        return checkpoint(run, packed, use_reentrant=False)


Buffers: TypeAlias = list[tuple[nn.Module, str, Tensor]]


def _changed_by_hooks(block: nn.Module) -> Buffers:
    """Copies of what hooks and parametrisations may change and go by."""
    seen = (m for m in block.modules() if hooked(m) or is_parametrized(m))
    return [(m, name, b.clone()) for part in seen for m, name, b in _buffers(part)]


def _buffers(module: nn.Module) -> Buffers:
    return [(m, name, b) for m in module.modules() for name, b in m.named_buffers(recurse=False)]


@contextmanager
def _scratch_buffers(block: nn.Module, before: Buffers) -> Iterator[None]:
    """Within, running statistics are updated in copies: the forward pass has updated the others.
    What it went by is as it was before.
    """
    kept = _buffers(block)
    for module, name, buffer in (*kept, *before):
        setattr(module, name, buffer.clone())
    try:
        yield
    finally:
        for module, name, buffer in kept:
            setattr(module, name, buffer)


def _pack(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """One bit per element where all are 0 or one other value (spikes, after dropout too), else x as
    it is; and what makes x, in the same layout in memory, of that again.
    """
    value = x.max()
    if not ((x == 0) | (x == value)).all():
        return x, Tensor.detach
    order = sorted(range(x.ndim), key=x.stride, reverse=True)
    dense = x.permute(order)
    shape, n, scale, dtype = dense.shape, x.numel(), value.item(), x.dtype
    rows = F.pad((dense != 0).view(torch.uint8).flatten(), (0, -n % 8)).view(8, -1)
    bits = rows[0].clone()
    for i in range(1, 8):
        bits |= rows[i] << i

    def unpack(bits: Tensor) -> Tensor:
        flags = torch.stack([(bits >> i) & 1 for i in range(8)]).flatten()[:n]
        inverse = sorted(range(len(order)), key=order.__getitem__)
        return (flags.to(dtype) * scale).view(shape).permute(inverse)

    return bits, unpack
