"""Layers of neurons: spiking, leaky readout, and dropout on spikes.

Legend: T time steps, B batch, N neurons.
Time first, state explicit: ``layer(x_TBN)`` starts at rest and returns a tensor, so layers stand in
``nn.Sequential`` and beside SpikingJelly modules in multi-step mode; ``layer.scan(x_TBN, state)``
also takes and returns the state, so a stream can be fed in chunks.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import ConfigError
from .kernels import NEURONS, NeuronOptions, lif, readout
from .kernels.dropout import Dropout
from .kernels.neurons import State
from .recorded import capturing


class _Wanted(threading.local):
    detached = False


_wanted = _Wanted()


@contextmanager
def wanting_detached(detached: bool) -> Iterator[None]:
    """Within, layers whose states carry gradients raise, if ``detached``."""
    before, _wanted.detached = _wanted.detached, detached
    try:
        yield
    finally:
        _wanted.detached = before


class LIF(nn.Module):
    """A layer of spiking neurons, any entry of ``NEURONS``: (T, B, N) input current -> (T, B, N)
    spikes.

    Args:
        n_neurons: neurons N; None: one value of each constant for the whole layer.
        tau: membrane time constant in steps, > 1 (``lif``, and the start of ``plif``); a float or
            one value per neuron.
        neuron: key of ``NEURONS``.
        learned: whether the constants are parameters; None: as the neuron's entry says.
        dt_ms: length of a step; scales the ranges of constants that are given in milliseconds
            (``adlif``).
        backend: backend of the op, see ``kernels.lif``.
        options: fields of ``NeuronOptions`` (``v_threshold``, ``reset``, ``surrogate``, ...).

    Constants become parameters or buffers under their own names (``layer.tau``, ``layer.tau_u``,
    ...).

    Raises:
        ValueError: unknown neuron or option, or tau < 1.

    Source: see ``kernels.lif``.
    """

    def __init__(
        self,
        n_neurons: int | None = None,
        tau: float | Tensor = 2.0,
        *,
        neuron: str = "lif",
        learned: bool | None = None,
        dt_ms: float = 10.0,
        backend: str = "auto",
        **options,
    ):
        super().__init__()
        if neuron not in NEURONS:
            raise ValueError(f"neuron must be one of {', '.join(NEURONS)}, not {neuron!r}")
        with torch.device("cpu"):  # of a layer without data, too
            lowest = float(torch.as_tensor(tau).min())
        if lowest < 1 or (lowest == 1 and neuron == "plif"):
            raise ValueError(f"tau must be at least 1 step (more than 1 for plif), not {lowest}")
        self.neuron, self.backend, self.dt_ms = neuron, backend, dt_ms
        self.options = NeuronOptions(**options)
        self._kept: tuple | None = None  # what coefficients were made of, and they
        tau = torch.as_tensor(tau, dtype=torch.float32)
        if n_neurons is not None:
            tau = tau.expand(n_neurons)
        for name, constant in NEURONS[neuron].constants.items():
            value = constant.init(tau, dt_ms).contiguous()
            if constant.learned if learned is None else learned:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    def constants(self) -> dict[str, Tensor]:
        """The neuron's constants by name."""
        return {name: getattr(self, name) for name in NEURONS[self.neuron].constants}

    @torch.no_grad()
    def clamp_(self) -> None:
        """Puts learned constants back into their ranges; call it after every optimizer step."""
        for name, constant in NEURONS[self.neuron].constants.items():
            if isinstance(value := getattr(self, name), nn.Parameter):
                value.clamp_(*constant.bounds(self.dt_ms))

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Spikes of neurons that start at rest, (T, B, N)."""
        return self.scan(x_TBN)[0]

    def scan(self, x_TBN: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Spikes and the state after the last step; ``state`` None: at rest."""
        return lif(x_TBN, state, backend=self.backend, **self.settings())

    def settings(self) -> dict:
        """What ``lif`` and ``delay_lif`` need to know of the neuron."""
        if not (torch.compiler.is_compiling() or self.options.detach_state) and _wanted.detached:
            raise ConfigError(
                "the temporal gradient detach_state is asked for, but a layer of neurons passes "
                'gradients through its state: call set_temporal_gradient(net, "detach_state") first'
            )
        known = dict(neuron=self.neuron, options=self.options, coefficients=self._coefficients())
        return known | self.constants()

    def _coefficients(self) -> list[Tensor] | None:
        """What the compiled scans make of constants that are not learned, computed again only when
        one has changed; None: it is for each call to do.
        """
        values, make = list(self.constants().values()), NEURONS[self.neuron].coefficients
        if make is None or torch.compiler.is_compiling():
            return None
        if any(isinstance(c, nn.Parameter) or c.requires_grad or c.is_inference() for c in values):
            return None
        if capturing():
            return None  # what is kept is dropped when a constant changes, and a graph reads on
        made_of = [(c, c._version) for c in values]
        if self._kept and all(
            c is old and version == before
            for (c, version), (old, before) in zip(made_of, self._kept[0], strict=True)
        ):
            return self._kept[1]
        with torch.inference_mode(False), torch.no_grad():
            made = list(make(self.constants(), self.options))
        if any(type(c) is not Tensor for c in made):  # a trace's
            return None
        self._kept = made_of, made
        return made

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_kept": None}

    def extra_repr(self) -> str:
        return f"{self.neuron}, {self.options}"


