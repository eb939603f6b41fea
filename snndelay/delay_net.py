"""The published delay network: hidden blocks of delays and spiking neurons, and a readout.

Legend: T time steps, B batch, C input channels, N neurons or classes, K delay taps.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from . import learning
from .blocks import DelayLIF
from .delays import DELAY_KINDS, DelayLinear
from .errors import ConfigError, check_words
from .neurons import LIF, LeakyReadout
from .parts import plain, scanned
from .timescales import tau_start

PADDINGS = ("right", "causal")
READOUTS = ("leaky", "spikes")


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
        check_words(
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
