"""Time surfaces and voxel grids against their equations, event by event, and against tonic's."""

import math

import numpy as np
import pytest
import tonic.transforms
from hypothesis import given, settings
from hypothesis import strategies as st

from snndelay.data.events import Events
from snndelay.data.vision.grids import SURFACES, time_surface, voxel_grid

SIZE = (3, 4)
EVENT = st.tuples(st.integers(0, 500), st.integers(0, 3), st.integers(0, 2), st.integers(0, 1))
ROWS = st.lists(EVENT, max_size=50)
CASES = settings(max_examples=150, deadline=None)
TONIC = np.dtype([("t", "<i8"), ("x", "<i8"), ("y", "<i8"), ("p", "<i8")])


def events(rows) -> Events:
    return Events(*np.array(rows, np.int64).reshape(-1, 4).T)


def some(n: int, last_us: int) -> tuple[Events, np.ndarray]:
    """Events from 0 to last_us, and the same for tonic."""
    rng = np.random.default_rng(n)
    t_us = np.sort(rng.integers(0, last_us, n))
    t_us[0], t_us[-1] = 0, last_us
    e = Events(t_us, *(rng.integers(0, k, n) for k in (SIZE[1], SIZE[0], 2)))
    made = np.zeros(n, TONIC)
    made["t"], made["x"], made["y"], made["p"] = e.t_us, e.x, e.y, e.p
    return e, made


def close(got: np.ndarray, want: np.ndarray) -> None:
    worst = np.abs(got - want).max(initial=0)
    assert got.shape == want.shape and worst <= 1e-5, f"differs by {worst}"


@given(ROWS, st.sampled_from(SURFACES), st.sampled_from([(6, 100), (3, 70), (1, 9)]))
@CASES
def test_a_time_surface_is_its_equation(rows, surface, steps):
    T, dt_us = steps
    want = np.zeros((T, 2, *SIZE))
    for k, p, y, x in np.ndindex(*want.shape):
        end = (k + 1) * dt_us
        ages = [end - t for t, *place in rows if t < end and place == [x, y, p]]
        values = [math.exp(-age / 80.0) for age in ages]
        want[k, p, y, x] = sum(values) if surface == "sum" else max(values, default=0)
    close(time_surface(events(rows), SIZE, T, dt_us, 80.0, surface), want)


def test_a_time_surface_is_tonics_but_for_the_last_step():
    """tonic's ToTimesurface leaves out an incomplete last step, which here is one more."""
    e, made = some(300, 1000)
    want = tonic.transforms.ToTimesurface((SIZE[1], SIZE[0], 2), dt=150, tau=90.0)(made)
    assert len(want) == 6
    close(time_surface(e, SIZE, 7, 150, 90.0)[:6], want)


@given(ROWS, st.sampled_from([1, 2, 5, 40]))
@CASES
def test_a_voxel_grid_is_its_equation_and_keeps_every_event(rows, T):
    times = [t for t, *_ in rows]
    first, span = (min(times), max(max(times) - min(times), 1)) if rows else (0, 1)
    want = np.zeros((T, 2, *SIZE))
    for t, x, y, p in rows:
        for k in range(T):
            want[k, p, y, x] += max(0.0, 1 - abs(k - (T - 1) * (t - first) / span))
    got = voxel_grid(events(rows), SIZE, T)
    close(got, want)
    assert got.sum() == pytest.approx(len(rows), abs=1e-3)
    signed = voxel_grid(events(rows), SIZE, T, "signed")
    close(signed[:, 1] - signed[:, 0], want[:, 1] - want[:, 0])
    assert (signed >= 0).all() and not (signed[:, 0] * signed[:, 1]).any()


def test_a_voxel_grid_is_tonics_with_the_end_that_it_drops():
    """tonic's ToVoxelGrid scales times to n bins and drops what lies beyond the last: it is the
    grid of n + 1 points without the last of them."""
    e, made = some(300, 5000)
    want = tonic.transforms.ToVoxelGrid((SIZE[1], SIZE[0], 2), n_time_bins=6)(made)[:, 0]
    got = voxel_grid(e, SIZE, 7, "signed")
    close((got[:, 1] - got[:, 0])[:6], want)