class LeakyReadout(nn.Module):
    """Leaky integrator without spikes: (T, B, N) input current -> (T, B, N) potential.

    Args:
        tau: time constant in steps, >= 1.
        backend: backend of the op, see ``kernels.readout``.

    Raises:
        ValueError: tau < 1.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.3.
    """

    def __init__(self, tau: float = 2.0, *, backend: str = "auto"):
        super().__init__()
        if tau < 1:
            raise ValueError(f"tau must be at least 1 step, not {tau}")
        self.tau, self.backend = float(tau), backend

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Potential after each step, (T, B, N), from rest."""
        return self.scan(x_TBN)[0]

    def scan(self, x_TBN: Tensor, v_BN: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Potential after each step and the last one, which is the state."""
        v_TBN = readout(x_TBN, v_BN, self.tau, self.backend)
        return v_TBN, v_TBN[-1]

    def extra_repr(self) -> str:
        return f"tau={self.tau}"


class SpikeDropout(nn.Module):
    """Dropout on spikes, (T, B, N) -> (T, B, N).

    Args:
        p: probability of silencing.
        mask: ``held``: one mask per sample for all steps (published); ``step``: a new one at every
            step.
    """

    def __init__(self, p: float, mask: str = "held"):
        super().__init__()
        if not 0 <= p < 1 or mask not in ("held", "step"):
            raise ValueError(
                f"dropout must be in [0, 1) and its mask held or step, not {p} and {mask!r}"
            )
        self.p, self.mask = p, mask

    def forward(self, s_TBN: Tensor) -> Tensor:
        """Silences a random part of the neurons and scales the rest by 1/(1-p); nothing outside
        training.
        """
        if not self.training or self.p == 0:
            return s_TBN
        if self.mask == "step":
            return F.dropout(s_TBN, self.p)
        return s_TBN * F.dropout(torch.ones_like(s_TBN[0]), self.p)

    def draw(self, device: torch.device) -> Dropout | None:
        """What makes ``lif`` do the same to its spikes, with a new seed; None outside training."""
        if not self.training or self.p == 0:
            return None
        return Dropout(self.p, self.mask, torch.randint(2**62, (), device=device))

    def draw_after(self, seed: Tensor | None, device: torch.device) -> Dropout | None:
        """``draw`` for a chunk of a stream; a held mask stays that of the chunk before, which came
        from ``seed``.
        """
        drawn = self.draw(device)
        keeps = drawn is not None and seed is not None and self.mask == "held"
        return replace(drawn, seed=seed) if keeps else drawn

    def extra_repr(self) -> str:
        return f"{self.p}, mask={self.mask}"
