"""The network that settings describe."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import nn

from ..errors import ConfigError
from ..networks import NETWORKS
from ..weights import constrain_
from .flat import components_of
from .settings import FROM_DATA, AudioSettings, MemorySettings, Settings, VisionSettings

PARTS = ("network", "delays", "neurons")  # components whose settings are arguments of a network
BESIDE = {"audio": [], "vision": ["n_steps", "transfer"], "memory": ["n_start", "n_max"]}

CONSTRAINTS = ("fan_in", "weight_bits", "weights")  # settings of no network: put on any


def network_settings(kind: str) -> list[str]:
    """Names of the settings that a network of this kind depends on, in their order."""
    parts = components_of(kind)
    names = [f.name for p in PARTS if p in parts for f in fields(parts[p])]
    return names + BESIDE[kind]


def new_network(settings: Settings, sizes: Mapping[str, Any]) -> nn.Module:
    """The network that settings describe, with weights drawn from torch's generator. The settings
    of its network, delays and neurons are its arguments, by their names.

    sizes: n_in, n_out and size (H, W), as far as data say them. Raises ConfigError if settings have
    other sizes than the data, or both lack one.
    """
    parts = [getattr(settings, p) for p in PARTS if hasattr(settings, p)]
    made: dict[str, Any] = {line.name: getattr(p, line.name) for p in parts for line in fields(p)}
    build = NETWORKS[made.pop("network")].build
    made |= {"alpha": made.pop("surrogate_alpha"), "backend": settings.machine.backend}
    if isinstance(settings, MemorySettings):
        c = settings.curriculum
        made |= {"n_start": c.n_start, "n_max": c.n_start if c.curriculum == "single" else c.n_max}
        made["learn_tau"] = settings.training.lr_tau > 0
    if isinstance(settings, AudioSettings):
        made["dt_ms"] = settings.frames.dt_ms
    elif isinstance(settings, VisionSettings):
        two_heads = settings.transfer.transfer == "align"
        made |= {"n_steps": settings.frames.n_steps, "two_heads": two_heads}
    for name, value in sizes.items():
        if made[name] not in (None, value):
            text = f"{name} is {made[name]}, but the data need {value}: leave it out"
            raise ConfigError(text)
    made |= sizes
    if missing := [name for name in FROM_DATA if name in made and made[name] is None]:
        raise ConfigError(f"the network needs {' and '.join(missing)}: give {missing[0]}=...")
    how = {name: made.pop(name) for name in CONSTRAINTS if name in made}
    net = build(**made)
    if how:
        constrain_(net, getattr(net, "blocks", net), **how)  # a network of one's own may have none
    return net
