"""The networks by name: delay networks for audio, spiking conv nets for vision.

To add one, write an entry of NETWORKS: its kind and what builds it. A conv net is an entry of
LAYOUTS (layouts.py); any other network is a class with the methods of `DelayNet`.

Legend: T time steps, B batch, C input channels, H rows, W columns, N neurons or classes, K delay
taps, F features.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from . import learning
from .blocks import DelayLIF
from .conv import POOLS, ConvLIF, ResidualLIF, channels_last
from .delays import DELAY_KINDS, AxonalDelay, DelayConv2d, DelayLinear
from .errors import ConfigError, nearest
from .layouts import LAYOUTS
from .neurons import LIF, LeakyReadout, SpikeDropout
from .parts import drawn, plain, scanned, silence
from .pooling import CellMean
from .timescales import tau_start

PADDINGS = ("right", "causal")
READOUTS = ("leaky", "spikes")
CONV_KINDS = ("axonal", "synaptic")  # delays of channels, or of the elements of kernels


def _check_words(**words: tuple[str, Iterable[str]]) -> None:
    """ConfigError for a word that is not among those known."""
    for name, (word, known) in words.items():
        if word not in known:
            raise ConfigError(f"unknown {name} {word!r}: {nearest(word, known)}")


def _delay_layers(
    kind: str, delays: str, K: int, kernel_count: int, padding: str, version: str, backend: str
) -> Callable[..., nn.Module]:
    """What builds the delay layers of a network from their input channels and neurons."""
    if delays == "none":  # all kinds are one then, and further elements would be one sum
        kind, K, kernel_count = "synaptic", 1, 1
    how: dict[str, Any] = dict(kernel_count=kernel_count) if kind == "synaptic" else {}
    how |= dict(delays=delays, version=version, backend=backend)
    extra_steps = (K - 1) // 2 if padding == "right" else 0
    return partial(DELAY_KINDS[kind], max_delay_steps=K, extra_steps=extra_steps, **how)


class DelayNet(nn.Module):
    """The published network: hidden blocks delay -> BatchNorm -> neuron -> dropout, then delay ->
    leaky integrator.

    Args:
        n_in, n_out: input channels and classes.
        n_hidden: neurons per hidden layer; a sequence: one width per layer.
        n_layers: number of hidden layers where ``n_hidden`` is one width.
        max_delay_steps, delays, version, kernel_count: of every delay layer, see ``DelayLinear``;
            without delays one element per synapse.
        delay_kind: which synapses share a delay, a key of ``DELAY_KINDS``; all but ``synaptic``
            have one element per synapse, see ``SharedDelayLinear``.
        padding: ``right``, every layer outlasts its input by (K-1)//2 steps, as published; or
            ``causal``, same length, as streams need it.
        neuron, tau, dt_ms, options: of the hidden neurons, see ``LIF``; the readout takes ``tau``,
            and learns it, one for all, where ``neuron`` is ``plif``, as published. (Published plif
            networks learn one tau per hidden layer, these one per neuron.)
        learn_tau: whether hidden neurons of any kind learn their time constants, one per neuron.
        tau_init, tau_max: how these start, see ``tau_start``; ``same``: all at ``tau``.
        readout: ``leaky``, potentials of integrators that never fire, as published; or ``spikes``,
            of neurons as the hidden ones, for losses of counts and rates.
        dropout, dropout_mask, batchnorm: see ``DelayLIF``.
        backend: backend of all ops.

    Shapes: ``forward`` (T, B, n_in) -> (T', B, n_out), T' = T with padding ``causal`` and
    T + (layers + 1) (K-1)//2 with padding ``right``. ``.eval()`` rounds the delays on the fly.

    Raises:
        ConfigError: an unknown padding, or no hidden layer.
        ValueError: as the layers.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        n_hidden: int | Sequence[int] = 256,
        n_layers: int = 2,
        *,
        max_delay_steps: int = 25,
        delays: str = "learned",
        version: str = "gauss",
        kernel_count: int = 1,
        delay_kind: str = "synaptic",
        padding: str = "right",
        readout: str = "leaky",
        neuron: str = "lif",
        tau: float = 1.005,
        learn_tau: bool = False,
        tau_init: str = "same",
        tau_max: float = math.inf,
        dropout: float = 0.4,
        dropout_mask: str = "held",
        batchnorm: bool = True,
        dt_ms: float = 10.0,
        backend: str = "auto",
        **options,
    ):
        super().__init__()
        _check_words(
            padding=(padding, PADDINGS),
            readout=(readout, READOUTS),
            delay_kind=(delay_kind, DELAY_KINDS),
        )
        widths = [n_hidden] * n_layers if isinstance(n_hidden, int) else list(n_hidden)
        if not widths:
            raise ConfigError("a delay network needs at least one hidden layer")
        synapses = _delay_layers(
            delay_kind, delays, max_delay_steps, kernel_count, padding, version, backend
        )
        timed = dict(tau=tau_start(tau, tau_init, tau_max), learned=learn_tau or None)
        neurons = partial(LIF, neuron=neuron, dt_ms=dt_ms, backend=backend, **timed | options)
        self.blocks = nn.ModuleList(
            DelayLIF(
                synapses(c_in, c_out),
                neurons(c_out),
                dropout=dropout,
                dropout_mask=dropout_mask,
                batchnorm=batchnorm,
            )
            for c_in, c_out in itertools.pairwise([n_in, *widths])
        )
        self.delay_out = synapses(widths[-1], n_out)
        leaky = LeakyReadout(tau, learned=neuron == "plif", backend=backend)
        self.readout = leaky if readout == "leaky" else neurons(n_out)

    def forward(self, x_TBC: Tensor) -> Tensor:
        """What the readout gives, (T', B, n_out): potentials, or spikes."""
        if not self._packs(x_TBC):
            return self.activity(x_TBC)[0]
        for block in self.blocks:
            x_TBC = block.packed(x_TBC)
        return self.readout(self.delay_out(x_TBC))

    def _packs(self, x_TBC: Tensor) -> bool:
        """Whether spikes travel as bits: evaluation in the Triton kernels."""
        training = any(block.training for block in self.blocks)
        if training or torch.is_grad_enabled() or x_TBC.dtype != torch.float32:
            return False
        if not (plain(self.delay_out, DelayLinear) and all(block.packs for block in self.blocks)):
            return False
        backends = {block.neuron.backend for block in self.blocks}
        triton = backends == {"triton"} or (backends == {"auto"} and x_TBC.is_cuda)
        rounded = all(layer.rounded is not False for layer in self.delay_layers())
        return triton and rounded

    def activity(self, x_TBC: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What the readout gives, and the spikes of every hidden layer (while training after
        dropout, which silences some and scales the rest so that their mean stays what it was).
        """
        spikes = []
        for block in self.blocks:
            x_TBC = block(x_TBC)
            spikes.append(x_TBC)
        return self.readout(self.delay_out(x_TBC)), spikes

    def scan(self, x_TBC: Tensor, state: list | None = None) -> tuple[Tensor, list]:
        """One chunk of a stream: potentials (T, B, n_out) and the state for the next chunk (None:
        at rest).

        Raises:
            ValueError: the padding is ``right``, so chunks would overlap.
        """
        old = iter(state or [None] * (len(self.blocks) + 2))
        state = []
        for layer in (*self.blocks, self.delay_out, self.readout):
            x_TBC, after = scanned(layer, x_TBC, next(old))
            state.append(after)
        return x_TBC, state

    delay_layers = learning.delay_layers
    set_sigma = learning.set_sigma
    clamp_ = learning.clamp_


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
        _check_words(delay_kind=(delay_kind, CONV_KINDS))
        if network not in LAYOUTS:
            raise ConfigError(f"there is no conv net {network!r}: {nearest(network, LAYOUTS)}")
        settings = dict(dropout=dropout, v_threshold=v_threshold, decay_input=decay_input)
        settings |= dict(tau=tau_start(tau, tau_init, tau_max), learned=learn_tau or None)
        settings |= dict(surrogate=surrogate, alpha=alpha, **neuron)
        K = 0 if delays == "none" else max_delay_steps
        layout, c_in, pool, (H, W) = LAYOUTS[network], n_in, None, size
        self.blocks = nn.ModuleList()
        for layer in layout.layers:
            if layer in POOLS:
                pool, H, W = layer, H // 2, W // 2
                continue
            width, stride = (layer, 1) if isinstance(layer, int) else layer
            delay = None
            if K and delay_kind == "axonal":
                delay = AxonalDelay(c_in, K, delays=delays, version=version)
            elif K:
                how = dict(delays=delays, version=version, bias=layout.bias or layout.residual)
                delay = DelayConv2d(c_in, width, 3, K, stride=stride, **how)
            if isinstance(layer, int):
                how = settings | ({"dropout": 0.0} if layout.residual else {})
                block = ConvLIF(c_in, layer, pool=pool, bias=layout.bias, delay=delay, **how)
                c_in, pool = layer, None
            else:
                block = ResidualLIF(c_in, width, stride=stride, delay=delay, **settings)
                c_in, H, W = width, -(-H // stride), -(-W // stride)
            self.blocks.append(block)
        if min(H, W) < 1:
            text = f"network {network} pools {size[0]}x{size[1]} pixels down to nothing"
            raise ConfigError(f"{text}: choose a larger size or a network with fewer poolings")
        self.pool, self.head = pool, layout.head
        n = layout.head if isinstance(layout.head, int) else None
        self.cells = CellMean((H, W), n) if n else nn.Identity()
        self.dropout = SpikeDropout(dropout if layout.residual else 0.0)
        features = c_in * (n * n if n else H * W if layout.head == "flat" else 1)
        names = ("event", "static") if two_heads else ("event",)
        self.heads = nn.ModuleDict({name: nn.Linear(features, n_out) for name in names})
        if two_heads:
            self.coefficient = nn.Parameter(torch.ones(n_steps))
        if layout.start:
            layout.start(self)

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


class Network(NamedTuple):
    """One entry of NETWORKS.

    ``kind``: ``audio`` or ``vision``, the data it reads. ``build``: called with ``n_in``, ``n_out``
    and settings by name, for vision also ``size`` (H, W), ``n_steps`` and ``two_heads``.
    """

    kind: str
    build: Callable[..., nn.Module]
    help: str


NETWORKS = {"delay": Network("audio", DelayNet, "layers of delays, Hammouamri et al. 2024")} | {
    name: Network("vision", partial(ConvNet, name), layout.source)
    for name, layout in LAYOUTS.items()
}
