"""Shared helpers: comparisons whose message shows the worst element."""

import pytest
import torch
from torch import Tensor


def assert_close(got: Tensor, want: Tensor, rel: float, what: str) -> None:
    """Relative L2 error of ``got`` at most ``rel``; the message names the worst element."""
    assert got.shape == want.shape, f"{what}: shape {tuple(got.shape)}, not {tuple(want.shape)}"
    got, want = got.detach().double(), want.detach().double()
    assert got.isfinite().all(), f"{what}: not finite"
    error = (got - want).norm() / want.norm().clamp_min(1e-30)
    i = int((got - want).abs().argmax())
    assert error <= rel, (
        f"{what}: relative L2 error {error:.2e} > {rel:.0e}, worst at {i}: "
        f"{got.flatten()[i]} instead of {want.flatten()[i]}"
    )


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
