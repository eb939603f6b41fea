"""Augmentation of a batch against its definition, pixel by pixel, and the same bits on a GPU."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snndelay.data.seeds import counter, uniforms
from snndelay.data.vision.augment import (
    AUGMENTATIONS,
    DRAWS,
    MORE_DRAWS,
    MOVES,
    Changes,
    amounts_of,
    augment,
    change,
    changes,
    moves,
)
from snndelay.kernels.philox import words
from snndelay.runs.input_settings import VisionAugmentation

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


CHANGES = {
    **{"aug_time_shift": 3, "aug_polarity": 0.5, "aug_cutout": 7, "aug_time_mask": 3},
    **{"aug_drop": 0.4, "aug_noise": 0.2},
}


def by_hand(x: np.ndarray, i: int, u: list[float], amounts: dict) -> np.ndarray:
    """The definition: one recording (T, P, H, W), pixel by pixel."""
    T, P, H, W = x.shape
    at, a = counter("cell_event", 7, 2), {name: amounts.get(name, 0) for name in CHANGES}
    later = int(u[0] * (2 * a["aug_time_shift"] + 1)) - a["aug_time_shift"]
    side = int(u[4] * (a["aug_cutout"] + 1))
    top, left = (math.floor(u[2 + k] * (n + side)) - side for k, n in enumerate((H, W)))
    length = int(u[6] * (a["aug_time_mask"] + 1))
    first = math.floor(u[5] * (T + length)) - length
    block = torch.arange(-(-x.size // 4))
    zero = torch.zeros_like(block)
    drawn = words(torch.tensor(at.seed), block, zero + i, zero + at.epoch, zero + at.stream)
    word = torch.stack(drawn, 1).flatten().tolist()
    out = np.zeros_like(x)
    for place, (t, p, r, c) in enumerate(np.ndindex(T, P, H, W)):
        if 0 <= t - later < T:
            out[t, p, r, c] = x[t - later, 1 - p if u[1] < a["aug_polarity"] else p, r, c]
        square = top <= r < top + side and left <= c < left + side
        dropped = word[place] % 2**16 < round(a["aug_drop"] * 2**16)
        if square or first <= t < first + length or dropped:
            out[t, p, r, c] = 0
        out[t, p, r, c] += word[place] // 2**16 % 2**16 < round(a["aug_noise"] * 2**16)
    return out


@pytest.mark.parametrize("field", [*CHANGES, "all"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32])
def test_every_change_is_what_is_defined_for_every_pixel(field, dtype):
    amounts = CHANGES if field == "all" else {field: CHANGES[field]}
    index, differ = np.array([5, 0, 12, 33, 8, 9, 2, 3]), 0
    x = frames(B=len(index))
    u_BK = uniforms("augment_event", 7, 2, index, DRAWS + MORE_DRAWS)
    how = changes(u_BK[:, DRAWS:], amounts_of(amounts, u_BK[:, -1]), 4, (9, 12))
    there = (frozenset(amounts), how, torch.from_numpy(index), "cell_event", 7, 2)
    got = change(x.to(dtype), Changes(*there)).float().numpy()
    for b, i in enumerate(index.tolist()):
        want = by_hand(x[:, b].numpy(), i, u_BK[b, DRAWS:].tolist(), amounts)
        at = np.argwhere(got[:, b] != want).tolist()
        assert not at, f"sample {i} differs at {at[:3]}"
        differ += not np.array_equal(want, x[:, b])
    assert differ >= 3, f"{field} changed only {differ} of 8 recordings"


def test_without_a_name_nothing_changes():
    none = torch.zeros(3, 9, dtype=torch.int64)
    x = frames()
    assert change(x, Changes(frozenset(), none, none[:, 0], "cell_event", 0, 0)) is x


def test_one_of_those_that_are_on_or_none_all_alike():
    u_B = uniforms("augment_event", 0, 0, np.arange(8000), 12)[:, -1]
    amounts = {"aug_crop": 3, "aug_drop": 0.2, "aug_noise": 0.0}
    of_B = amounts_of(amounts, u_B, one=True)
    assert set(of_B) == set(AUGMENTATIONS)
    on_B = np.stack([of_B["aug_crop"] == 3, of_B["aug_drop"] == 0.2])
    assert on_B.sum(0).max() == 1 and sum(part.any() for part in of_B.values()) == 2
    assert np.allclose(on_B.mean(1), 1 / 3, atol=0.02), "not all alike"
    assert all((amounts_of(amounts, u_B)[name] == amounts.get(name, 0)).all() for name in of_B)


def test_the_table_has_every_option_and_nothing_else():
    options = {name for name in VisionAugmentation.__dataclass_fields__ if name != "aug_one"}
    assert options == set(AUGMENTATIONS) == {*MOVES, *CHANGES}
    assert all(row.what and row.source for row in AUGMENTATIONS.values())
