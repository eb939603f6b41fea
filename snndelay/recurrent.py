"""A layer of spiking neurons that hear each other, at once or after learned delays.

Legend: T time steps, B batch, N neurons, K delay taps.
"""

from typing import Any

from torch import Tensor, nn

from .delays import RecurrentDelay
from .kernels import recurrent_lif
from .kernels.neurons import State
from .neurons import LIF
from .parts import plain


class RecurrentLIF(nn.Module):
    """Spiking neurons with synapses among themselves: (T, B, N) feed-forward current -> (T, B, N)
    spikes.

        s[t] = neuron(x[t] + r[t])        r[t, n] = sum_m W[n, m] (spikes of m, d + 1 steps ago)

    Args:
        n_neurons: N.
        neuron: its neurons, a ``LIF`` of any kind; None: ``LIF(n_neurons)``.
        max_delay_steps, delays, kind, version, sigma, delay_std, gain: of the recurrent synapses,
            see ``RecurrentDelay``, which is ``layer.delay``.
        backend: of the op, see ``kernels.recurrent_lif``; None: that of the neuron.

    ``layer(x)`` starts at rest; ``layer.scan(x, state)`` carries on, so a stream in chunks equals
    the whole clip. In ``.eval()`` delays are whole steps. While it trains, set the width and clamp
    as for every layer of delays (``learning.set_sigma``, ``learning.clamp_``).

    Raises:
        ConfigError, ValueError: see ``RecurrentDelay``; in a call, a neuron that is no plain
            ``LIF``, since synapses and neurons run as one op.

    Source: Queant et al. 2025 (arXiv 2509.24852).
    """

    def __init__(
        self,
        n_neurons: int,
        neuron: LIF | None = None,
        *,
        max_delay_steps: int = 25,
        delays: str = "learned",
        kind: str = "axonal",
        version: str = "triangle",
        sigma: float | None = None,
        delay_std: float | None = None,
        gain: float = 1.0,
        backend: str | None = None,
    ):
        super().__init__()
        self.delay = RecurrentDelay(
            n_neurons,
            max_delay_steps,
            delays=delays,
            kind=kind,
            version=version,
            sigma=sigma,
            delay_std=delay_std,
            gain=gain,
        )
        self.neuron = LIF(n_neurons) if neuron is None else neuron
        self.backend = backend or self.neuron.backend

    @property
    def weight(self) -> Any:
        """Weights W[n, m] from neuron m to n, (N, N)."""
        return self.delay.weight

    @property
    def position(self) -> Any:
        """Places of the delays in the window, (N,) or (N, N), see ``RecurrentDelay``."""
        return self.delay.position

    @property
    def sigma(self) -> Any:
        """Width of the taps in steps, ()."""
        return self.delay.sigma

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Spikes of neurons that start at rest, (T, B, N)."""
        return self.scan(x_TBN)[0]

    def scan(self, x_TBN: Tensor, state: State | None = None, potentials: bool = False) -> tuple:
        """Spikes and the state after the last step: that of the neurons, and their last K spikes;
        ``state`` None: at rest, silence. With ``potentials`` those too, see ``LIF.scan``.
        """
        if not plain(self.neuron, LIF):
            raise ValueError(
                "recurrent neurons run as one op with their synapses: the neuron of a RecurrentLIF "
                "must be a LIF without hooks (hooks on the RecurrentLIF itself are called)"
            )
        how = self.neuron.settings() | dict(potentials=potentials, backend=self.backend)
        return recurrent_lif(x_TBN, *self.delay(), state, **how)
