"""Constants of neurons: how a layer draws them, in which form it holds and learns them, and where
they are clamped to. Time constants are in steps.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Constant:
    """A neuron constant: how a layer draws it, the bounds it is clamped to, whether it is learned
    unless told otherwise.

    ``init(tau, dt_ms)`` returns a tensor shaped like ``tau``: (n,), or () where all neurons of a
    layer share one value; ``bounds(dt_ms)`` returns (low, high). ``form``: what a layer holds and
    learns: the ``value`` itself; its ``place`` r in [0, 1] between the bounds; or its ``log``.
    ``when_learned``: the constant in its place where a layer is told to learn it; None: itself.
    """

    init: Callable[[Tensor, float], Tensor]
    bounds: Callable[[float], tuple[float, float]]
    learned: bool
    form: Literal["value", "place", "log"] = "value"
    when_learned: "Constant | None" = None

    def held_as(self, name: str) -> str:
        """Name of what a layer holds of the constant ``name``: name, r_name or log_name."""
        return {"value": "", "place": "r_", "log": "log_"}[self.form] + name

    def held(self, value: Tensor, dt_ms: float) -> Tensor:
        """What a layer holds of a value."""
        if self.form == "log":
            return value.log()
        low, high = self.bounds(dt_ms)
        return (value - low) / (high - low) if self.form == "place" else value

    def value(self, held: Tensor, dt_ms: float) -> Tensor:
        """The constant that a layer's tensor stands for: r high + (1 - r) low, its exponential, or
        the tensor.
        """
        if self.form == "log":
            return held.exp()
        low, high = self.bounds(dt_ms)
        return held * high + (1 - held) * low if self.form == "place" else held

    def held_bounds(self, dt_ms: float) -> tuple[float, float]:
        """The bounds of what a layer holds."""
        low, high = self.bounds(dt_ms)
        ends = {"value": (low, high), "place": (0.0, 1.0)}
        return ends[self.form] if self.form in ends else (math.log(low), math.log(high))


def _unbounded(dt_ms: float) -> tuple[float, float]:
    return -math.inf, math.inf


def uniform_ms(low_ms: float, high_ms: float) -> Constant:
    """A learned time constant, drawn uniformly per neuron; bounds given in ms, values in steps. Its
    place in the range is learned, so that one learning rate moves a wide range as fast as a narrow
    one.
    """

    def bounds(dt_ms: float) -> tuple[float, float]:
        return low_ms / dt_ms, high_ms / dt_ms

    def init(tau: Tensor, dt_ms: float) -> Tensor:
        return torch.empty_like(tau).uniform_(*bounds(dt_ms))

    return Constant(init, bounds, learned=True, form="place")


def _tau(**how: Any) -> Constant:
    # tau >= 1: below, a leaky neuron would overshoot its rest and oscillate
    return Constant(lambda tau, dt_ms: tau.clone(), lambda dt_ms: (1.0, math.inf), **how)


# Its logarithm is learned. By an update of rate r Adam changes tau by the part r, be it long or
# short; tau itself would change by r steps, which is nothing for a long one. The logit of 1/tau
# (plif) does as well for long ones, but changes tau - 1 by the part r: from 1.005, the usual start,
# hundreds of updates lead nowhere.
TAU = _tau(learned=False, when_learned=_tau(learned=True, form="log"))
# w is the logit of 1/tau, so every w is a tau > 1 and no bound is needed
PLIF_W = Constant(lambda tau, dt_ms: -torch.log(tau - 1), _unbounded, learned=True)


def uniform(high: float) -> Constant:
    """A learned number in [0, high], drawn uniformly per neuron."""
    return Constant(
        lambda tau, dt_ms: high * torch.rand_like(tau), lambda dt_ms: (0.0, high), learned=True
    )
