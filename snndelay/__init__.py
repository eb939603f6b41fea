"""Spiking neural networks whose synapses learn when as well as how much.

Layers, ops and what they need while they train are here at once; `fit`, `evaluate`, `load`,
`predict`, `build_model` and `PRESETS`, which belong to the application, load it on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import starting as starting  # isort: skip  # first: it answers Ctrl-C meanwhile
from .blocks import DelayLIF
from .conv import ConvLIF, ResidualLIF
from .conv_net import ConvNet
from .delay_net import DelayNet
from .delays import AxonalDelay, DelayConv2d, DelayLinear, RecurrentDelay, SharedDelayLinear
from .errors import (
    BackendError,
    CheckpointCorrupt,
    CheckpointWriteError,
    ConfigError,
    DataError,
    EventFormatError,
    NonFiniteError,
    RunError,
    UserError,
    WidthWarning,
    WindowWarning,
)
from .gradients import backward, set_temporal_gradient
from .graphs import GraphedStep
from .kernels import (
    NEURONS,
    SURROGATES,
    NeuronOptions,
    Synapses,
    delay_conv,
    delay_depthwise,
    delay_integer,
    delay_lif,
    delay_linear,
    delay_taps,
    lif,
    readout,
    recurrent_lif,
)
from .learning import clamp_, parameter_groups, round_, set_sigma, sigma_at, unrounded
from .losses import (
    LOSSES,
    logit_max,
    logit_sum,
    rate_cross_entropy,
    softmax_sum,
    spike_count_mse,
    tet,
)
from .memory_nets import MemoryNet
from .networks import NETWORKS
from .neurons import LIF, LeakyReadout, SpikeDropout
from .ranks import Ranks
from .rate import LeakyRate
from .recompute import recompute_
from .recurrent import RecurrentLIF
from .recurrent_net import RecurrentNet
from .step_graphs import StepGraphs
from .tau_net import effective_timescales
from .timescales import multi_timescale, time_constants
from .transfer import linear_cka, transfer_loss
from .version import VERSION as __version__

if TYPE_CHECKING:
    from .runs.predictions import predict
    from .runs.presets import PRESETS, build_model
    from .runs.saved import evaluate, export_weights, load
    from .runs.training import fit

_LAZY = {
    "PRESETS": "runs.presets",
    "build_model": "runs.presets",
    "evaluate": "runs.saved",
    "export_weights": "runs.saved",
    "fit": "runs.training",
    "load": "runs.saved",
    "predict": "runs.predictions",
}
__all__ = [
    "LIF",
    "LOSSES",
    "NETWORKS",
    "NEURONS",
    "PRESETS",
    "SURROGATES",
    "AxonalDelay",
    "BackendError",
    "CheckpointCorrupt",
    "CheckpointWriteError",
    "ConfigError",
    "ConvLIF",
    "ConvNet",
    "DataError",
    "DelayConv2d",
    "DelayLIF",
    "DelayLinear",
    "DelayNet",
    "EventFormatError",
    "GraphedStep",
    "LeakyRate",
    "LeakyReadout",
    "MemoryNet",
    "NeuronOptions",
    "NonFiniteError",
    "Ranks",
    "RecurrentDelay",
    "RecurrentLIF",
    "RecurrentNet",
    "ResidualLIF",
    "RunError",
    "SharedDelayLinear",
    "SpikeDropout",
    "StepGraphs",
    "Synapses",
    "UserError",
    "WidthWarning",
    "WindowWarning",
    "__version__",
    "backward",
    "build_model",
    "clamp_",
    "delay_conv",
    "delay_depthwise",
    "delay_integer",
    "delay_lif",
    "delay_linear",
    "delay_taps",
    "effective_timescales",
    "evaluate",
    "export_weights",
    "fit",
    "lif",
    "linear_cka",
    "load",
    "logit_max",
    "logit_sum",
    "multi_timescale",
    "parameter_groups",
    "predict",
    "rate_cross_entropy",
    "readout",
    "recompute_",
    "recurrent_lif",
    "round_",
    "set_sigma",
    "set_temporal_gradient",
    "sigma_at",
    "softmax_sum",
    "spike_count_mse",
    "tet",
    "time_constants",
    "transfer_loss",
    "unrounded",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
