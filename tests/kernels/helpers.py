"""What the tests of the kernels share: where they run, and random constants of any neuron."""

import torch
from torch import Tensor

from snndelay.kernels import NEURONS, SURROGATES

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DT_MS = 10.0
COMPILED = [name for name, entry in NEURONS.items() if entry.charge]
SLOPED = [name for name, entry in SURROGATES.items() if entry.slope]


def random_constants(neuron: str, n: int) -> dict[str, Tensor]:
    """Every constant of the neuron as a layer of n neurons would draw it, time constants of 1.1 to
    2.1 steps where they are given.
    """
    constants = NEURONS[neuron].constants
    return {name: c.init(torch.rand(n) + 1.1, DT_MS) for name, c in constants.items()}
