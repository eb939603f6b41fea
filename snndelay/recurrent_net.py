"""A network of recurrent layers, with delays among the neurons of a layer and none between layers.

Legend: T time steps, B batch, C input channels, N neurons or classes, K delay taps.
"""

import itertools
import math
from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from . import learning
from .blocks import normalised
from .delay_net import PADDINGS, READOUTS
from .errors import ConfigError, check_words
from .neurons import LIF, LeakyReadout, SpikeDropout
from .parts import drawn, scanned, silence
from .recurrent import RecurrentLIF
from .timescales import tau_start


class RecurrentBlock(nn.Module):
    """A hidden layer: weights -> BatchNorm over time and batch -> recurrent neurons -> dropout on
    the spikes that leave (those that the layer hears itself are never dropped).

    Args:
        n_in: input channels C.
        recurrent: its neurons, with the synapses among them.
        dropout: probability of silencing a spike train while training.
        dropout_mask: ``held`` over time or new at every ``step``.
        batchnorm: normalises the feed-forward current per neuron; without it the weights have a
            bias.

    Shapes: (T, B, C) -> (T, B, N).

    Source: Queant et al. 2025 (arXiv 2509.24852).
    """

    def __init__(
        self,
        n_in: int,
        recurrent: RecurrentLIF,
        *,
        dropout: float = 0.0,
        dropout_mask: str = "held",
        batchnorm: bool = True,
    ):
        super().__init__()
        n = len(recurrent.weight)
        self.linear = nn.Linear(n_in, n, bias=not batchnorm)
        self.norm = nn.BatchNorm1d(n) if batchnorm else nn.Identity()
        self.recurrent, self.dropout = recurrent, SpikeDropout(dropout, dropout_mask)

    def forward(self, x_TBC: Tensor) -> Tensor:
        """Spikes after dropout."""
        return self.scan(x_TBC)[0]

    def scan(self, x_TBC: Tensor, state: tuple | None = None) -> tuple[Tensor, tuple]:
        """Like ``forward``, carrying on from ``state``, the pair (state of the recurrent layer,
        seed of the dropout mask) that it returns after the spikes (None: at rest).
        """
        before, seed = state or (None, None)
        current_TBN = self.linear(x_TBC)
        current_TBN = normalised(self.norm, current_TBN.flatten(0, 1)).view_as(current_TBN)
        s_TBN, after = scanned(self.recurrent, current_TBN, before)
        dropout = drawn(self.dropout, seed, x_TBC.device)
        return silence(self.dropout, s_TBN, dropout), (after, dropout and dropout.seed)


class RecurrentNet(nn.Module):
    """Hidden layers of recurrent neurons, then weights -> leaky integrator.

    Args:
        n_in, n_out, n_hidden, n_layers: see ``DelayNet``.
        max_delay_steps, delays, version: of the delays within each hidden layer, see
            ``RecurrentDelay``; there are none between layers.
        delay_kind: ``axonal``, one delay per neuron, or ``synaptic``.
        padding: ``right``: (K-1)//2 steps of silence per hidden layer follow the input, so that
            late spikes are heard; ``causal``: same length, as streams need it.
        gain: of the recurrent weights.
        neuron, tau, learn_tau, tau_init, tau_max, dt_ms, options: of the hidden neurons, see
            ``DelayNet``; the readout takes ``tau``, and learns it, one for all, where ``neuron`` is
            ``plif``.
        readout: ``leaky``, or ``spikes``, of neurons as the hidden ones, not recurrent.
        dropout, dropout_mask, batchnorm: see ``RecurrentBlock``.
        kernel_count: 1: a recurrent synapse has one element.
        backend: backend of all ops.

    Shapes: ``forward`` (T, B, n_in) -> (T', B, n_out), T' = T with padding ``causal`` and
    T + layers (K-1)//2 with padding ``right``. ``.eval()`` rounds the delays on the fly.

    Raises:
        ConfigError: an unknown padding, readout or kind of delay, no hidden layer, or another
            ``kernel_count``.
        ValueError: as the layers.

    Source: Queant et al. 2025 (arXiv 2509.24852).
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
        version: str = "triangle",
        delay_kind: str = "axonal",
        kernel_count: int = 1,
        padding: str = "right",
        gain: float = 1.0,
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
        check_words(padding=(padding, PADDINGS), readout=(readout, READOUTS))
        if kernel_count != 1:
            raise ConfigError(
                f"kernel_count is {kernel_count}, and recurrent synapses have one element: "
                "leave it out"
            )
        widths = [n_hidden] * n_layers if isinstance(n_hidden, int) else list(n_hidden)
        if not widths:
            raise ConfigError("a recurrent network needs at least one hidden layer")
        timed = dict(tau=tau_start(tau, tau_init, tau_max), learned=learn_tau or None)
        neurons = partial(LIF, neuron=neuron, dt_ms=dt_ms, backend=backend, **timed | options)
        recurrent = dict(max_delay_steps=max_delay_steps, delays=delays, kind=delay_kind)
        recurrent |= dict(version=version, gain=gain)
        drop = dict(dropout=dropout, dropout_mask=dropout_mask, batchnorm=batchnorm)
        self.blocks = nn.ModuleList(
            RecurrentBlock(c_in, RecurrentLIF(c_out, neurons(c_out), **recurrent), **drop)
            for c_in, c_out in itertools.pairwise([n_in, *widths])
        )
        self.linear_out = nn.Linear(widths[-1], n_out)
        leaky = LeakyReadout(tau, learned=neuron == "plif", backend=backend)
        self.readout = leaky if readout == "leaky" else neurons(n_out)
        K = 1 if delays == "none" else max_delay_steps
        self.extra_steps = len(widths) * ((K - 1) // 2) if padding == "right" else 0

    def forward(self, x_TBC: Tensor) -> Tensor:
        """What the readout gives, (T', B, n_out): potentials, or spikes."""
        return self.activity(x_TBC)[0]

    def activity(self, x_TBC: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What the readout gives, and the spikes of every hidden layer (while training after
        dropout).
        """
        spikes, x_TBC = [], F.pad(x_TBC, (0, 0, 0, 0, 0, self.extra_steps))
        for block in self.blocks:
            x_TBC = block(x_TBC)
            spikes.append(x_TBC)
        return self.readout(self.linear_out(x_TBC)), spikes

    def scan(self, x_TBC: Tensor, state: list | None = None) -> tuple[Tensor, list]:
        """One chunk of a stream: what the readout gives, (T, B, n_out), and the state for the next
        chunk (None: at rest).

        Raises:
            ValueError: the padding is ``right``, so chunks would overlap.
        """
        if self.extra_steps:
            raise ValueError("a network with padding right cannot run in chunks: use causal")
        *states, v = state or [None] * (len(self.blocks) + 1)
        after = []
        for block, before in zip(self.blocks, states, strict=True):
            x_TBC, now = scanned(block, x_TBC, before)
            after.append(now)
        x_TBC, v = scanned(self.readout, self.linear_out(x_TBC), v)
        return x_TBC, [*after, v]

    delay_layers = learning.delay_layers
    set_sigma = learning.set_sigma
    clamp_ = learning.clamp_
