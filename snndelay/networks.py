"""The networks by name: delay networks for audio, spiking conv nets for vision.

To add one, write an entry of NETWORKS: its kind and what builds it. A conv net is an entry of
LAYOUTS (layouts.py); any other network is a class with the methods of `DelayNet`.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import nn

from .conv_net import ConvNet
from .delay_net import DelayNet
from .layouts import LAYOUTS
from .memory_nets import LAYERS, MemoryNet
from .recurrent_net import RecurrentNet


class Network(NamedTuple):
    """One entry of NETWORKS.

    ``kind``: ``audio``, ``vision`` or ``memory``, the data it reads. ``build``: called with
    ``n_in``, ``n_out`` and settings by name, for vision also ``size`` (H, W), ``n_steps`` and
    ``two_heads``.
    """

    kind: str
    build: Callable[..., nn.Module]
    help: str


NETWORKS = {
    "delay": Network("audio", DelayNet, "layers of delays, Hammouamri et al. 2024"),
    "recurrent": Network("audio", RecurrentNet, "delays within layers, Queant et al. 2025"),
} | {
    name: Network("vision", partial(ConvNet, name), layout.source)
    for name, layout in LAYOUTS.items()
}
NETWORKS |= {
    name: Network("memory", partial(MemoryNet, name), f"recurrent {help}")
    for name, help in LAYERS.items()
}


def networks_of(kind: str) -> list[str]:
    """Names of the networks that read data of a kind."""
    return [name for name, network in NETWORKS.items() if network.kind == kind]
