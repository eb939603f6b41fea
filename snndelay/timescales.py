"""Time constants that differ between neurons: how they start, and how they lie in a network.

layer = LIF(256, tau=multi_timescale(256, 1.005, 50.0))  # drawn here
layer = LIF(256, tau=tau_start(1.005, "log-uniform", 50.0))  # drawn by the layer
found = time_constants(net)  # {"blocks.0.neuron.tau": (256,), ...} in steps
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .errors import ConfigError, nearest
from .neurons import LIF

SHAPE = 3.0  # of the gamma distribution, Perez-Nieves et al. 2021
SHORTEST = 1.005  # steps; the tau of Hammouamri et al. 2024, who mean by it no memory
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def _log_uniform(n: int, tau: float, tau_max: float) -> Tensor:
    return tau * (tau_max / tau) ** torch.rand(n)


def _gamma(n: int, tau: float, tau_max: float) -> Tensor:
    drawn = torch.distributions.Gamma(SHAPE, SHAPE / tau).sample((n,))
    return drawn.clamp_(SHORTEST, tau_max)


class Spread(NamedTuple):
    """One entry of SPREADS. ``draw(n, tau, tau_max)`` returns (n,) in steps, ``lowest`` is the
    least tau that it takes.
    """

    draw: Callable[[int, float, float], Tensor]
    lowest: float


SPREADS = {"log-uniform": Spread(_log_uniform, 1.0), "gamma": Spread(_gamma, 2.0)}


def check_spread(tau: float, tau_max: float, kind: str) -> None:
    """ConfigError, one sentence, if time constants cannot be drawn so; see ``multi_timescale``."""
    if kind not in SPREADS:
        raise ConfigError(f"unknown spread {kind!r} of tau: {nearest(kind, SPREADS)}")
    if not tau >= (lowest := SPREADS[kind].lowest):
        raise ConfigError(f"tau is {tau:g}: {kind} needs {lowest:g} steps or more")
    if not tau_max > tau:
        raise ConfigError(f"tau_max is {tau_max:g}: choose more than tau, {tau:g}")


def multi_timescale(
    n: int, tau: float, tau_max: float = math.inf, kind: str = "log-uniform"
) -> Tensor:
    """Time constants of n neurons, drawn from torch's generator: float32 (n,), in steps.

    Args:
        tau, tau_max: in steps; ``log-uniform`` lies between them, every octave as likely as any
            other; ``gamma`` has mean tau and shape 3, and what lies outside of 1.005 .. tau_max is
            put to these ends, which shifts the mean.
        kind: key of ``SPREADS``.

    Raises:
        ConfigError: an unknown kind, tau below 1 step (gamma: 2, below which a fifth and more of
            all would be put to the end), tau_max not above tau, or none for log-uniform.

    Source: gamma as Perez-Nieves et al. 2021 (doi 10.1038/s41467-021-26022-3), methods; log-uniform
    as the steps of state-space models, Gu et al. 2022 (arXiv 2206.11893).
    """
    check_spread(tau, tau_max, kind)
    if kind == "log-uniform" and math.isinf(tau_max):
        raise ConfigError("log-uniform needs a longest time constant: give tau_max")
    return SPREADS[kind].draw(n, tau, tau_max)


def tau_start(
    tau: float, kind: str = "same", tau_max: float = math.inf
) -> float | Callable[[int], Tensor]:
    """What ``LIF`` takes as ``tau`` where each layer draws its own: a function of its number of
    neurons; for ``same`` the number itself, and nothing is drawn.

    Raises:
        ConfigError: as ``multi_timescale``.
    """
    if kind == "same":
        return tau
    check_spread(tau, tau_max, kind)
    return partial(multi_timescale, tau=tau, tau_max=tau_max, kind=kind)


def time_constants(module: nn.Module, learned: bool = False) -> dict[str, Tensor]:
    """Time constants of all spiking neurons inside, by layer and name (``blocks.0.neuron.tau``): in
    steps, () or one per neuron, on the device of the layer, without gradient.

    Args:
        learned: only of layers that learn them.
    """
    found = {}
    for path, layer in module.named_modules():
        if isinstance(layer, LIF) and (layer.learns_time() or not learned):
            for name, value in layer.time_constants().items():
                found[f"{path}.{name}".lstrip(".")] = value.detach()
    return found


def quantiles(values: dict[str, Tensor]) -> dict[str, list[float]]:
    """The quantiles QUANTILES of each tensor, by the same names."""
    levels = torch.tensor(QUANTILES)
    return {
        name: torch.quantile(value.float().flatten().cpu(), levels).tolist()
        for name, value in values.items()
    }
