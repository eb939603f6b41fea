"""The compiled loops give the bits of the numpy formulas that they stand for."""

import numpy as np
import pytest
import torch

from snndelay.data.narrow import as_bytes
from snndelay.data.vision.counting import bin_steps, count_steps
from snndelay.data.vision.loader import Sequences, channels_last
from snndelay.data.vision.resize import resize

CPU = torch.device("cpu")


def events(n: int, T: int, H: int, W: int, kind: type, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    step = rng.integers(0, T + 2, n)
    return [step, *(rng.integers(0, end, n).astype(kind) for end in (W, H, 2))]


@pytest.mark.parametrize("n", [0, 1, 63, 3000])
@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.int64])
@pytest.mark.parametrize("narrow", [False, True])
def test_counts_are_those_of_numpy(n, kind, narrow):
    step, x, y, p = events(n, 5, 7, 9, kind)
    wanted = np.zeros((5, 2, 7, 9))
    inside = step < 5
    np.add.at(wanted, tuple(part[inside].astype(int) for part in (step, p, y, x)), 1)
    found = count_steps(step, x, y, p, (5, 2, 7, 9), narrow)
    assert found.dtype == (np.uint8 if narrow else np.float32)
    assert np.array_equal(found, wanted), f"{(found != wanted).sum()} counts differ"
    assert found.sum(dtype=np.int64) == inside.sum()


@pytest.mark.parametrize("n", [255, 256, 600])
def test_narrow_counts_never_wrap(n):
    zeros = np.zeros(n, np.int64)
    found = count_steps(zeros, zeros, zeros, zeros, (1, 2, 1, 1), narrow=True)
    assert found.dtype == (np.uint8 if n < 256 else np.float32)
    assert found.ravel().tolist() == [n, 0] and found.sum(dtype=np.int64) == n


@pytest.mark.parametrize("span", [1, 2, 999, 300_000, 2**40])
@pytest.mark.parametrize("n_steps", [1, 3, 10, 1000])
def test_bins_are_those_of_whole_division(span, n_steps):
    rng = np.random.default_rng(span)
    edges = np.arange(n_steps + 1) * span // n_steps  # where rounding would show
    t = np.concatenate([rng.integers(0, span + 1, 500), edges, edges + 1, edges - 1])
    t = t.clip(0, span)
    wanted = np.minimum(t * n_steps // span, n_steps - 1)
    found = bin_steps(t + 77, 77, span, n_steps)
    wrong = np.flatnonzero(found != wanted)
    assert not len(wrong), f"time {t[wrong[0]]} lies in {found[wrong[0]]}, not {wanted[wrong[0]]}"


@pytest.mark.parametrize("shape", [(180, 240), (34, 34), (1, 5), (48, 300)])
@pytest.mark.parametrize("size", [(48, 48), (1, 1), (34, 60)])
def test_resizing_gives_the_bits_of_two_takes(shape, size):
    x = np.random.default_rng(0).random((3, 2, *shape), dtype=np.float32)
    wanted = x
    for axis, n in ((-2, size[0]), (-1, size[1])):
        if n == (old := wanted.shape[axis]):
            continue
        at = np.arange(n) * ((old - 1) / max(n - 1, 1))
        low = np.minimum(at.astype(np.int64), old - 1)
        share = (at - low).astype(np.float32).reshape((n, 1) if axis == -2 else (n,))
        high = np.minimum(low + 1, old - 1)
        wanted = wanted.take(low, axis) * (1 - share) + wanted.take(high, axis) * share
    found = resize(x, size, "aligned")
    assert np.array_equal(found, wanted), f"off by {np.abs(found - wanted).max()}"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_batch_in_one_pass_is_that_in_several(dtype):
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 9, (7, 3, 2, 5, 6))).to(dtype)
    at = torch.tensor([6, 0, 0, 3])
    found = Sequences(frames, 3, at, None, False, CPU).batch(slice(1, 4))
    wanted = channels_last(frames[at[1:4]].transpose(0, 1))
    assert torch.equal(found, wanted) and found.dtype == torch.float32
    assert found.stride() == wanted.stride(), "not channels last in memory"


@pytest.mark.parametrize("bad", [-1.0, 0.5, 256.0, 1e30, np.nan, np.inf, -np.inf])
def test_bytes_are_only_what_bytes_can_say(bad):
    x = np.arange(256, dtype=np.float32).reshape(2, 128)
    found = as_bytes(x)
    assert found is not None and found.dtype == np.uint8 and np.array_equal(found, x)
    x[1, 17] = bad
    assert as_bytes(x) is None
