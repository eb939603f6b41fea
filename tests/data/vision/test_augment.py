"""Augmentation of a batch against its definition, pixel by pixel, and the same bits on a GPU."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snndelay.data.seeds import uniforms
from snndelay.data.vision.augment import DRAWS, augment, moves

ALL = {"crop": 4, "flip": 0.5, "rotate": 15.0}


def frames(seed: int = 0, B: int = 3, H: int = 9, W: int = 12) -> torch.Tensor:
    counts = np.random.default_rng(seed).poisson(1.0, (4, B, 2, H, W))
    return torch.from_numpy(counts.astype(np.float32))


def draws(seed: int = 0, B: int = 3) -> np.ndarray:
    return uniforms("augment_event", seed, 0, np.arange(B), DRAWS)


def moved(x: torch.Tensor, u_B4: np.ndarray, **amounts) -> np.ndarray:
    return augment(x, moves(u_B4, **amounts), bool(amounts.get("rotate"))).numpy()


def rotated(x: np.ndarray, degrees: float) -> np.ndarray:
    """One recording turned by `degrees`, (T, P, H, W)."""
    u_14 = np.array([[1.0, 0.5, 0.5, 0.5]])  # the largest angle there is, no mirror
    return moved(torch.from_numpy(x.astype(np.float32))[:, None], u_14, rotate=degrees)[:, 0]


def pixel(image: np.ndarray, y: int, x: int) -> float:
    inside = 0 <= y < image.shape[0] and 0 <= x < image.shape[1]
    return float(image[y, x]) if inside else 0.0


def turned(image: np.ndarray, degrees: float) -> np.ndarray:
    """The definition: every pixel is mixed of the four around where it comes from."""
    H, W = image.shape
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    out = np.zeros((H, W))
    for i in range(H):
        for j in range(W):
            y, x = i - (H - 1) / 2, j - (W - 1) / 2
            from_y, from_x = cos * y + sin * x + (H - 1) / 2, cos * x - sin * y + (W - 1) / 2
            for row in (math.floor(from_y), math.floor(from_y) + 1):
                for column in (math.floor(from_x), math.floor(from_x) + 1):
                    share = (1 - abs(from_y - row)) * (1 - abs(from_x - column))
                    out[i, j] += share * pixel(image, row, column)
    return out


def defined(image: np.ndarray, u_4: np.ndarray, crop: int, flip: float, rotate: float):
    """One frame, turned, mirrored and cut, one after another."""
    image = turned(image, (2 * u_4[0] - 1) * rotate) if rotate else image
    image = image[:, ::-1] if u_4[1] < flip else image
    up, left = (int(u * (2 * crop + 1)) for u in u_4[2:])
    H, W = image.shape
    return np.pad(image, crop)[up : up + H, left : left + W]


@pytest.mark.parametrize("rotate", [0.0, 25.0])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32])
@given(
    st.integers(0, 1000), st.integers(0, 12), st.floats(0, 1), st.integers(1, 12), st.integers(1, 9)
)
@settings(max_examples=15, deadline=None)
def test_it_is_what_is_defined_for_every_pixel(rotate, dtype, seed, crop, flip, H, W):
    x, u_B4 = frames(seed, 2, H, W), draws(seed, 2)
    got = moved(x.to(dtype), u_B4, crop=crop, flip=flip, rotate=rotate)
    for b in range(2):
        want = defined(x[1, b, 1].numpy(), u_B4[b], crop, flip, rotate)
        error = np.abs(got[1, b, 1] - want)
        at = np.unravel_index(error.argmax(), error.shape)
        tolerance = 1e-5 if rotate else 0
        assert error.max() <= tolerance, f"sample {b}: {got[1, b, 1][at]}, not {want[at]} at {at}"


@pytest.mark.parametrize("turned", [True, False])
def test_amounts_of_zero_change_nothing(turned):
    assert np.array_equal(augment(frames(), moves(draws()), turned), frames())


def test_crops_reach_every_place():
    x = torch.zeros(1, 500, 1, 5, 5)
    x[..., 2, 2] = 1
    _, _, _, y, column = np.nonzero(moved(x, draws(0, 500), crop=2))
    seen = set(zip(y.tolist(), column.tolist(), strict=True))
    assert seen == {(i, j) for i in range(5) for j in range(5)}, f"only {sorted(seen)}"


def test_flips_mirror_left_to_right_as_often_as_asked():
    x = frames(B=1000, H=2, W=3)
    assert np.array_equal(moved(x, draws(0, 1000), flip=1.0), x.flip(-1))
    flipped = (moved(x, draws(0, 1000), flip=0.3) != x.numpy()).any((0, 2, 3, 4))
    assert abs(flipped.mean() - 0.3) < 0.05, f"{flipped.mean()} instead of 0.3"


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_right_angles_equal_numpy(turns):
    x = frames(H=9, W=9).numpy()[:, 0]
    want = np.rot90(x, turns, axes=(-2, -1))
    error = np.abs(rotated(x, 90.0 * turns) - want).max()
    assert error < 1e-4, f"worst {error}"


def test_a_turn_agrees_with_scipy():
    from scipy.ndimage import rotate

    x = np.zeros((2, 1, 31, 25), np.float32)
    x[..., 8:-8, 6:-6] = np.random.default_rng(0).random((2, 1, 15, 13))
    for degrees in (-15.0, 4.0, 30.0):
        want = rotate(x, degrees, axes=(-1, -2), reshape=False, order=1)
        worst = np.abs(rotated(x, degrees) - want).max()
        assert worst < 1e-4, f"{degrees} degrees: worst {worst}"


def test_angles_lie_within_the_amount_and_on_both_sides():
    x = torch.zeros(1, 200, 1, 65, 65)
    x[..., 32, 44:62] = 1  # a bar on the right: its rows say the angle
    angles = []
    for bar in moved(x, draws(0, 200), rotate=15.0)[0, :, 0]:
        y, column = np.nonzero(bar > 0.3)
        angles.append(np.rad2deg(np.arctan2(32 - y.mean(), column.mean() - 32)))
    assert -15.5 < min(angles) < -12 and 12 < max(angles) < 15.5, f"{min(angles)} {max(angles)}"


def test_all_steps_and_polarities_move_together_and_samples_apart():
    x = frames(B=1)[:1, :, :1].expand(4, 8, 2, 9, 12)
    got = moved(x, draws(3, 8), **ALL)
    assert got.any() and (got == got[:1, :, :1]).all()
    assert len({got[0, b, 0].tobytes() for b in range(8)}) == 8


def test_a_sample_moves_alike_in_any_batch_and_any_layout_and_the_input_stays():
    x, u_B4 = frames(), draws()
    whole = moved(x, u_B4, **ALL)
    assert np.array_equal(x, frames())
    last = x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    assert np.array_equal(moved(last, u_B4, **ALL), whole)
    for b in range(3):
        assert np.array_equal(moved(x[:, b : b + 1], u_B4[b : b + 1], **ALL)[:, 0], whole[:, b])


def test_one_amount_leaves_the_draws_of_the_others():
    both = moved(frames(B=20), draws(0, 20), crop=3, flip=1.0)
    shift_of_a_mirrored = moved(frames(B=20).flip(-1), draws(0, 20), crop=3)
    assert np.array_equal(both, shift_of_a_mirrored)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32])
@pytest.mark.parametrize("amounts", [{"crop": 3, "flip": 0.5}, ALL | {"rotate": 180.0}])
def test_a_gpu_makes_the_same_bits(dtype, amounts):
    x, table = frames(1, 64, 48, 41).to(dtype), moves(draws(1, 64), **amounts)
    turned = "rotate" in amounts
    here, there = augment(x, table, turned), augment(x.cuda(), table.cuda(), turned).cpu()
    assert torch.equal(here, there), f"{(here != there).sum()} pixels differ"
