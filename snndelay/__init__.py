"""Spiking neural networks whose synapses learn when as well as how much."""

from importlib.metadata import version

from .blocks import LIF, DelayLIF, DelayLinear, LeakyReadout, SpikeDropout
from .conv import AxonalDelay, ConvLIF
from .errors import BackendError, ConfigError
from .kernels import lif
from .models import DelayNet, build_model
from .networks import ConvNet
from .runs.settings import PRESETS, DataConfig, ModelConfig, TrainConfig

__version__ = version("snndelay")
__all__ = [
    "LIF",
    "PRESETS",
    "AxonalDelay",
    "BackendError",
    "ConfigError",
    "ConvLIF",
    "ConvNet",
    "DataConfig",
    "DelayLIF",
    "DelayLinear",
    "DelayNet",
    "LeakyReadout",
    "ModelConfig",
    "SpikeDropout",
    "TrainConfig",
    "build_model",
    "lif",
]
