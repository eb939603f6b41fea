"""The network that settings describe."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import nn

from ..errors import ConfigError
from ..networks import NETWORKS
from .settings import FROM_DATA, AudioSettings, Settings, components_of


def network_settings(kind: str) -> list[str]:
    """Names of the settings that a network of this kind depends on, in their order."""
    parts = components_of(kind)
    names = [f.name for p in ("network", "delays", "neurons") for f in fields(parts[p])]
    return names + (["n_steps", "transfer"] if kind == "vision" else [])


def new_network(settings: Settings, sizes: Mapping[str, Any]) -> nn.Module:
    """The network that settings describe, with weights drawn from torch's generator.

    sizes: n_in, n_out and size (H, W), as far as data say them. Raises ConfigError if settings have
    other sizes than the data, or both lack one.
    """
    d, n, net = settings.delays, settings.neurons, settings.network
    made: dict[str, Any] = dict(
        n_out=net.n_out, dropout=net.dropout, backend=settings.machine.backend,
        max_delay_steps=d.max_delay_steps, delays=d.delays, version=d.version, neuron=n.neuron,
        tau=n.tau, v_threshold=n.v_threshold, reset=n.reset, decay_input=n.decay_input,
        detach_reset=n.detach_reset, surrogate=n.surrogate, alpha=n.surrogate_alpha,
    )  # fmt: skip
    if isinstance(settings, AudioSettings):
        net = settings.network
        made |= dict(
            n_in=net.n_in, n_hidden=net.n_hidden, n_layers=net.n_layers,
            kernel_count=net.kernel_count, padding=net.padding, dropout_mask=net.dropout_mask,
            batchnorm=net.batchnorm, dt_ms=settings.frames.dt_ms,
        )  # fmt: skip
    else:
        two_heads = settings.transfer.transfer == "align"
        made |= dict(
            size=settings.network.size, n_steps=settings.frames.n_steps, two_heads=two_heads
        )
    for name, value in sizes.items():
        if made[name] not in (None, value):
            text = f"{name} is {made[name]}, but the data need {value}: leave it out"
            raise ConfigError(text)
    made |= sizes
    if missing := [name for name in FROM_DATA if name in made and made[name] is None]:
        raise ConfigError(f"the network needs {' and '.join(missing)}: give {missing[0]}=...")
    return NETWORKS[net.network].build(**made)
