import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snndelay.data.vision.augment import augment, rotated


def frames(seed: int = 0, H: int = 9, W: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).poisson(1.0, (4, 2, H, W)).astype(np.float32)


def draw(seed: int = 0, x=None, **amounts) -> np.ndarray:
    return augment(frames() if x is None else x, np.random.default_rng(seed), **amounts)


def test_amounts_of_zero_change_nothing():
    assert np.array_equal(draw(), frames())


@given(st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_a_crop_moves_the_whole_recording_and_fills_with_zeros(seed):
    got = draw(seed, crop=3)
    padded = np.pad(frames(), [(0, 0), (0, 0), (3, 3), (3, 3)])
    places = [(i, j) for i in range(7) for j in range(7)]
    assert any(np.array_equal(got, padded[..., i : i + 9, j : j + 12]) for i, j in places)


def test_crops_reach_every_place():
    x = np.zeros((1, 1, 5, 5), np.float32)
    x[0, 0, 2, 2] = 1
    seen = {tuple(np.argwhere(draw(seed, x, crop=2)[0, 0])[0].tolist()) for seed in range(500)}
    assert seen == {(i, j) for i in range(5) for j in range(5)}, f"only {sorted(seen)}"


def test_flips_mirror_left_to_right_as_often_as_asked():
    assert np.array_equal(draw(flip=1.0), frames()[..., ::-1])
    flipped = [not np.array_equal(draw(seed, flip=0.3), frames()) for seed in range(1000)]
    assert abs(np.mean(flipped) - 0.3) < 0.05, f"{np.mean(flipped)} instead of 0.3"


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_right_angles_equal_numpy(turns):
    x = frames(H=9, W=9)
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
    x = np.zeros((1, 1, 65, 65), np.float32)
    x[0, 0, 32, 44:62] = 1  # a bar on the right: its rows say the angle
    angles = []
    for seed in range(200):
        y, column = np.nonzero(draw(seed, x, rotate=15.0)[0, 0] > 0.3)
        angles.append(np.rad2deg(np.arctan2(32 - y.mean(), column.mean() - 32)))
    assert -15.5 < min(angles) < -12 and 12 < max(angles) < 15.5, f"{min(angles)} {max(angles)}"


def test_all_steps_and_polarities_move_together():
    x = np.broadcast_to(frames()[:1, :1], (4, 2, 9, 12)).copy()
    got = draw(3, x, crop=4, flip=0.5, rotate=30.0)
    assert got.any() and (got == got[:1, :1]).all()


def test_the_same_seed_gives_the_same_and_the_input_stays():
    x = frames()
    amounts = {"crop": 4, "flip": 0.5, "rotate": 15.0}
    first = draw(5, x, **amounts)
    assert np.array_equal(first, draw(5, x, **amounts)) and np.array_equal(x, frames())
    assert any(not np.array_equal(first, draw(seed, x, **amounts)) for seed in range(3))
    assert first.flags.c_contiguous and first.dtype == np.float32


def test_one_amount_leaves_the_draws_of_the_others():
    for seed in range(20):
        both = draw(seed, crop=3, flip=1.0)
        shift_of_a_mirrored = draw(seed, frames()[..., ::-1], crop=3)
        assert np.array_equal(both, shift_of_a_mirrored), f"seed {seed}"


def test_frames_from_the_cache_may_be_small_integers():
    x = frames().astype(np.uint8)
    x.flags.writeable = False
    assert np.array_equal(draw(7, x, crop=2, flip=0.5), draw(7, crop=2, flip=0.5))
