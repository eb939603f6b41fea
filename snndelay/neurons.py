"""Layers of neurons: spiking, leaky readout, and dropout on spikes.

Legend: T time steps, B batch, N neurons.
Time first, state explicit: ``layer(x_TBN)`` starts at rest and returns a tensor, so layers stand in
``nn.Sequential`` and beside SpikingJelly modules in multi-step mode; ``layer.scan(x_TBN, state)``
also takes and returns the state, so a stream can be fed in chunks.
"""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import ConfigError
from .kernels import NEURONS, NeuronOptions, lif, readout
from .kernels.constants import Constant
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
        tau: membrane time constant in steps, >= 1 (``lif``, and the start of ``plif``); a float,
            one value per neuron, or a function of N that returns these (``multi_timescale``).
        neuron: key of ``NEURONS``.
        learned: whether the constants are parameters; None: as the neuron's entry says.
        v_threshold: potential at which a neuron fires; a float, or one value per neuron.
        learned_threshold: whether it is a parameter; ``clamp_`` leaves it alone.
        dt_ms: length of a step; scales the ranges of constants that are given in milliseconds
            (``adlif``).
        backend: backend of the op, see ``kernels.lif``.
        options: fields of ``NeuronOptions`` (``reset``, ``refractory``, ``surrogate``, ...), and
            values of the neuron's other constants (``tau_syn`` of ``cuba``, which else starts as
            tau), see ``set_``.

    Constants become parameters or buffers under their own names (``layer.tau``, ``layer.a``, ...);
    the time constants of ``adlif`` as their places in [0, 1] between the ends of their ranges
    (``layer.r_tau_u``: tau = r high + (1 - r) low), those of ``lif`` and ``cuba`` where they are
    learned as logarithms (``layer.log_tau``). ``layer.constants()`` reads all, tau in steps, and
    ``layer.set_(tau_u=8.0)`` writes them. A checkpoint of steps, ``tau``, loads into ``log_tau``.

    Raises:
        ValueError: unknown neuron or option, tau < 1, or a function for tau without N.

    Source: see ``kernels.lif``.
    """

    def __init__(
        self,
        n_neurons: int | None = None,
        tau: float | Tensor | Callable[[int], Tensor] = 2.0,
        *,
        neuron: str = "lif",
        learned: bool | None = None,
        v_threshold: float | Sequence[float] | Tensor = 1.0,
        learned_threshold: bool = False,
        dt_ms: float = 10.0,
        backend: str = "auto",
        **options,
    ):
        super().__init__()
        if neuron not in NEURONS:
            raise ValueError(f"neuron must be one of {', '.join(NEURONS)}, not {neuron!r}")
        if callable(tau):
            if n_neurons is None:
                raise ValueError("a function for tau needs the number of neurons: give n_neurons")
            with torch.device("cpu"):  # equal seeds draw equal ones for every device
                drawn = tau(n_neurons)
            lowest, tau = float(drawn.min()), drawn.to(torch.get_default_device())
        else:
            with torch.device("cpu"):  # of a layer without data, too
                lowest = float(torch.as_tensor(tau).min())
        if lowest < 1 or (lowest == 1 and neuron == "plif"):
            raise ValueError(f"tau must be at least 1 step (more than 1 for plif), not {lowest}")
        self.neuron, self.backend, self.dt_ms = neuron, backend, dt_ms
        self.learned = learned
        known = self._known()
        values = {name: options.pop(name) for name in known if name in options}
        threshold = _checked(v_threshold, n_neurons)
        fixed = not learned_threshold and isinstance(v_threshold, int | float)
        shared = {"v_threshold": v_threshold} if fixed else {}
        self.options = NeuronOptions(**options, **shared)
        if self.options.reset == "hard" and bool((threshold <= self.options.v_reset).any()):
            raise ValueError(
                f"v_reset must be below v_threshold, {v_threshold}, not {self.options.v_reset}: "
                "else a neuron fires at every step"
            )
        self._kept: tuple | None = None  # what coefficients were made of, and they
        tau = torch.as_tensor(tau, dtype=torch.float32)
        if n_neurons is not None:
            tau = tau.expand(n_neurons)
        for name, constant in known.items():
            value = constant.held(constant.init(tau, dt_ms), dt_ms).contiguous()
            self._hold(
                constant.held_as(name), value, constant.learned if learned is None else learned
            )
        self.set_(**values)
        if not fixed:
            threshold = torch.empty_like(tau).copy_(threshold)  # on the device of the others
            self._hold("v_threshold", threshold, learned_threshold)

    def _known(self) -> dict[str, Constant]:
        """The neuron's constants as this layer holds them."""
        constants = NEURONS[self.neuron].constants
        if not self.learned:
            return constants
        return {name: c.when_learned or c for name, c in constants.items()}

    def _hold(self, name: str, value: Tensor, learned: bool) -> None:
        if learned:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    def constants(self) -> dict[str, Tensor]:
        """The neuron's constants by name, time constants in steps, with their gradients; and the
        threshold where it is learned or one value per neuron.
        """
        found = {
            name: constant.value(getattr(self, constant.held_as(name)), self.dt_ms)
            for name, constant in self._known().items()
        }
        threshold = getattr(self, "v_threshold", None)
        return found if threshold is None else found | {"v_threshold": threshold}

    @torch.no_grad()
    def set_(self, **values: Tensor | float) -> None:
        """Sets constants by name, time constants in steps: one value, or one per neuron.

        Raises:
            ValueError: the neuron has no such constant, or the value is out of its range.
        """
        for name, value in values.items():
            if (constant := self._known().get(name)) is None:
                raise ValueError(f"neuron {self.neuron} has no constant {name!r}")
            held = getattr(self, constant.held_as(name))
            value = torch.as_tensor(value, dtype=held.dtype, device=held.device)
            low, high = constant.bounds(self.dt_ms)
            if not bool(((value >= low) & (value <= high)).all()):
                raise ValueError(f"{name} must be in [{low:g}, {high:g}], not {value.tolist()}")
            held.copy_(constant.held(value, self.dt_ms))

    @torch.no_grad()
    def clamp_(self) -> None:
        """Puts learned constants back into their ranges; call it after every optimizer step."""
        for name, constant in self._known().items():
            if isinstance(value := getattr(self, constant.held_as(name)), nn.Parameter):
                value.clamp_(*constant.held_bounds(self.dt_ms))

    @torch.no_grad()
    def time_constants(self) -> dict[str, Tensor]:
        """Time constants in steps by name, () or (N,); that of ``plif`` is ``tau`` too."""
        return NEURONS[self.neuron].time_constants(self.constants())

    def learns_time(self) -> bool:
        """Whether its time constants are learned."""
        return any(getattr(self, c.held_as(n)).requires_grad for n, c in self._known().items())

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Spikes of neurons that start at rest, (T, B, N)."""
        return self.scan(x_TBN)[0]

    def scan(self, x_TBN: Tensor, state: State | None = None, potentials: bool = False) -> tuple:
        """Spikes and the state after the last step; ``state`` None: at rest. With ``potentials``
        also the membrane potential after the reset of every step, (T, B, N), float32 (float64 for
        float64) and with gradient.
        """
        how = self.settings() | dict(potentials=potentials)
        return lif(x_TBN, state, backend=self.backend, **how)

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
        entry = NEURONS[self.neuron]
        values = [getattr(self, c.held_as(name)) for name, c in self._known().items()]
        make = entry.coefficients
        if make is None or torch.compiler.is_compiling():
            return None
        if any(isinstance(c, nn.Parameter) or c.requires_grad or c.is_inference() for c in values):
            return None
        if capturing():
            return None  # what is kept is dropped when a constant changes, and a graph reads on
        made_of = [(c, c._version) for c in values]
        if (
            self._kept
            and self._kept[2] == self.options
            and all(
                c is old and version == before
                for (c, version), (old, before) in zip(made_of, self._kept[0], strict=True)
            )
        ):
            return self._kept[1]
        with torch.inference_mode(False), torch.no_grad():
            made = list(make(self.constants(), self.options))
        if any(type(c) is not Tensor for c in made):  # a trace's
            return None
        self._kept = made_of, made, self.options
        return made

    def _load_from_state_dict(self, state_dict, prefix, metadata, strict, missing, *others):
        """Takes the logarithm of a time constant in steps where it is held, and says what one is
        where layers hold its place now.
        """
        *_, errors = others
        for name, constant in self._known().items():
            if constant.form == "value" or (key := prefix + name) not in state_dict:
                continue
            if constant.form == "log":
                state_dict[prefix + constant.held_as(name)] = state_dict.pop(key).log()
            else:
                errors.append(
                    f"{key} is in steps, as adlif layers were saved before they held the "
                    f"place {constant.held_as(name)} in [0, 1]: train anew, or read the constants "
                    "with the version that saved them and give them to LIF.set_"
                )
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, *others)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_kept": None}

    def extra_repr(self) -> str:
        return f"{self.neuron}, {self.options}"


def _checked(v_threshold: Any, n_neurons: int | None) -> Tensor:
    """A threshold, () or one per neuron, as float32 on the CPU. ValueError for anything else."""
    try:
        with torch.device("cpu"):
            value = torch.as_tensor(v_threshold, dtype=torch.float32).cpu()
    except (TypeError, ValueError, RuntimeError):
        value = torch.tensor(math.nan)
    if value.shape not in ((), (n_neurons,)) or not bool(value.isfinite().all()):
        many = "" if n_neurons is None else f", or {n_neurons}, one for each neuron"
        raise ValueError(f"v_threshold must be a finite number{many}, not {v_threshold!r}")
    return value.detach()


class LeakyReadout(nn.Module):
    """Leaky integrator without spikes: (T, B, N) input current -> (T, B, N) potential.

    Args:
        tau: time constant in steps, >= 1 (learned: > 1).
        learned: whether tau is learned, one for all neurons, as the parameter w = -log(tau - 1), so
            that 1/tau = sigmoid(w).
        backend: backend of the op, see ``kernels.readout``.

    ``tau`` reads the time constant in steps: a float, or () with its gradient if learned.

    Raises:
        ValueError: tau < 1, or tau = 1 where it is learned.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.3; learned as in Fang et al. 2021
    (arXiv 2007.05785).
    """

    def __init__(self, tau: float = 2.0, *, learned: bool = False, backend: str = "auto"):
        super().__init__()
        tau = float(tau)
        if not tau >= 1 or (learned and tau == 1):
            more = " (more than 1 where it is learned)" if learned else ""
            raise ValueError(f"tau must be at least 1 step{more}, not {tau}")
        self.backend, self._tau = backend, tau
        self.w = nn.Parameter(torch.tensor(-math.log(tau - 1))) if learned else None

    @property
    def tau(self) -> Tensor | float:
        """Time constant in steps."""
        return self._tau if self.w is None else 1 / torch.sigmoid(self.w)

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Potential after each step, (T, B, N), from rest."""
        return self.scan(x_TBN)[0]

    def scan(self, x_TBN: Tensor, v_BN: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Potential after each step and the last one, which is the state."""
        v_TBN = readout(x_TBN, v_BN, self.tau, self.backend)
        return v_TBN, v_TBN[-1]

    def extra_repr(self) -> str:
        return f"tau={self._tau}" if self.w is None else f"tau learned from {self._tau}"


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
