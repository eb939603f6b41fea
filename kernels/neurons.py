"""Neurons: one time step each. A new neuron is one entry of NEURONS; scans, layers, tests and
benchmarks iterate over it.

Legend: x input current, v and u membrane potential, h potential after charging, w adaptation (in
compiled steps any second state variable), i synaptic current, s spikes; all (B, N). Constants
broadcast against (B, N): a float, a scalar tensor or one value per neuron (N,). Time constants are
in steps. c0..c3 coefficients of the compiled step; g a gradient (gh is that of h).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .constants import PLIF_W, TAU, Constant, uniform, uniform_ms
from .surrogate import SURROGATES, spike

State = tuple[Tensor, ...]
Constants = Mapping[str, Tensor | float]


@dataclass(frozen=True)
class NeuronOptions:
    """What is the same for every neuron of a layer and never learned.

    Raises:
        ValueError: an unknown reset or surrogate, or a non-positive ``alpha``.
    """

    v_threshold: float = 1.0
    """Fires at or above this potential, unless a tensor of this name comes with the constants."""
    v_reset: float = 0.0
    """Potential after a spike under ``reset="hard"``; also the resting potential then."""
    reset: Literal["hard", "soft", "none"] = "hard"
    """hard: to v_reset; soft: minus v_threshold; none: untouched."""
    decay_input: bool = False
    """Scales the input by 1/tau as well: h = v + (x - (v - v_reset))/tau."""
    detach_reset: bool = True
    """Gradients do not flow through the reset."""
    detach_state: bool = False
    """Gradients do not flow through the state of the step before."""
    refractory: int = 0
    """Steps after a spike in which the potential stays where the reset left it and nothing fires;
    other state variables go on. Their count is one more state variable; on the reference only."""
    surrogate: str | Callable[[Tensor], Tensor] = "atan"
    """A key of SURROGATES, or one's own function: the derivative of the spike at u = h -
    v_threshold, of any shape, in the shape of u. A function runs on the reference only."""
    alpha: float | None = None
    """Sharpness of a surrogate that is named; None: the usual one of its entry."""
    smooth: bool = False
    """Replaces the spike by the surrogate's primitive (for finite-difference checks only)."""

    def __post_init__(self):
        if self.reset not in ("hard", "soft", "none"):
            raise ValueError(f"reset must be hard, soft or none, not {self.reset!r}")
        if type(self.refractory) is not int or self.refractory < 0:
            raise ValueError(f"refractory must be a number of steps, not {self.refractory!r}")
        if self.refractory and self.reset == "none":
            raise ValueError("refractory steps hold a neuron at its reset: choose hard or soft")
        if callable(self.surrogate):
            if self.smooth or self.alpha is not None:
                raise ValueError("a surrogate of one's own has neither a sharpness nor a primitive")
            return
        if self.surrogate not in SURROGATES:
            raise ValueError(
                f"surrogate must be one of {', '.join(SURROGATES)}, or a function of the potential "
                f"minus the threshold, not {self.surrogate!r}"
            )
        alpha = SURROGATES[self.surrogate].alpha if self.alpha is None else self.alpha
        if not alpha > 0:
            raise ValueError(f"the surrogate's alpha must be positive, not {alpha}")
        object.__setattr__(self, "alpha", alpha)


def _named_tau(constants: Constants) -> dict[str, Tensor]:
    return {name: torch.as_tensor(c) for name, c in constants.items() if name.startswith("tau")}


@dataclass(frozen=True)
class Neuron:
    """One entry of NEURONS: ``step(x, state, constants, options) -> (s, state)`` and its needs.

    Among the constants of a step may be ``v_threshold``, and ``refractory``, a mask of neurons that
    are: their spikes and potentials are put right after the step.

    The other fields describe the same step to the compiled kernels, in the one source for Triton
    and numba (portable.py); without them the neuron runs on the reference only. A kernel charges,
    fires, resets and settles; firing and reset are common to all neurons.

    - ``coefficients(constants, options)``: at most four float32 tensors c0..c3, each () or (N,),
      differentiable in the constants; missing ones are 0 in the functions below.
    - ``charge(x, v, w, c0, c1, c2, c3, rest) -> h``: potential before firing; w is the second state
      variable (0 if the neuron has one), rest the resting potential.
    - ``charge_adjoint(gh, x, v, w, c0, c1, c2, c3, rest) -> (gx, gv, gw, g0, g1, g2, g3)``
    - ``settle(x, v, s, w, c0, c1, c2, c3) -> w``: the second state variable from the input, the
      potential after the reset and the spike 0/1; None for neurons of one variable.
    - ``settle_adjoint(gw, x, v, s, w, c0, c1, c2, c3) -> (gx, gv, gs, gw, g0, g1, g2, g3)``

    ``time_constants(constants)``: those in steps that the constants come to, by name.
    """

    step: Callable[[Tensor, State, Constants, NeuronOptions], tuple[Tensor, State]]
    states: tuple[str, ...]
    constants: dict[str, Constant]
    coefficients: Callable[[Constants, NeuronOptions], tuple[Tensor, ...]] | None = None
    charge: Callable | None = None
    charge_adjoint: Callable | None = None
    settle: Callable | None = None
    settle_adjoint: Callable | None = None
    time_constants: Callable[[Constants], dict[str, Tensor]] = _named_tau


