"""Numba's threads beside torch's."""

import subprocess
import sys

PROGRAM = """
import torch
from snndelay.kernels import Synapses, delay_linear
torch.set_num_threads(1)
x, w = torch.rand(9, 2, 8), torch.rand(1, 8, 8)
delay_linear(x, Synapses(w, w, torch.tensor(1.0), 5, "gauss"), backend="cpu")
print(torch.get_num_threads())
"""


def test_numba_does_not_change_how_many_threads_torch_has():
    """It starts its own once, and tells OpenMP to use as many."""
    command = [sys.executable, "-c", PROGRAM]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "1\n"
