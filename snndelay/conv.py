"""Blocks of spiking conv nets: axonal delays, convolution, BatchNorm, neuron, dropout.

Legend: T time steps, B batch, C channels, H rows, W columns.

Tensors between blocks are (T, B, C, H, W) in shape and channels last in memory: the neurons see
(T, B, H, W, C) without a copy, with the constants of a channel on the last axis.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import NORMS, normalisation, normalised
from .delays import AxonalDelay, DelayConv2d
from .kernels import lif
from .kernels.dropout import Dropout
from .kernels.neurons import State
from .neurons import LIF, SpikeDropout
from .parts import drawn, fire, one_op, plain, scanned

POOLS = {None: lambda x, size: x, "average": F.avg_pool2d, "max": F.max_pool2d}


def channels_last(x_TBCHW: Tensor) -> Tensor:
    """The same tensor with the channels innermost in memory; no copy if they are already."""
    return x_TBCHW.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


class ConvLIF(nn.Module):
    """Pooling -> axonal delays -> convolution -> BatchNorm over steps, samples and places -> neuron
    -> dropout on the spikes.

    Args:
        c_in, c_out: channels.
        kernel_size: odd; zeros pad the edges.
        stride: of the convolution.
        pool: ``average`` or ``max`` over 2 x 2 places; None: no pooling. It stands at the start,
            so that what a block takes and gives are spikes.
        bias: whether the convolution has one, as published nets do; BatchNorm takes it away again.
        delay: delays of the input channels; or a convolution with delays, in place of ``conv``,
            whose ``kernel_size``, ``stride`` and ``bias`` are then its own; None: none.
        dropout, dropout_mask: see ``SpikeDropout``.
        tau, neuron, backend, options: see ``LIF``.

    Shapes: (T, B, c_in, H, W) -> (T, B, c_out, H', W'). BatchNorm, neuron and dropout run as one
    op. As in ``DelayLIF``, where one of them has hooks or is of another class each is called as a
    module: ``norm`` with (T x B, C, H, W), neuron and dropout with (T, B, H, W, C). (Pruning of
    torch takes weights in the usual layout: ``block.to(memory_format=torch.contiguous_format)``.)

    Raises:
        ValueError: an unknown ``pool``, or as ``LIF`` and ``SpikeDropout``; training on a single
            step, sample and place.

    Source: He et al. 2024 (arXiv 2303.13077), section 4; Meng et al. 2023 (arXiv 2302.14311).
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        pool: str | None = None,
        bias: bool = False,
        delay: AxonalDelay | DelayConv2d | None = None,
        dropout: float = 0.0,
        dropout_mask: str = "held",
        tau: float | Tensor | Callable[[int], Tensor] = 2.0,
        neuron: str = "lif",
        backend: str = "auto",
        **options,
    ):
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f"pool must be None, average or max, not {pool!r}")
        self.pool, self.delay = pool, delay
        if isinstance(delay, DelayConv2d):
            delay.check(c_in, c_out)
            self.conv = nn.Identity()
        else:
            self.conv = nn.Conv2d(c_in, c_out, kernel_size, stride, kernel_size // 2, bias=bias)
            nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
            self.conv.to(memory_format=torch.channels_last)
        self.norm = nn.BatchNorm2d(c_out)
        self.neuron = LIF(c_out, tau, neuron=neuron, backend=backend, **options)
        self.dropout = SpikeDropout(dropout, dropout_mask)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Spikes after dropout of neurons that start at rest."""
        return self.scan(x_TBCHW)[0]

    def activity(self, x_TBCHW: Tensor) -> list[Tensor]:
        """Spikes of every layer of neurons: here one."""
        return [self(x_TBCHW)]

    def scan(
        self,
        x_TBCHW: Tensor,
        state: tuple | None = None,
        potentials: bool = False,
        plus_TBHWC: Tensor | None = None,
    ) -> tuple:
        """Like ``forward``, carrying on from ``state``.

        Args:
            state: what the last call returned: delay history, neuron state, seed of the dropout
                mask; None: at rest.
            potentials: whether to return the membrane potentials too.
            plus_TBHWC: added to what the convolution gives, ahead of BatchNorm (a shortcut).

        Returns:
            Spikes (T, B, C, H, W) and the state; with ``potentials`` also the potentials after the
            reset of every step, (T, B, C, H, W), float32 (float64 for float64) and with gradient.
        """
        history, v, seed = state or (None, None, None)
        x_TBCHW = POOLS[self.pool](x_TBCHW.flatten(0, 1), 2).unflatten(0, x_TBCHW.shape[:2])
        if self.delay is not None:
            x_TBCHW, history = scanned(self.delay, x_TBCHW, history)
        y_BHWC = self.conv(x_TBCHW.flatten(0, 1)).permute(0, 2, 3, 1)
        if plus_TBHWC is not None:
            y_BHWC = (y_BHWC + plus_TBHWC.flatten(0, 1)).to(y_BHWC.dtype)
        dropout = drawn(self.dropout, seed, y_BHWC.device)
        TB = x_TBCHW.shape[:2]
        s_TBHWC, v, *u_TBHWC = self._fire(y_BHWC, TB, v, dropout, potentials)
        s_TBCHW, *u_TBCHW = (a.permute(0, 1, 4, 2, 3) for a in (s_TBHWC, *u_TBHWC))
        return s_TBCHW, (history, v, dropout.seed if dropout else None), *u_TBCHW

    def _fire(
        self,
        y_BHWC: Tensor,
        TB: torch.Size,
        v: State | None,
        dropout: Dropout | None,
        potentials: bool,
    ) -> tuple:
        """Spikes, state and, if asked for, the potentials."""
        norm, n = self.norm, self.neuron
        if not (plain(norm, *NORMS) and one_op(n, self.dropout)):
            y_BCHW = y_BHWC.permute(0, 3, 1, 2)
            y_TBHWC = normalised(norm, y_BCHW).to(y_BCHW.dtype).permute(0, 2, 3, 1).unflatten(0, TB)
            scan = partial(n.scan, potentials=True) if potentials else None
            return fire(n, self.dropout, y_TBHWC, v, dropout, scan)
        pair = normalisation(norm, y_BHWC.flatten(1, 2), n.backend)
        how = dict(norm=pair, dropout=dropout, potentials=potentials, backend=n.backend)
        return lif(y_BHWC.unflatten(0, TB), v, **how, **n.settings())


class ResidualLIF(nn.Module):
    """Two ``ConvLIF`` with a shortcut around them, added ahead of the BatchNorm of the second:
    pre-activation residual blocks, cut where spikes are, so that what a block takes and gives are
    spikes. Its second BatchNorm and neuron are the first ones of the next block there; the
    shortcut carries the spikes, by a 1x1 convolution where size or width change.

    Args:
        c_in, c_out: channels.
        stride: of the first convolution and of the shortcut.
        delay: delays of the first convolution's input, or the first convolution with delays, as of
            ``ConvLIF``; the shortcut has none.
        dropout: on the spikes inside the block; those that leave it are all there.
        settings: further arguments of ``ConvLIF``, without pool and bias: all convolutions have
            biases.

    Shapes: (T, B, c_in, H, W) -> (T, B, c_out, H', W').

    Source: He et al. 2016 (arXiv 1603.05027), figure 4e; Meng et al. 2023 (arXiv 2302.14311).
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        stride: int = 1,
        delay: AxonalDelay | DelayConv2d | None = None,
        dropout: float = 0.0,
        **settings,
    ):
        super().__init__()
        settings = dict(bias=True, **settings)
        self.first = ConvLIF(c_in, c_out, stride=stride, delay=delay, dropout=dropout, **settings)
        self.second = ConvLIF(c_out, c_out, **settings)
        self.shortcut = nn.Identity()
        if stride > 1 or c_in != c_out:
            self.shortcut = nn.Conv2d(c_in, c_out, 1, stride)
            nn.init.kaiming_normal_(self.shortcut.weight, mode="fan_out", nonlinearity="relu")
            self.shortcut.to(memory_format=torch.channels_last)

    @property
    def delay(self) -> AxonalDelay | DelayConv2d | None:
        """Delays of the block's input."""
        return self.first.delay

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Spikes after dropout of neurons that start at rest."""
        return self.scan(x_TBCHW)[0]

    def activity(self, x_TBCHW: Tensor) -> list[Tensor]:
        """Spikes of both layers of neurons."""
        s_TBCHW = self.first(x_TBCHW)
        plus_TBHWC = self._around(x_TBCHW)
        return [s_TBCHW, scanned(self.second, s_TBCHW, None, False, plus_TBHWC)[0]]

    def scan(self, x_TBCHW: Tensor, state: tuple | None = None, potentials: bool = False) -> tuple:
        """As ``ConvLIF.scan``; the potentials are those of the second layer."""
        first, second = state or (None, None)
        s_TBCHW, first = scanned(self.first, x_TBCHW, first)
        plus_TBHWC = self._around(x_TBCHW)
        how = (second, potentials, plus_TBHWC)
        s_TBCHW, second, *u_TBCHW = scanned(self.second, s_TBCHW, *how)
        return s_TBCHW, (first, second), *u_TBCHW

    def _around(self, x_TBCHW: Tensor) -> Tensor:
        y_BHWC = self.shortcut(x_TBCHW.flatten(0, 1)).permute(0, 2, 3, 1)
        return y_BHWC.unflatten(0, x_TBCHW.shape[:2])
