"""Filters of events against loops over them, and against tonic's where it has the same."""

import numpy as np
import pytest
import tonic.transforms
from hypothesis import given, settings
from hypothesis import strategies as st

from snndelay.data.events import Events
from snndelay.data.vision.filters import (
    AROUND,
    Filters,
    filtered,
    shrunk,
    thinned,
    without_hot_pixels,
    without_noise,
)
from snndelay.errors import DataError

SIZE = (6, 9)
EVENT = st.tuples(st.integers(0, 300), st.integers(0, 8), st.integers(0, 5), st.integers(0, 1))
ROWS = st.lists(EVENT, max_size=60)
CASES = settings(max_examples=200, deadline=None)
TONIC = np.dtype([("t", "<i8"), ("x", "<i8"), ("y", "<i8"), ("p", "<i8")])


def events(rows) -> Events:
    t_us, x, y, p = np.array(rows, np.int64).reshape(-1, 4).T
    return Events(t_us, x.astype(np.int16), y.astype(np.uint8), p.astype(np.int8))


def rows_of(e: Events) -> list[tuple]:
    assert e.y is not None and e.p is not None
    return list(zip(*(part.tolist() for part in (e.t_us, e.x, e.y, e.p)), strict=True))


def in_time(rows) -> list[int]:
    return sorted(range(len(rows)), key=lambda i: rows[i][0])


@given(ROWS, st.sampled_from([1, 30, 300]), st.sampled_from([4, 8]))
@CASES
def test_noise_is_what_no_neighbour_supports(rows, dt_us, neighbours):
    last, kept = {}, set()
    for i in in_time(rows):
        t, x, y, _ = rows[i]
        times = [last.get((y + down, x + right)) for down, right in AROUND[neighbours]]
        if any(before is not None and t - before <= dt_us for before in times):
            kept.add(i)
        last[y, x] = t
    got = rows_of(without_noise(events(rows), SIZE, dt_us, neighbours))
    assert got == [rows[i] for i in sorted(kept)], "other events, or another order"


def test_the_own_pixel_supports_nothing():
    alone = events([(t, 4, 3, 0) for t in range(20)])
    assert len(without_noise(alone, SIZE, 10)) == 0
    edge = events([(0, 8, 0, 0), (1, 0, 1, 0)])
    assert len(without_noise(edge, SIZE, 10)) == 0, "the end of a row is no neighbour of the next"


def some(n: int, seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    t_us = 1000 + np.sort(rng.choice(20 * n, n, replace=False))
    return Events(t_us, *(rng.integers(0, k, n) for k in (9, 6, 2)))


def of_tonic(e: Events) -> np.ndarray:
    made = np.zeros(len(e), TONIC)
    made["t"], made["x"], made["y"], made["p"] = e.t_us, e.x, e.y, e.p
    return made


def test_noise_is_tonics_but_for_diagonals_and_the_very_start():
    """tonic's Denoise looks at 4 neighbours, wants less than filter_time, and takes a pixel that
    never fired for one that fired at time 0: so here events begin after filter_time."""
    e = some(400)
    want = tonic.transforms.Denoise(filter_time=100)(of_tonic(e))
    got = without_noise(e, SIZE, 99, neighbours=4)
    assert 0 < len(got) < len(e) and rows_of(got) == [tuple(row) for row in want.tolist()]


@given(ROWS, st.sampled_from([1.0, 1.5, 4.0]))
@CASES
def test_hot_pixels_are_those_above_the_median(rows, times):
    count = {}
    for _, x, y, _ in rows:
        count[x, y] = count.get((x, y), 0) + 1
    most = times * np.median(list(count.values())) if count else 0
    got = rows_of(without_hot_pixels(events(rows), SIZE, times))
    assert got == [row for row in rows if count[row[1], row[2]] <= most]


@given(ROWS, st.sampled_from([1, 2, 4, 100]))
@CASES
def test_joined_pixels_keep_every_event(rows, k):
    got, size = shrunk(events(rows), SIZE, k)
    assert rows_of(got) == [(t, x // k, y // k, p) for t, x, y, p in rows]
    assert size == tuple(len({i // k for i in range(n)}) for n in SIZE)
    got.validate(size[1], size[0])


def test_joined_pixels_are_tonics_downsample():
    e = some(200)
    want = tonic.transforms.Downsample(spatial_factor=1 / 3)(of_tonic(e))
    got, _ = shrunk(e, SIZE, 3)
    assert rows_of(got) == [tuple(row) for row in want.tolist()]


@given(ROWS, st.sampled_from([1, 7, 1000]))
@CASES
def test_thinning_keeps_the_first_of_every_stretch(rows, dt_us):
    seen, kept = set(), set()
    for i in in_time(rows):
        t, *place = rows[i]
        if (t // dt_us, *place) not in seen:
            kept.add(i)
        seen.add((t // dt_us, *place))
    got = rows_of(thinned(events(rows), SIZE, dt_us))
    assert got == [rows[i] for i in sorted(kept)]


@given(ROWS, st.sampled_from([None, 2.0]), st.sampled_from([None, 0.05]), st.sampled_from([1, 2]))
@CASES
def test_what_is_taken_is_counted(rows, hot, noise_ms, shrink):
    e = events(rows)
    left, size, taken = filtered(e, SIZE, Filters(hot, noise_ms, shrink, thin_ms=0.02))
    assert len(left) + taken.sum() == len(e) and (taken >= 0).all()
    first = e if hot is None else without_hot_pixels(e, SIZE, hot)
    assert taken[0] == len(e) - len(first)
    second = first if noise_ms is None else without_noise(first, SIZE, 50)
    third, smaller = shrunk(second, SIZE, shrink)
    assert taken[1] == len(first) - len(second) and size == smaller
    assert rows_of(left) == rows_of(thinned(third, smaller, 20))


def test_off_is_the_same_object():
    e = some(20)
    left, size, taken = filtered(e, SIZE, Filters())
    assert left is e and size == SIZE and not taken.any()


def test_an_event_off_the_sensor_is_refused():
    with pytest.raises(DataError, match=r"0\.\.8"):
        filtered(events([(0, 9, 0, 0)]), SIZE, Filters(shrink=2))
