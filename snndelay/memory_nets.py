"""Networks for memory tasks: one recurrent layer, and a linear readout for every N at the end.

Legend: T time steps, B batch, C input channels, N neurons, H heads asked for, M outputs of a head.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from . import learning
from .errors import ConfigError, nearest
from .neurons import LIF, LeakyReadout
from .rate import LeakyRate
from .recurrent import RecurrentLIF

LAYERS = {  # name -> its neurons in words
    "rate": "leaky rate neurons, Khajehabdollahi et al. 2024",
    "spiking": "leaky integrate-and-fire neurons, with or without delays",
}
GAIN = 3**-0.5  # of recurrent weights: as large as uniform ones within 1 / sqrt(N)


class MemoryNet(nn.Module):
    """A recurrent layer and a linear head for every N of a memory task, read at the last step.

    Args:
        layer: ``rate``, see ``LeakyRate``; or ``spiking``, a linear layer and a ``RecurrentLIF``,
            whose heads read the potentials of leaky integrators.
        n_in, n_out: input channels C and outputs M of a head.
        n_hidden: neurons N.
        n_start, n_max: there is a head for each N from ``n_start`` to ``n_max``.
        tau: largest time constant at the start, in steps, >= 1; each neuron's is drawn uniformly
            from 1 to it.
        learn_tau: whether the time constants are parameters.
        delays, delay_kind, max_delay_steps, version: of the synapses among spiking neurons, see
            ``RecurrentDelay``; those of rate neurons have none.
        tau_out: time constant of the integrators in steps (``spiking``).
        backend: of the ops (``spiking``).
        neuron: options of the spiking neurons, see ``LIF``.

    The buffer ``progress``, (2,) int64, is how far a curriculum has come: the N that is learned
    now, and the largest one solved (0: none).

    Shapes: ``forward`` (T, B, C) -> (H, B, M).

    Raises:
        ConfigError: an unknown layer, no head, or rate neurons with delays.
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
        delays: str = "none",
        delay_kind: str = "axonal",
        max_delay_steps: int = 25,
        version: str = "triangle",
        tau_out: float = 2.0,
        backend: str = "auto",
        **neuron: Any,
    ):
        super().__init__()
        if layer not in LAYERS:
            raise ConfigError(f"there is no memory layer {layer!r}: {nearest(layer, LAYERS)}")
        if n_max < n_start:
            raise ConfigError(f"n_max is {n_max}: choose n_start, {n_start}, or more")
        self.spiking = layer == "spiking"
        self.input, self.readout = nn.Identity(), nn.Identity()
        if self.spiking:
            self.input, drawn = nn.Linear(n_in, n_hidden), 1 + (tau - 1) * torch.rand(n_hidden)
            self.layer = RecurrentLIF(
                n_hidden,
                LIF(n_hidden, drawn, learned=learn_tau, backend=backend, **neuron),
                max_delay_steps=max_delay_steps,
                delays=delays,
                kind=delay_kind,
                version=version,
                gain=GAIN,
            )
            self.readout = LeakyReadout(tau_out, backend=backend)
        elif delays == "none":
            self.layer = LeakyRate(n_in, n_hidden, tau, learned=learn_tau)
        else:
            raise ConfigError(f"delays are {delays}, and rate neurons have none: take spiking")
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
        layer: Any = self.layer
        return layer.neuron.constants()["tau"] if self.spiking else layer.tau

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
        r_TBN, after = self.layer.scan(self.input(x_TBC), before)
        last_BN = r_TBN[-1]
        if self.spiking:  # the readout is linear, so that one integrator serves all heads
            _, v_BN = self.readout.scan(r_TBN, v_BN)
            last_BN = v_BN
        heads = [self.heads[str(n)] for n in ([self.current] if ns is None else ns)]
        return torch.stack([head(last_BN) for head in heads]), r_TBN, [after, v_BN]

    delay_layers = learning.delay_layers
    set_sigma = learning.set_sigma
    clamp_ = learning.clamp_
