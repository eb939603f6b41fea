"""Sliding training: p at known points, monotone from 0 to 1, and which samples it replaces."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snndelay.data.vision.loader import Batch
from snndelay.data.vision.sliding import (
    SCHEDULES,
    replaced,
    replacement_probability,
    slide,
)
from snndelay.errors import ConfigError

GROWING = [name for name in SCHEDULES if name != "off"]


def every_probability(epochs, n_batches, **settings):
    """p of every batch of a run, and of the batch after its last one."""
    places = [divmod(i, n_batches) for i in range(epochs * n_batches + 1)]
    return [replacement_probability(e, b, n_batches, epochs, **settings) for e, b in places]


def test_half_way_is_the_published_figure():
    assert replacement_probability(150, 0, 72, 300) == 0.125
    assert replacement_probability(0, 50, 100, 1) == 0.125


@pytest.mark.parametrize(
    ("schedule", "half", "quarter"),
    [("power", 1 / 8, 1 / 64), ("linear", 1 / 2, 1 / 4), ("cosine", 1 / 2, 0.5 - math.sqrt(1 / 8)),
     ("step", 1.0, 0.0), ("off", 0.0, 0.0)],
)  # fmt: skip
def test_every_schedule_at_known_points(schedule, half, quarter):
    p = every_probability(8, 1, schedule=schedule)
    assert p[4] == pytest.approx(half) and p[2] == pytest.approx(quarter)
    assert p[0] == 0


@given(
    st.sampled_from(GROWING), st.integers(1, 9), st.integers(1, 9), st.floats(0.1, 9),
    st.floats(0.05, 1),
)  # fmt: skip
def test_it_grows_from_zero_to_one(schedule, epochs, n_batches, power, end):
    p = every_probability(epochs, n_batches, schedule=schedule, power=power, end=end)
    assert p[0] == 0 and p[-1] == 1
    assert all(0 <= a <= b <= 1 for a, b in itertools.pairwise(p)), p


def test_power_and_end_bend_the_curve():
    assert replacement_probability(5, 0, 7, 10, power=1) == 0.5
    assert replacement_probability(4, 0, 7, 10, end=0.5) == pytest.approx(0.8**3)
    assert replacement_probability(5, 0, 7, 10, end=0.5) == 1
    assert max(every_probability(10, 7, end=2)) == 0.125


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"schedule": "powr"}, "did you mean power"), ({"power": 0}, "above 0"),
     ({"end": 0.0}, "above 0")],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        replacement_probability(0, 0, 1, 1, **settings)


@given(st.integers(0, 2**32), st.integers(0, 300), st.floats(0, 1), st.floats(0, 1))
def test_a_replaced_sample_stays_replaced_at_larger_p(seed, epoch, p, q):
    low, high = (replaced(x, seed, epoch, range(20)) for x in sorted((p, q)))
    assert low.dtype == bool and (low <= high).all()


def test_no_sample_at_zero_every_sample_at_one():
    draw_B = np.arange(200)
    assert not replaced(0.0, 0, 0, draw_B).any() and replaced(1.0, 0, 0, draw_B).all()


def test_the_choice_depends_on_seed_epoch_and_index_only():
    draw_B = np.random.default_rng(0).permutation(500)
    first = replaced(0.5, 3, 7, draw_B)
    assert (replaced(0.5, 3, 7, draw_B[::-1])[::-1] == first).all(), "the order matters"
    assert (replaced(0.5, 3, 7, draw_B[40:60]) == first[40:60]).all(), "the batch matters"
    for other in (replaced(0.5, 4, 7, draw_B), replaced(0.5, 3, 8, draw_B)):
        agree = (other == first).mean()
        assert 0.4 < agree < 0.6, f"{agree:.0%} of the choices agree with another seed or epoch"


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_of_replaced_samples_is_p(p):
    share = replaced(p, 0, 0, np.arange(4000)).mean()
    error = (p * (1 - p) / 4000) ** 0.5
    assert abs(share - p) < 4 * error, f"{share:.3f} instead of {p}"


def test_chosen_samples_show_their_own_events():
    x, static = torch.rand(2, 3, 1, 5, 6, 2).permute(0, 1, 2, 5, 3, 4).unbind(0)
    x, static = (torch.cat([part] * 8, 1) for part in (x, static))
    draw_B = torch.arange(40, 48)
    batch = Batch(x, static, torch.zeros(8, dtype=torch.int64), draw_B - 40, draw_B)
    for p in (0.0, 0.4, 1.0):
        got, chosen = slide(batch, p, 3, 1), replaced(p, 3, 1, draw_B.numpy())
        assert got.x is x and got.static.stride() == static.stride()
        for b in range(8):
            want = (x if chosen[b] else static)[:, b]
            assert torch.equal(got.static[:, b], want), f"p {p}, sample {b}"
    assert slide(batch, 0.0, 3, 1) is batch
    alone = batch._replace(static=None)
    assert slide(alone, 1.0, 3, 1) is alone, "there is nothing to replace"
