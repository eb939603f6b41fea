"""Spiking conv nets with a linear readout of every step; layouts.py has their layers.

Legend: T time steps, B batch, C channels, H rows, W columns, N classes, K delay taps, F features.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from . import learning
from .conv import POOLS, ConvLIF, ResidualLIF, channels_last
from .delays import AxonalDelay, DelayConv2d
from .errors import ConfigError, check_words, nearest
from .layouts import LAYOUTS, Layout
from .neurons import LIF, SpikeDropout
from .parts import drawn, scanned, silence
from .pooling import CellMean
from .timescales import tau_start
from .weights import n_parameters

CONV_KINDS = ("axonal", "synaptic")  # delays of channels, or of the elements of kernels


def _conv_delay(
    layout: Layout, kind: str, K: int, c_in: int, layer: Any, **how: Any
) -> AxonalDelay | DelayConv2d | None:
    """The delays of a block of a conv net, of its input channels or of its first kernels."""
    if K == 0:
        return None
    if kind == "axonal":
        return AxonalDelay(c_in, K, **how)
    width, stride = (layer, 1) if isinstance(layer, int) else layer
    bias = layout.bias or layout.residual
    return DelayConv2d(c_in, width, 3, K, stride=stride, bias=bias, **how)


class ConvNet(nn.Module):
    """A spiking conv net with one linear readout per step, or two for two domains.

    Args:
        network: key of ``LAYOUTS``.
        n_out: classes N.
        size: (H, W) of the input in pixels.
        n_steps: number of coefficients, one per step, which a net with two heads has.
        n_in: channels of the input (2: the polarities).
        two_heads: a head "static" beside the head "event", and ``coefficient`` (n_steps,), eta_t of
            the transfer loss, all ones at the start.
        dropout: on the spikes of every layer, held over time; see ``Layout`` for residual nets.
        max_delay_steps: taps K of the delays of every block; 0: no delays.
        delay_kind: ``axonal``, a delay per channel ahead of a block; ``synaptic``, one for each
            element of its first kernels, see ``DelayConv2d``.
        delays, version: of these delays, see ``AxonalDelay``; ``none``: no delays.
        tau, v_threshold, decay_input, surrogate, alpha, neuron, backend, options: of the neurons,
            see ``LIF``.
        learn_tau: whether neurons of any kind learn their time constants, one per channel.
        tau_init, tau_max: how these start, see ``tau_start``; ``same``: all at ``tau``.

    Shapes: ``forward`` (T, B, n_in, H, W) -> (T, B, N).

    Raises:
        ConfigError: an unknown network, or a size that its pooling brings to nothing.

    Source: see ``LAYOUTS``; neuron of He et al. 2024 (arXiv 2303.13077).
    """

    def __init__(
        self,
        network: str,
        n_out: int,
        size: tuple[int, int],
        n_steps: int = 10,
        *,
        n_in: int = 2,
        two_heads: bool = False,
        dropout: float = 0.0,
        max_delay_steps: int = 0,
        delay_kind: str = "axonal",
        delays: str = "learned",
        version: str = "gauss",
        tau: float = 2.0,
        learn_tau: bool = False,
        tau_init: str = "same",
        tau_max: float = math.inf,
        v_threshold: float = 0.5,
        decay_input: bool = True,
        surrogate: str = "piecewise_quadratic",
        alpha: float | None = None,
        **neuron,
    ):
        super().__init__()
        check_words(delay_kind=(delay_kind, CONV_KINDS))
        if network not in LAYOUTS:
            raise ConfigError(f"there is no conv net {network!r}: {nearest(network, LAYOUTS)}")
        settings = dict(v_threshold=v_threshold, decay_input=decay_input, surrogate=surrogate)
        settings |= dict(tau=tau_start(tau, tau_init, tau_max), learned=learn_tau or None)
        settings |= dict(dropout=dropout, alpha=alpha, **neuron)
        layout, c_in, pool, (H, W) = LAYOUTS[network], n_in, None, size
        K = 0 if delays == "none" else max_delay_steps
        delay_of = partial(_conv_delay, layout, delay_kind, K, delays=delays, version=version)
        self.blocks = nn.ModuleList()
        for layer in layout.layers:
            if layer in POOLS:
                pool, H, W = layer, H // 2, W // 2
                continue
            delay = delay_of(c_in, layer)
            if isinstance(layer, int):
                how = settings | ({"dropout": 0.0} if layout.residual else {})
                block = ConvLIF(c_in, layer, pool=pool, bias=layout.bias, delay=delay, **how)
                c_in, pool = layer, None
            else:
                width, s = layer
                block = ResidualLIF(c_in, width, stride=s, delay=delay, **settings)
                c_in, H, W = width, -(-H // s), -(-W // s)
            self.blocks.append(block)
        if min(H, W) < 1:
            text = f"network {network} pools {size[0]}x{size[1]} pixels down to nothing: choose"
            raise ConfigError(f"{text} a larger size or a network with fewer poolings")
        self.pool = pool
        self._add_readout(layout, (c_in, H, W), n_out, ("event", "static")[: 1 + two_heads])
        self.dropout = SpikeDropout(dropout if layout.residual else 0.0)
        if two_heads:
            self.coefficient = nn.Parameter(torch.ones(n_steps))
        if layout.start:
            layout.start(self)

    def _add_readout(
        self, layout: Layout, features: tuple[int, int, int], n_out: int, names: Sequence[str]
    ) -> None:
        """Linear heads of these names on what the layout makes of the last spikes, (C, H, W)."""
        C, H, W = features
        self.head = layout.head
        n = layout.head if isinstance(layout.head, int) else 0
        self.cells = CellMean((H, W), n) if n else nn.Identity()
        n_features = C * (n * n if n else H * W if layout.head == "flat" else 1)
        self.heads = nn.ModuleDict({name: nn.Linear(n_features, n_out) for name in names})

    @property
    def n_layers(self) -> int:
        """Number of layers of spiking neurons."""
        return len(self._neurons())

    @property
    def n_parameters(self) -> int:
        """Number of trained parameters."""
        return n_parameters(self)

    @property
    def n_constants(self) -> int:
        """Number of the neurons' constants that published counts include: threshold and sharpness
        of the surrogate, one of each per layer.
        """
        return 2 * self.n_layers

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Logits of every step from the head ``event``, (T, B, N)."""
        return self.scan(x_TBCHW)[0]

    def scan(
        self,
        x_TBCHW: Tensor,
        state: list | None = None,
        head: str = "event",
        potentials: bool = False,
    ) -> tuple[Tensor, Tensor | None, list]:
        """One chunk of steps, carrying on from ``state``, the list that the last call returned
        (None: at rest).

        Args:
            head: ``event`` or ``static``.
            potentials: whether to return the membrane potentials of the last block.

        Returns:
            Logits of every step, (T, B, N); these potentials after the reset, (T, B, F), with
            gradient, or None; the state, a list with one entry per block and the seed of the
            dropout on the features.
        """
        x_TBCHW, after, u_TBCHW = channels_last(x_TBCHW), [], []
        *states, seed = state or [None] * (len(self.blocks) + 1)
        for block, before in zip(self.blocks, states, strict=True):
            wanted = potentials and block is self.blocks[-1]
            x_TBCHW, state_of_block, *u_TBCHW = scanned(block, x_TBCHW, before, wanted)
            after.append(state_of_block)
        u_TBF = u_TBCHW[0].permute(0, 1, 3, 4, 2).flatten(2) if potentials else None
        o_TBN, seed = self._read(x_TBCHW, head, seed)
        return o_TBN, u_TBF, [*after, seed]

    def activity(self, x_TBCHW: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits of every step, and the spikes of every layer of neurons (while training after
        dropout), each (T, B, C, H, W).
        """
        x_TBCHW, spikes = channels_last(x_TBCHW), []
        for block in self.blocks:
            spikes += block.activity(x_TBCHW)
            x_TBCHW = spikes[-1]
        return self._read(x_TBCHW, "event", None)[0], spikes

    def _read(
        self, x_TBCHW: Tensor, head: str, seed: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Logits of every step, and the seed of the dropout on the features."""
        x_BHWC = POOLS[self.pool](x_TBCHW.flatten(0, 1), 2).permute(0, 2, 3, 1)
        x_BHWC = self.cells(x_BHWC)
        features_BF = x_BHWC.mean((1, 2)) if self.head == "mean" else x_BHWC.flatten(1)
        features_TBF = features_BF.unflatten(0, x_TBCHW.shape[:2])
        dropout = drawn(self.dropout, seed, x_TBCHW.device)
        features_TBF = silence(self.dropout, features_TBF, dropout)
        return self.heads[head](features_TBF), dropout and dropout.seed

    delay_layers = learning.delay_layers
    set_sigma = learning.set_sigma
    clamp_ = learning.clamp_

    def _neurons(self) -> list[LIF]:
        return [m for m in self.modules() if isinstance(m, LIF)]
