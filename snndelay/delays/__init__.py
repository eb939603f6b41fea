"""Layers of delays; base.py says what all of them do alike.

To add one, write its class and list it in KINDS, by which `snndelay.learning` finds it in any
module. What consists of such layers (SharedDelayLinear, DelayConv2d) needs no entry there.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from .axonal import AxonalDelay
from .base import DELAYS, whole
from .convolution import DelayConv2d
from .recurrent import RecurrentDelay
from .shared import SHARED, SharedDelayLinear
from .synaptic import DelayLinear

__all__ = [
    "DELAYS",
    "DELAY_KINDS",
    "KINDS",
    "AxonalDelay",
    "DelayConv2d",
    "DelayLinear",
    "RecurrentDelay",
    "SharedDelayLinear",
    "whole",
]
KINDS = (DelayLinear, AxonalDelay, RecurrentDelay)
# which synapses of a linear layer have a delay together: name -> what builds the layer
DELAY_KINDS: dict[str, Callable[..., Any]] = {"synaptic": DelayLinear}
DELAY_KINDS |= {kind: partial(SharedDelayLinear, kind=kind) for kind in SHARED}
