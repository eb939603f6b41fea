"""Layers of delays, one class per kind; base.py says what all of them do alike.

To add a kind, write its class and list it in KINDS.
"""

from .axonal import AxonalDelay
from .base import DELAYS, whole
from .synaptic import DelayLinear

__all__ = ["DELAYS", "KINDS", "AxonalDelay", "DelayLinear", "whole"]
KINDS = (DelayLinear, AxonalDelay)
