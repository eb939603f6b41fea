"""The same passes a hundred times: the same bits."""

import pytest
import torch

from ..kernels.helpers import DEVICE
from ..kernels.test_ops import BACKENDS, MIDDLE, inputs_of, passes

REAL = [(op, b) for op, b in BACKENDS if b != "triton" or DEVICE == "cuda"]  # not interpreted


@pytest.mark.faults
@pytest.mark.parametrize(("op", "backend"), REAL)
def test_a_hundred_passes(op, backend, trial):
    inputs = inputs_of(op, MIDDLE, torch.float32)
    first = passes(op, inputs, backend)
    for n in range(100):
        with trial("determinism", f"{op} on {backend}, repeat {n}"):
            for a, b in zip(passes(op, inputs, backend), first, strict=True):
                assert torch.equal(a, b), f"{int((a != b).sum())} numbers differ"
