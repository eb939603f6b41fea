"""Networks for memory tasks: one recurrent layer, and a linear readout for every N at the end.

Legend: T time steps, B batch, C input channels, N neurons, H heads asked for, M outputs of a head.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from . import learning
from .errors import ConfigError, nearest
from .kernels import NEURONS
from .neurons import LIF, LeakyReadout
from .rate import LeakyRate

LAYERS = {  # name -> its neurons in words
    "rate": "leaky rate neurons, Khajehabdollahi et al. 2024",
    "spiking": "leaky integrate-and-fire neurons",
}


class SpikingRecurrent(nn.Module):
    """Leaky integrate-and-fire neurons that hear each other's spikes one step later, in plain
    PyTorch: (T, B, C) -> spikes (T, B, N).

    Args:
        n_in, n_neurons: C and N.
        tau: largest membrane time constant at the start, in steps, >= 1; each is drawn uniformly
            from 1 to it.
        learned: whether the time constants are parameters.
        neuron: options of the neurons, see ``LIF``.

    Raises:
        ValueError: as ``LIF``.
    """

    def __init__(self, n_in: int, n_neurons: int, tau: float = 2.0, *, learned=True, **neuron):
        super().__init__()
        bound = 1 / math.sqrt(n_neurons)
        self.input = nn.Linear(n_in, n_neurons)
        self.weight = nn.Parameter(torch.empty(n_neurons, n_neurons).uniform_(-bound, bound))
        drawn = 1 + (tau - 1) * torch.rand(n_neurons)
        self.neuron = LIF(n_neurons, drawn, learned=learned, backend="reference", **neuron)

    @property
    def tau(self) -> Tensor:
        """Membrane time constants in steps, (N,)."""
        return self.neuron.constants()["tau"]

    def forward(self, x_TBC: Tensor) -> Tensor:
        """Spikes of every step, (T, B, N), from rest."""
        return self.scan(x_TBC)[0]

    def scan(self, x_TBC: Tensor, state: tuple | None = None) -> tuple[Tensor, tuple]:
        """Spikes of every step, and the state: last spikes and potentials, (B, N) each."""
        step, constants = NEURONS[self.neuron.neuron].step, self.neuron.constants()
        current_TBN, spikes = self.input(x_TBC), []
        zero_BN = torch.zeros_like(current_TBN[0])
        s_BN, *v = state or (zero_BN, zero_BN)
        for current_BN in current_TBN:
            x_BN = torch.addmm(current_BN, s_BN, self.weight.T)
            s_BN, v = step(x_BN, tuple(v), constants, self.neuron.options)
            spikes.append(s_BN)
        return torch.stack(spikes), (s_BN, *v)


class MemoryNet(nn.Module):
    """A recurrent layer and a linear head for every N of a memory task, read at the last step.

    Args:
        layer: ``rate``, see ``LeakyRate``; or ``spiking``, see ``SpikingRecurrent``, whose heads
            read the potentials of leaky integrators.
        n_in, n_out: input channels C and outputs M of a head.
        n_hidden: neurons N.
        n_start, n_max: there is a head for each N from ``n_start`` to ``n_max``.
        tau, learn_tau: of the layer.
        tau_out: time constant of the integrators in steps (``spiking``).
        neuron: options of the spiking neurons, see ``LIF``.

    The buffer ``progress``, (2,) int64, is how far a curriculum has come: the N that is learned
    now, and the largest one solved (0: none).

    Shapes: ``forward`` (T, B, C) -> (H, B, M).

    Raises:
        ConfigError: an unknown layer, or no head.
        ValueError: as the layers.

    Source: Khajehabdollahi et al. 2024 (arXiv 2309.12927), section 2.
    """

    def __init__(
        self,
        layer: str,
        n_in: int = 1,
        n_out: int = 2,
        n_hidden: int = 128,
        *,
        n_start: int = 2,
        n_max: int = 2,
        tau: float = 2.0,
        learn_tau: bool = True,
        tau_out: float = 2.0,
        **neuron: Any,
    ):
        super().__init__()
        if layer not in LAYERS:
            raise ConfigError(f"there is no memory layer {layer!r}: {nearest(layer, LAYERS)}")
        if n_max < n_start:
            raise ConfigError(f"n_max is {n_max}: choose n_start, {n_start}, or more")
        self.spiking = spiking = layer == "spiking"
        if spiking:
            self.layer = SpikingRecurrent(n_in, n_hidden, tau, learned=learn_tau, **neuron)
        else:
            self.layer = LeakyRate(n_in, n_hidden, tau, learned=learn_tau)
        self.readout = LeakyReadout(tau_out, backend="reference") if spiking else nn.Identity()
        names = map(str, range(n_start, n_max + 1))
        self.heads = nn.ModuleDict({name: nn.Linear(n_hidden, n_out) for name in names})
        self.register_buffer("progress", torch.tensor([n_start, 0]))

    @property
    def current(self) -> int:
        """The N that is learned now."""
        return int(self.progress[0])

    @property
    def solved(self) -> int:
        """The largest N solved; 0: none."""
        return int(self.progress[1])

    @property
    def done(self) -> bool:
        """Whether the largest N that has a head is solved."""
        return str(self.solved + 1) not in self.heads and self.solved > 0

    @torch.no_grad()
    def advance_(self, inherit: bool = False) -> None:
        """Notes that the current N is solved and goes on to the next that has a head. inherit: its
        head starts as the last one; else as it was drawn."""
        self.progress[1] = n = self.current
        if self.done:
            return
        self.progress[0] = n + 1
        if inherit:
            self.heads[str(n + 1)].load_state_dict(self.heads[str(n)].state_dict())

    @property
    def tau(self) -> Tensor:
        """Time constants of the neurons in steps, (N,)."""
        return self.layer.tau

    def forward(self, x_TBC: Tensor, ns: Sequence[int] | None = None) -> Tensor:
        """Logits of the heads ``ns`` after the last step, (H, B, M); None: of the current N."""
        return self.scan(x_TBC, None, ns)[0]

    def scan(
        self, x_TBC: Tensor, state: list | None = None, ns: Sequence[int] | None = None
    ) -> tuple[Tensor, list]:
        """One chunk of a stream: logits after its last step, (H, B, M), and the state (None: at
        rest)."""
        logits_HBM, _, state = self._run(x_TBC, state, ns)
        return logits_HBM, state

    def activity(
        self, x_TBC: Tensor, ns: Sequence[int] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits (H, B, M) after the last step, and rates or spikes of every step, [(T, B, N)]."""
        logits_HBM, r_TBN, _ = self._run(x_TBC, None, ns)
        return logits_HBM, [r_TBN]

    def _run(
        self, x_TBC: Tensor, state: list | None, ns: Sequence[int] | None
    ) -> tuple[Tensor, Tensor, list]:
        before, v_BN = state or [None, None]
        r_TBN, after = self.layer.scan(x_TBC, before)
        if isinstance(
            self.readout, LeakyReadout
        ):  # linear, so that one integrator serves all heads
            v_TBN, v_BN = self.readout.scan(r_TBN, v_BN)
            last_BN = v_TBN[-1]
        else:
            last_BN = r_TBN[-1]
        heads = [self.heads[str(n)] for n in ([self.current] if ns is None else ns)]
        return torch.stack([head(last_BN) for head in heads]), r_TBN, [after, v_BN]

    delay_layers = learning.delay_layers
    set_sigma = learning.set_sigma
    clamp_ = learning.clamp_
