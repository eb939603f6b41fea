"""Ops on tensors: delays and neurons, each with its definition (``reference``) and its faster
backends.

``OPS`` is the table that tests and benchmarks iterate over.
"""

if __name__ == "kernels":
    raise ImportError("this folder is a part of snndelay: write `import snndelay.kernels`")

from ..errors import BackendError
from .delay import delay_conv, delay_integer, delay_linear, delay_taps
from .delay_depthwise import delay_depthwise
from .delay_lif import delay_lif
from .dispatch import BACKENDS
from .dropout import Dropout
from .events import anchored_steps, count_events, event_words, latest
from .lif import lif, readout
from .neurons import NEURONS, NeuronOptions
from .ops import OPS, Op, Shape
from .recurrent import recurrent_lif
from .surrogate import SURROGATES, spike
from .synapses import Synapses

__all__ = [
    "BACKENDS",
    "NEURONS",
    "OPS",
    "SURROGATES",
    "BackendError",
    "Dropout",
    "NeuronOptions",
    "Op",
    "Shape",
    "Synapses",
    "anchored_steps",
    "count_events",
    "delay_conv",
    "delay_depthwise",
    "delay_integer",
    "delay_lif",
    "delay_linear",
    "delay_taps",
    "event_words",
    "latest",
    "lif",
    "readout",
    "recurrent_lif",
    "spike",
]
