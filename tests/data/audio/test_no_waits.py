"""A batch of held clips is made without waiting for the device and without a host tensor, but for
the one that says which clips it holds. Shown without a GPU, on a device that does not exist."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from snndelay.data.audio import augment as aug
from snndelay.data.audio import flat as flat_module
from snndelay.data.audio.flat import flat, pieces
from snndelay.data.audio.frames import FRAMINGS, Framing, batch_frames, batch_steps

from ...helpers_capture import DEVICE, Watch
from .test_augment import STRONG

SIZE_N = np.array([30, 5, 70, 12])


def there(device: torch.device, arrays: list[np.ndarray]) -> tuple[torch.Tensor, ...]:
    """In the place of the one copy to the device."""
    return tuple(torch.empty(len(a), dtype=torch.int64, device=device) for a in arrays)


@pytest.fixture
def absent(monkeypatch):
    """Fake tensors; tables of normal numbers are made anew, here and after."""
    monkeypatch.setattr(flat_module, "_on", there)
    aug._quantiles.cache_clear()
    with FakeTensorMode():
        yield
    aug._quantiles.cache_clear()


def batch(
    framing: str, amounts: dict, partner_B: np.ndarray | None, cut_B: np.ndarray | None = None
) -> torch.Tensor:
    t_us = torch.empty(int(SIZE_N.sum()), dtype=torch.int32, device=DEVICE)
    unit = torch.empty(len(t_us), dtype=torch.int16, device=DEVICE)
    made = pieces(np.array([2, 0, 3]), partner_B, cut_B)
    size_S, start_S = SIZE_N[made.place_S], (np.cumsum(SIZE_N) - SIZE_N)[made.place_S]
    events = flat(t_us, unit, made, size_S, size_S * 1000, start_S)
    if amounts or partner_B is not None:
        u_KB = torch.empty(len(aug.DRAWS), 3, dtype=torch.float64, device=DEVICE)
        events = aug.augment(events, amounts, u_KB, 700, seed=1, epoch=2)
    how = Framing(10_000, 5, 700, None, framing)
    assert batch_steps(events, how).shape == (3,)
    return batch_frames(events, how, T=40)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("amounts", [{}, STRONG, {"aug_drop": 0.5}], ids=["none", "all", "drop"])
@pytest.mark.parametrize(
    ("partner_B", "cut_B"),
    [(None, None), (np.array([-1, 1, 3]), None), (np.array([-1, 1, 3]), np.arange(3) == 2)],
    ids=["alone", "mixed", "cut"],
)
def test_nothing_waits(absent, framing, amounts, partner_B, cut_B):
    batch(framing, amounts, partner_B, cut_B)  # the first makes the tables of normal numbers
    with Watch():
        x_TBC = batch(framing, amounts, partner_B, cut_B)
    assert x_TBC.shape == (40, 3, 140) and x_TBC.device.type == DEVICE.type


def test_what_waits_is_found(absent):
    with Watch(), pytest.raises(AssertionError, match="waits for the device"):
        batch("grid", {}, None).sum().item()