def states_of(neuron: str, options: NeuronOptions) -> tuple[str, ...]:
    """Names of the state variables, the potential first; the last may be ``refractory``, the steps
    for which a neuron still is.
    """
    return NEURONS[neuron].states + (("refractory",) if options.refractory else ())


def hold(
    s: Tensor, v: Tensor, before: Tensor, refractory: Tensor | float | None
) -> tuple[Tensor, Tensor]:
    """Spikes and potentials, those of refractory neurons put back to none and to ``before``."""
    if refractory is None:
        return s, v
    mask = torch.as_tensor(refractory, device=v.device)
    return torch.where(mask, 0.0, s), torch.where(mask, before, v)


def potential_at_rest(options: NeuronOptions) -> float:
    """Where a potential without input stays: ``v_reset`` under the hard reset, else 0."""
    return options.v_reset if options.reset == "hard" else 0.0


# -- steps ---


def _fire(h: Tensor, c: Constants, o: NeuronOptions) -> tuple[Tensor, Tensor]:
    """Spikes and the potential after the reset."""
    threshold = c.get("v_threshold", o.v_threshold)
    s = spike(h - threshold, o.surrogate, o.alpha or 1.0, o.smooth)
    r = s.detach() if o.detach_reset else s
    if o.reset == "hard":
        return s, h * (1 - r) + o.v_reset * r
    return s, h - threshold * r if o.reset == "soft" else h


def _integrate(x: Tensor, v: Tensor, leak: Tensor | float, o: NeuronOptions) -> Tensor:
    """Potential before firing. ``leak`` is 1/tau. The potential rests at v_reset (0 unless the
    reset is hard).
    """
    rest = potential_at_rest(o)
    # written so that rest 0 rounds as SpikingJelly's LIFNode does: spikes are compared bit by bit
    if o.decay_input:
        return v + (x - (v - rest)) * leak
    return v - (v - rest) * leak + x if rest else v * (1 - leak) + x


def _lif_step(x: Tensor, state: State, c: Constants, o: NeuronOptions) -> tuple[Tensor, State]:
    s, v = _fire(_integrate(x, state[0], 1 / c["tau"], o), c, o)
    return s, (v,)


def _if_step(x: Tensor, state: State, c: Constants, o: NeuronOptions) -> tuple[Tensor, State]:
    s, v = _fire(state[0] + x, c, o)
    return s, (v,)


def _plif_step(x: Tensor, state: State, c: Constants, o: NeuronOptions) -> tuple[Tensor, State]:
    s, v = _fire(_integrate(x, state[0], torch.sigmoid(torch.as_tensor(c["w"])), o), c, o)
    return s, (v,)


ADLIF_Q = 120.0  # scale of the adaptation, Baronig et al. 2024


def _adlif_step(x: Tensor, state: State, c: Constants, o: NeuronOptions) -> tuple[Tensor, State]:
    u, w = state
    alpha = torch.exp(-1 / torch.as_tensor(c["tau_u"]))
    beta = torch.exp(-1 / torch.as_tensor(c["tau_w"]))
    s, after = _fire(alpha * u + (1 - alpha) * (x - w), c, o)
    s, u = hold(s, after, u, c.get("refractory"))
    # symplectic Euler: the adaptation sees the new potential and the new spike
    w = beta * w + (1 - beta) * ADLIF_Q * (c["a"] * u + c["b"] * s)
    return s, (u, w)


def _cuba_step(x: Tensor, state: State, c: Constants, o: NeuronOptions) -> tuple[Tensor, State]:
    v, i = state
    i = i * (1 - 1 / c["tau_syn"]) + x
    s, v = _fire(_integrate(i, v, 1 / c["tau"], o), c, o)
    return s, (v, i)


# -- the same steps for the compiled kernels ---


# Coefficients are computed by torch, once per call and not once per step: autograd then carries
# their gradients on to the constants, and a kernel needs neither a division nor an exponential.


def _float(c: Tensor | float) -> Tensor:
    return torch.as_tensor(c, dtype=torch.float32)


def _leaky_coefficients(leak: Tensor, o: NeuronOptions) -> tuple[Tensor, Tensor]:
    """What is kept of the potential, and the gain of the input."""
    return 1 - leak, leak if o.decay_input else torch.ones_like(leak)


