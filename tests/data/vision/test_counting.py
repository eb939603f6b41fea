"""The compiled loops give the bits of the numpy formulas that they stand for."""

import numpy as np
import pytest
import torch

from snndelay.data.events import Events
from snndelay.data.narrow import as_bytes
from snndelay.data.vision.counting import LARGE, SMALL, Steps, count, surveyed
from snndelay.data.vision.loader import Sequences, channels_last
from snndelay.data.vision.resize import resize
from snndelay.errors import DataError

CPU = torch.device("cpu")


def events(n: int, T: int, H: int, W: int, kind: type, seed: int = 0) -> Events:
    """Whose times are steps, some of them too late."""
    rng = np.random.default_rng(seed)
    ends = (T + 2, np.int64), (W, kind), (H, kind), (2, kind)
    return Events(*(rng.integers(0, end, n).astype(kind) for end, kind in ends))


@pytest.mark.parametrize("n", [0, 1, 63, 3000])
@pytest.mark.parametrize("kind", [np.int8, np.int16, np.uint16, np.int64])
@pytest.mark.parametrize("narrow", [False, True])
def test_counts_are_those_of_numpy(n, kind, narrow):
    given = events(n, 5, 7, 9, kind)
    wanted = np.zeros((5, 2, 7, 9))
    inside = given.t_us < 5
    parts = (getattr(given, name)[inside].astype(int) for name in ("t_us", "p", "y", "x"))
    np.add.at(wanted, tuple(parts), 1)
    ready, first, last = surveyed(given, (7, 9))
    assert (first, last) == ((given.t_us.min(), given.t_us.max()) if n else (0, 0))
    found, n_inside = count(ready, Steps(ready.t_us), (5, 2, 7, 9), narrow)
    assert found.dtype == (np.uint8 if narrow else np.float32)
    assert np.array_equal(found, wanted), f"{(found != wanted).sum()} counts differ"
    assert found.sum(dtype=np.int64) == inside.sum() == n_inside


@pytest.mark.parametrize("n", [255, 256, 600])
def test_narrow_counts_never_wrap(n):
    given, _, _ = surveyed(Events(*np.zeros((4, n), np.int64)), (1, 1))
    found, n_inside = count(given, Steps(given.t_us), (1, 2, 1, 1), narrow=True)
    assert found.dtype == (np.uint8 if n < 256 else np.float32)
    assert found.ravel().tolist() == [n, 0] and n_inside == n


@pytest.mark.parametrize("span", [1, 2, 999, 300_000, 2**40])
@pytest.mark.parametrize("n_steps", [1, 3, 10, 1000])
@pytest.mark.parametrize("closed", [True, False])
def test_steps_are_those_of_whole_division(span, n_steps, closed):
    rng = np.random.default_rng(span)
    edges = np.arange(n_steps + 1) * span // n_steps  # where rounding would show
    t = np.concatenate([rng.integers(0, span + 1, 500), edges, edges + 1, edges - 1])
    t = t.clip(0, span)
    last = n_steps - 1 if closed else 1 << 62
    wanted = np.minimum(t * n_steps // span, last)
    x = np.arange(len(t))  # a pixel for each event says in which step it came
    given, _, _ = surveyed(Events(t + 77, x, 0 * x, 0 * x), (1, len(t)))
    steps = Steps(given.t_us, 77, n_steps, span, last)
    found, n_inside = count(given, steps, (n_steps, 2, 1, len(t)))
    inside = wanted < n_steps
    assert np.array_equal(found[:, 0, 0].sum(0), inside) and n_inside == inside.sum()
    wrong = np.flatnonzero(inside & (found[:, 0, 0].argmax(0) != wanted))
    assert not len(wrong), f"time {t[wrong[0]]} does not lie in {wanted[wrong[0]]}"


@pytest.mark.parametrize("side", [1 << 15, 1 << 16])
@pytest.mark.parametrize("bad", [None, "t_us", "x", "y", "p", "none", "long"])
def test_events_off_the_sensor_are_refused_in_any_type(side, bad):
    rng = np.random.default_rng(0)
    place = rng.integers(0, side, (2, 50))
    place[:, 7] = side - 1
    for kinds in (SMALL, LARGE, (np.int64,) * 4, (np.int32, np.uint16, np.uint16, np.uint8)):
        if np.dtype(kinds[1]).itemsize == 2 and side > 1 << 15 and kinds[1] != np.uint16:
            continue
        columns = (np.arange(50), *place, place[0] & 1)
        parts = dict(zip(("t_us", "x", "y", "p"), columns, strict=True))
        parts = {n: a.astype(k) for (n, a), k in zip(parts.items(), kinds, strict=True)}
        if bad in ("x", "y"):
            wrong = parts[bad].astype(np.int32)
            wrong[9] = side
            parts[bad] = wrong
        elif bad in ("t_us", "p"):
            parts[bad][9] = -1 if parts[bad].dtype.kind == "i" else 9
        elif bad == "none":
            del parts["p"], parts["y"]
        elif bad == "long":
            parts["y"] = parts["y"][:-1]
        if bad is None:
            ready, first, last = surveyed(Events(**parts), (side, side))
            assert (first, last) == (0, 49)
            for name, part in parts.items():
                assert np.array_equal(getattr(ready, name), part), name
        else:
            with pytest.raises(DataError):
                surveyed(Events(**parts), (side, side))


def test_products_beyond_64_bits_are_left_out():
    given = Events(*(np.array(part) for part in ([0, 2**53], [0, 0], [0, 0], [0, 0])))
    given, _, _ = surveyed(given, (1, 1))
    found, n_inside = count(given, Steps(given.t_us, per=1 << 10, span=3), (5, 2, 1, 1))
    assert found.ravel().tolist() == [1] + [0] * 9 and n_inside == 1


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
