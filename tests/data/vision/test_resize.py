"""Resizing against Pillow and torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from snndelay.data.vision.resize import RESIZES, resize
from snndelay.errors import DataError


@settings(deadline=None)
@given(
    st.tuples(*[st.integers(1, 40)] * 2), st.tuples(*[st.integers(2, 40)] * 2), st.integers(0, 99)
)
def test_resize_is_torchs_bilinear_with_antialias(have, want, seed):
    image = np.random.default_rng(seed).random(have, dtype=np.float32)
    got = resize(image, want)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None, None], want, mode="bilinear", antialias=True
    )[0, 0].numpy()
    assert got.dtype == np.float32 and got.shape == want
    assert np.abs(got - expected).max() < 1e-5, f"{have} -> {want}: {np.abs(got - expected).max()}"
    assert got.min() >= -1e-6 and got.max() <= 1 + 1e-6


def test_resize_of_a_single_column():  # torch 2.13 repeats the first row when the width is 1
    got = resize(np.array([[1.0], [0.0]], np.float32), (4, 1))
    assert np.allclose(got[:, 0], [1, 0.75, 0.25, 0]), got[:, 0]


@pytest.mark.parametrize(
    ("old", "new"),
    [((34, 34), (48, 48)), ((180, 240), (48, 48)), ((7, 5), (7, 1)), ((1, 3), (4, 2))],
)
def test_aligned_corners_are_those_of_torch(old, new):
    x = np.random.default_rng(0).poisson(0.5, (3, 2, *old)).astype(np.float32)
    want = torch.nn.functional.interpolate(
        torch.from_numpy(x), new, mode="bilinear", align_corners=True
    ).numpy()
    got = resize(x, new, "aligned")
    assert got.shape == want.shape and got.dtype == np.float32
    assert np.abs(got - want).max() < 1e-4, f"worst {np.abs(got - want).max()}"


def test_frames_are_averaged_by_area_plane_by_plane():
    x = np.random.default_rng(1).poisson(0.5, (3, 2, 128, 128)).astype(np.float32)
    got = resize(x, (48, 48), "antialias")
    assert got.shape == (3, 2, 48, 48) and got.dtype == np.float32
    assert np.abs(got.mean((2, 3)) / x.mean((2, 3)) - 1).max() < 0.02, "no event is lost"
    alone = Image.fromarray(x[1, 1]).resize((48, 48), Image.Resampling.BILINEAR)
    assert np.array_equal(got[1, 1], np.asarray(alone))


def test_bytes_stay_bytes():
    pixels = np.random.default_rng(2).integers(0, 256, (3, 20, 30), dtype=np.uint8)
    got = resize(pixels, (7, 9))
    alone = Image.fromarray(pixels[2]).resize((9, 7), Image.Resampling.BILINEAR)
    assert got.dtype == np.uint8 and np.array_equal(got[2], np.asarray(alone))


@pytest.mark.parametrize("how", RESIZES)
def test_the_same_size_changes_nothing(how):
    x = np.random.default_rng(0).random((2, 2, 5, 6), np.float32)
    assert np.array_equal(resize(x, (5, 6), how), x)
    assert resize(x.astype(np.float64), (10, 12), how).dtype == np.float32


def test_an_unknown_way_is_refused():
    with pytest.raises(DataError, match="by 'align': did you mean aligned"):
        resize(np.zeros((4, 4)), (2, 2), "align")