def _lif_coefficients(c: Constants, o: NeuronOptions) -> tuple[Tensor, Tensor]:
    return _leaky_coefficients(1 / _float(c["tau"]), o)


def _plif_coefficients(c: Constants, o: NeuronOptions) -> tuple[Tensor, Tensor]:
    return _leaky_coefficients(torch.sigmoid(_float(c["w"])), o)


def _leaky_charge(x, v, w, c0, c1, c2, c3, rest):
    # decay and gain are both coefficients, so one source serves every way to charge
    return c0 * (v - rest) + rest + c1 * x


def _leaky_charge_adjoint(gh, x, v, w, c0, c1, c2, c3, rest):
    return c1 * gh, c0 * gh, 0.0, gh * (v - rest), gh * x, 0.0, 0.0


def _if_charge(x, v, w, c0, c1, c2, c3, rest):
    return v + x


def _if_charge_adjoint(gh, x, v, w, c0, c1, c2, c3, rest):
    return gh, gh, 0.0, 0.0, 0.0, 0.0, 0.0


def _adlif_coefficients(c: Constants, o: NeuronOptions) -> tuple[Tensor, ...]:
    """alpha, beta, q a, q b."""
    # 1 - alpha and 1 - beta are formed in the kernel: four coefficients fit, six would not
    alpha, beta = (torch.exp(-1 / _float(c[tau])) for tau in ("tau_u", "tau_w"))
    return alpha, beta, ADLIF_Q * _float(c["a"]), ADLIF_Q * _float(c["b"])


def _adlif_charge(x, v, w, c0, c1, c2, c3, rest):
    return c0 * v + (1.0 - c0) * (x - w)


def _adlif_charge_adjoint(gh, x, v, w, c0, c1, c2, c3, rest):
    gx = (1.0 - c0) * gh
    return gx, c0 * gh, -gx, gh * (v - (x - w)), 0.0, 0.0, 0.0


def _adlif_settle(x, v, s, w, c0, c1, c2, c3):
    return c1 * w + (1.0 - c1) * (c2 * v + c3 * s)


def _adlif_settle_adjoint(gw, x, v, s, w, c0, c1, c2, c3):
    g = (1.0 - c1) * gw
    # through the new potential and the new spike too: the step is symplectic
    return 0.0, g * c2, g * c3, c1 * gw, 0.0, gw * (w - (c2 * v + c3 * s)), g * v, g * s


def _cuba_coefficients(c: Constants, o: NeuronOptions) -> tuple[Tensor, ...]:
    """What is kept of the potential, the gain of the current, and what is kept of the current."""
    return *_lif_coefficients(c, o), 1 - 1 / _float(c["tau_syn"])


def _cuba_charge(x, v, w, c0, c1, c2, c3, rest):
    return c0 * (v - rest) + rest + c1 * (c2 * w + x)


def _cuba_charge_adjoint(gh, x, v, w, c0, c1, c2, c3, rest):
    gi = c1 * gh
    return gi, c0 * gh, c2 * gi, gh * (v - rest), gh * (c2 * w + x), gi * w, 0.0


def _cuba_settle(x, v, s, w, c0, c1, c2, c3):
    return c2 * w + x


def _cuba_settle_adjoint(gw, x, v, s, w, c0, c1, c2, c3):
    return gw, 0.0, 0.0, c2 * gw, 0.0, 0.0, gw * w, 0.0


_LEAKY: dict[str, Any] = dict(charge=_leaky_charge, charge_adjoint=_leaky_charge_adjoint)

NEURONS = {
    "lif": Neuron(_lif_step, ("v",), {"tau": TAU}, _lif_coefficients, **_LEAKY),
    "if": Neuron(_if_step, ("v",), {}, lambda c, o: (), _if_charge, _if_charge_adjoint),
    "plif": Neuron(
        _plif_step,
        ("v",),
        {"w": PLIF_W},
        _plif_coefficients,
        time_constants=lambda c: {"tau": 1 / torch.sigmoid(torch.as_tensor(c["w"]))},
        **_LEAKY,
    ),
    "adlif": Neuron(  # ranges of Baronig et al. 2024: [5, 25] and [60, 300] steps of 4 ms
        _adlif_step,
        ("u", "w"),
        {
            "tau_u": uniform_ms(20, 100),
            "tau_w": uniform_ms(240, 1200),
            "a": uniform(1.0),
            "b": uniform(2.0),
        },
        _adlif_coefficients,
        _adlif_charge,
        _adlif_charge_adjoint,
        _adlif_settle,
        _adlif_settle_adjoint,
    ),
    "cuba": Neuron(  # a synaptic current that decays too; its time constant starts as that of v
        _cuba_step,
        ("v", "i"),
        {"tau": TAU, "tau_syn": TAU},
        _cuba_coefficients,
        _cuba_charge,
        _cuba_charge_adjoint,
        _cuba_settle,
        _cuba_settle_adjoint,
    ),
}
