"""Spiking conv nets for event cameras: one class, and the table of its layouts.

Legend: T time steps, B batch, C channels, H rows, W columns, N classes, F features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .blocks import LIF
from .conv import POOLS, AxonalDelay, ConvLIF, ResidualLIF, channels_last
from .errors import ConfigError

A, M = "average", "max"


@dataclass(frozen=True)
class Layout:
    """Layers of a network in order, and how its head pools."""

    layers: tuple
    """an int: 3x3 convolution to so many channels; a pair (channels, stride): residual block; A and
    M: average and maximum over 2 x 2 places"""
    head: str
    """flat: every place of every channel is a feature; mean: their mean per channel"""


NETWORKS = {
    # He et al. 2024, arXiv 2303.13077
    "vgg": Layout((64, 128, A, 256, 256, A, 512, 512, A, 512, 512, A), "flat"),
    # Meng et al. 2023, arXiv 2302.14311
    "vgg11": Layout((64, M, 128, M, 256, 256, M, 512, 512, M, 512, 512, M), "mean"),
    "resnet18": Layout(
        (64, *((64, 1),) * 2, (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)), "mean"
    ),
    # for about 34 x 34 pixels: the frames are halved first, which costs no accuracy on N-MNIST and
    # makes a step 5 times faster; a mean per channel, because few labels fit no large head
    "small": Layout((A, 32, A, 64, A, 128), "mean"),
}


class ConvNet(nn.Module):
    """A spiking conv net with one linear readout per step, or two for two domains.

    Args:
        network: key of ``NETWORKS``.
        n_classes: N.
        size: (H, W) of the input in pixels.
        n_steps: number of coefficients, one per step, which a net with two heads has.
        channels: of the input (2: the polarities).
        two_heads: a head "static" beside the head "event", and ``coefficient`` (n_steps,), eta_t of
            the transfer loss, all ones at the start.
        dropout: on the spikes of every layer, held over time.
        max_delay_steps: taps K of a learned delay per channel ahead of every block; 0: no delays.
        version: of these delays, see ``AxonalDelay``.
        tau, v_threshold, decay_input, surrogate, alpha, neuron, backend, options: of the neurons,
            see ``LIF``.

    Shapes: ``forward`` (T, B, channels, H, W) -> (T, B, N).

    Raises:
        ConfigError: an unknown network, or a size that its pooling brings to nothing.

    Source: see ``NETWORKS``; neuron of He et al. 2024 (arXiv 2303.13077).
    """

    def __init__(
        self,
        network: str,
        n_classes: int,
        size: tuple[int, int],
        n_steps: int = 10,
        *,
        channels: int = 2,
        two_heads: bool = False,
        dropout: float = 0.0,
        max_delay_steps: int = 0,
        version: str = "gauss",
        tau: float = 2.0,
        v_threshold: float = 0.5,
        decay_input: bool = True,
        surrogate: str = "piecewise_quadratic",
        alpha: float | None = 2.0,
        **neuron,
    ):
        super().__init__()
        if network not in NETWORKS:
            raise ConfigError(f"network must be one of {', '.join(NETWORKS)}, not {network!r}")
        settings = dict(dropout=dropout, tau=tau, v_threshold=v_threshold, decay_input=decay_input)
        settings |= dict(surrogate=surrogate, alpha=alpha, **neuron)
        layout, c_in, pool, (H, W) = NETWORKS[network], channels, None, size
        self.blocks = nn.ModuleList()
        for layer in layout.layers:
            if layer in POOLS:
                pool, H, W = layer, H // 2, W // 2
                continue
            delay = AxonalDelay(c_in, max_delay_steps, version=version) if max_delay_steps else None
            if isinstance(layer, int):
                block = ConvLIF(c_in, layer, pool=pool, delay=delay, **settings)
                c_in, pool = layer, None
            else:
                width, stride = layer
                block = ResidualLIF(c_in, width, stride=stride, delay=delay, **settings)
                c_in, H, W = width, -(-H // stride), -(-W // stride)
            self.blocks.append(block)
        if min(H, W) < 1:
            raise ConfigError(
                f"network {network} pools {size[0]}x{size[1]} pixels down to nothing: choose "
                "a larger size or a network with fewer poolings"
            )
        self.pool, self.head = pool, layout.head
        features = c_in * (H * W if layout.head == "flat" else 1)
        names = ("event", "static") if two_heads else ("event",)
        self.heads = nn.ModuleDict({name: nn.Linear(features, n_classes) for name in names})
        if two_heads:
            self.coefficient = nn.Parameter(torch.ones(n_steps))

    @property
    def n_layers(self) -> int:
        """Number of layers of spiking neurons."""
        return len(self._neurons())

    @property
    def n_parameters(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

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
            gradient, or None; the state, a list with one entry per block.
        """
        x_TBCHW, after, u_TBCHW = channels_last(x_TBCHW), [], []
        for block, before in zip(self.blocks, state or [None] * len(self.blocks), strict=True):
            wanted = potentials and block is self.blocks[-1]
            x_TBCHW, state_of_block, *u_TBCHW = block.scan(x_TBCHW, before, wanted)
            after.append(state_of_block)
        u_TBF = u_TBCHW[0].permute(0, 1, 3, 4, 2).flatten(2) if potentials else None
        return self._read(x_TBCHW, head), u_TBF, after

    def activity(self, x_TBCHW: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits of every step, and the spikes of every layer of neurons (while training after
        dropout), each (T, B, C, H, W).
        """
        x_TBCHW, spikes = channels_last(x_TBCHW), []
        for block in self.blocks:
            spikes += block.activity(x_TBCHW)
            x_TBCHW = spikes[-1]
        return self._read(x_TBCHW, "event"), spikes

    def _read(self, x_TBCHW: Tensor, head: str) -> Tensor:
        x_BHWC = POOLS[self.pool](x_TBCHW.flatten(0, 1), 2).permute(0, 2, 3, 1)
        features_BF = x_BHWC.flatten(1) if self.head == "flat" else x_BHWC.mean((1, 2))
        return self.heads[head](features_BF).unflatten(0, x_TBCHW.shape[:2])

    def delay_layers(self) -> list[AxonalDelay]:
        """The delays from the input to the last block; empty without."""
        return [block.delay for block in self.blocks if block.delay is not None]

    def set_sigma(self, sigma: float) -> None:
        """Sets the width parameter SIG (steps) of all delays."""
        for layer in self.delay_layers():
            layer.sigma.fill_(sigma)

    def clamp_(self) -> None:
        """Puts positions and neuron constants back into their ranges; call it after every optimizer
        step.
        """
        for layer in (*self.delay_layers(), *self._neurons()):
            layer.clamp_()

    def _neurons(self) -> list[LIF]:
        return [m for m in self.modules() if isinstance(m, LIF)]
