import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snndelay.data.events import MAX_STEPS, Events
from snndelay.data.vision.frames import frames
from snndelay.errors import DataError

SIZE = (6, 9)
EVENT = st.tuples(st.integers(0, 400_000), st.integers(0, 8), st.integers(0, 5), st.integers(0, 1))
ROWS = st.lists(EVENT, min_size=1, max_size=60)
FRAMINGS = st.sampled_from(
    [
        {"framing": "time_bins"},
        {"framing": "time_bins", "n_steps": 1},
        {"framing": "time_bins", "n_steps": 7, "duration_us": 400_001},
        {"framing": "event_count", "n_steps": 4},
        {"framing": "event_count", "n_steps": None, "events_per_step": 7},
        {"framing": "time_window", "n_steps": None, "dt_us": 10_000},
        {"framing": "time_window", "n_steps": 41, "dt_us": 10_000},
    ]
)


def events(rows) -> Events:
    """Events of rows (t_us, x, y, p), times int64, the rest small as a reader gives it."""
    t_us = np.array([row[0] for row in rows], np.int64)
    return Events(t_us, *(np.array([row[i] for row in rows], np.int16) for i in (1, 2, 3)))


def at(*t_us) -> Events:
    """Events of one pixel at these times."""
    return events([(t, 0, 0, 0) for t in t_us])


def per_step(e: Events, **options) -> list:
    """Events in each step."""
    return frames(e, SIZE, **options).sum((1, 2, 3)).astype(int).tolist()


def test_small_recording_by_hand():
    e = events([(0, 8, 5, 1), (99, 8, 5, 1), (100, 0, 0, 0), (199, 3, 2, 1)])
    want = np.zeros((2, 2, *SIZE), np.float32)
    want[0, 1, 5, 8], want[1, 0, 0, 0], want[1, 1, 2, 3] = 2, 1, 1
    got = frames(e, SIZE, "time_window", n_steps=None, dt_us=100)
    assert got.dtype == np.float32
    assert np.array_equal(got, want), f"differs at {np.argwhere(got != want).tolist()}"


@given(ROWS, FRAMINGS)
@settings(max_examples=150, deadline=None)
def test_every_event_is_counted_once_at_its_pixel(rows, options):
    got = frames(events(rows), SIZE, **options)
    want = np.zeros((2, *SIZE), np.float32)
    for _, x, y, p in rows:
        want[p, y, x] += 1
    assert np.array_equal(got.sum(0), want), f"{got.sum()} of {len(rows)} events"


@given(ROWS, st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_bins_against_a_loop_in_exact_fractions(rows, n_steps):
    first, last = min(row[0] for row in rows), max(row[0] for row in rows)
    want = np.zeros((n_steps, 2, *SIZE), np.float32)
    for t, x, y, p in rows:
        step = 0
        while step < n_steps - 1 and (t - first) * n_steps >= (step + 1) * (last - first) > 0:
            step += 1
        want[step, p, y, x] += 1
    got = frames(events(rows), SIZE, n_steps=n_steps)
    assert np.array_equal(got, want), f"differs at {np.argwhere(got != want)[:3].tolist()}"


@given(ROWS, st.integers(1, 12))
@settings(max_examples=100, deadline=None)
def test_the_last_share_takes_what_is_left(rows, n_steps):
    """N // T events each and the rest in the last, as published (SpikingJelly, split by number)."""
    counts, N = per_step(events(rows), framing="event_count", n_steps=n_steps), len(rows)
    if n_steps <= N:
        assert counts == [N // n_steps] * (n_steps - 1) + [N - (n_steps - 1) * (N // n_steps)]
    else:
        assert counts == [1] * N + [0] * (n_steps - N), "one each while there are some"


def test_shares_follow_the_times_and_not_the_file():
    column_is_step = [(i * 10, i // 9, 0, 0) for i in range(27)]
    shuffled = [column_is_step[i] for i in np.random.default_rng(0).permutation(27)]
    got = frames(events(shuffled), SIZE, "event_count", n_steps=3)[:, 0, 0, :3]
    assert np.array_equal(got, 9 * np.eye(3)), got
    same_time = events([(5, i, 0, 0) for i in range(4)])
    got = frames(same_time, SIZE, "event_count", n_steps=2)[:, 0, 0, :4]
    assert got.tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]], "events of one time lost their order"


def test_bins_with_a_count_keep_the_last_event():
    assert per_step(at(0, 10, 20, 30, 40), n_steps=4) == [1, 1, 1, 2]


def test_windows_start_at_zero_and_not_at_the_first_event():
    late = at(25_000, 34_999, 35_000)
    assert per_step(late, framing="time_window", n_steps=None, dt_us=10_000) == [0, 0, 1, 2]
    shifted = {"framing": "time_window", "n_steps": None, "dt_us": 10_000, "t_start_us": 25_000}
    assert per_step(late, **shifted) == [2, 1]
    assert per_step(late, **shifted | {"t_start_us": None}) == [2, 1], "None: the first event"
    nothing = {"framing": "time_window", "n_steps": 2, "dt_us": 10_000, "t_start_us": None}
    assert per_step(at(), **nothing) == [0, 0]


def test_an_empty_step_is_a_frame_of_zeros():
    assert per_step(at(0, 1, 99_999), n_steps=5) == [2, 0, 0, 0, 1]
    assert per_step(at(0, 45_000), framing="time_window", n_steps=None, dt_us=10_000) == [
        1,
        0,
        0,
        0,
        1,
    ]
    assert per_step(at(5, 6), framing="event_count", n_steps=4) == [1, 1, 0, 0]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"framing": "event_count"},
        {"framing": "time_window", "dt_us": 1000},
        {"duration_us": 300_000},
    ],
)
def test_an_empty_recording_keeps_its_axes(options):
    got = frames(at(), SIZE, **options)
    assert got.shape == (10, 2, *SIZE) and got.dtype == np.float32 and not got.any()


def test_events_on_an_edge_belong_to_the_later_step():
    e = at(9_999, 10_000, 19_999, 20_000)
    assert per_step(e, framing="time_window", n_steps=None, dt_us=10_000) == [1, 2, 1]
    assert per_step(e, framing="time_bins", n_steps=3, duration_us=30_000) == [1, 2, 1]


def test_only_the_asked_stretch_counts():
    e = at(0, 10, 20, 30, 40, 50)
    assert per_step(e, n_steps=2, t_start_us=10, duration_us=30) == [2, 1], "40 is outside"
    assert per_step(e, n_steps=2, t_start_us=20) == [2, 2]
    stretch = {"t_start_us": 10, "duration_us": 30}
    assert per_step(e, framing="event_count", n_steps=None, events_per_step=2, **stretch) == [2, 1]


def test_n_steps_cuts_and_fills():
    e = at(0, 15, 25)
    for n_steps, want in ((1, [1]), (2, [1, 1]), (5, [1, 1, 1, 0, 0])):
        assert per_step(e, framing="time_window", n_steps=n_steps, dt_us=10) == want, n_steps
    for n_steps, want in ((1, [2]), (None, [2, 1]), (3, [2, 1, 0])):
        got = per_step(e, framing="event_count", n_steps=n_steps, events_per_step=2)
        assert got == want, f"n_steps {n_steps}"
    late = at(0, 10**15)
    assert per_step(late, framing="time_window", n_steps=3, dt_us=10) == [1, 0, 0]


def test_all_events_at_one_time_fall_into_the_first_bin():
    assert per_step(at(7, 7, 7), n_steps=3) == [3, 0, 0]


@given(ROWS, st.sampled_from([(100_000, 30_000), (50_000, 50_000), (20_000, 70_000)]))
@settings(max_examples=150, deadline=None)
def test_windows_overlap_or_leave_gaps_as_their_stride_says(rows, lengths):
    dt_us, stride_us = lengths
    want, held = np.zeros((7, 2, *SIZE), np.float32), set()
    for i, (t, x, y, p) in enumerate(rows):
        for k in range(7):
            if k * stride_us <= t < k * stride_us + dt_us:
                want[k, p, y, x] += 1
                held.add(i)
    inside = np.zeros(1, np.int64)
    how = {"framing": "time_window", "n_steps": 7, "dt_us": dt_us, "stride_us": stride_us}
    got = frames(events(rows), SIZE, **how, inside=inside)
    assert np.array_equal(got, want), f"differs at {np.argwhere(got != want).tolist()[:5]}"
    assert inside == len(held), f"{inside} events inside, {len(held)} by hand"
    if not any(t % stride_us < dt_us for t, *_ in rows):  # all in gaps: there is no length
        return
    whole = frames(events(rows), SIZE, **how | {"n_steps": None})
    assert len(whole) <= 400_000 // stride_us + 1
    assert np.array_equal(whole[:7], want[: len(whole)]) and not want[len(whole) :].any()


@given(ROWS, FRAMINGS)
@settings(max_examples=50, deadline=None)
def test_events_inside_are_counted(rows, options):
    inside = np.zeros(1, np.int64)
    got = frames(events(rows), SIZE, **options, inside=inside)
    assert inside == got.sum()


def test_grids_are_framed_from_the_asked_start():
    e = events([(30, 1, 2, 1), (40, 1, 2, 1), (95, 0, 0, 0)])
    later = Events(e.t_us + 10**12, e.x, e.y, e.p)
    surface = {"framing": "time_surface", "dt_us": 50, "tau_us": 20.0, "t_start_us": None}
    inside = np.zeros(1, np.int64)
    got = frames(e, SIZE, **surface, n_steps=1, inside=inside)
    assert got[0, 1, 2, 1] == pytest.approx(np.exp(-40 / 20)) and inside == 2
    assert frames(e, SIZE, **surface, n_steps=None).shape == (2, 2, *SIZE)
    for how in (surface, {"framing": "voxel_grid", "t_start_us": None}):
        assert np.array_equal(frames(e, SIZE, **how), frames(later, SIZE, **how)), how
    assert frames(e, SIZE, "voxel_grid", n_steps=4).sum() == pytest.approx(3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"framing": "grid"},
            "unknown framing 'grid': take one of time_bins, event_count, time_window",
        ),
        ({"n_steps": None}, "'time_bins' needs n_steps"),
        ({"framing": "time_window"}, "'time_window' needs dt_us"),
        (
            {"framing": "event_count", "n_steps": None},
            "'event_count' needs n_steps or events_per_step",
        ),
        ({"framing": "time_window", "dt_us": 0}, "dt_us is 0"),
        ({"framing": "time_window", "dt_us": 9, "stride_us": 0}, "stride_us is 0"),
        ({"framing": "time_window", "dt_us": 9000, "stride_us": 8}, "1125 windows .* of 9 us or"),
        ({"framing": "time_surface", "dt_us": 9}, "'time_surface' needs dt_us and tau_us"),
        ({"framing": "voxel_grid", "n_steps": None}, "'voxel_grid' needs n_steps"),
        ({"n_steps": 0}, "n_steps is 0"),
        ({"duration_us": -5}, "duration_us is -5"),
        (
            {"events": at(), "framing": "time_window", "dt_us": 9, "n_steps": None},
            "no events to frame",
        ),
        ({"events": at(MAX_STEPS), "framing": "time_window", "dt_us": 1, "n_steps": None}, "mend"),
        ({"events": events([(0, 9, 0, 0)])}, "0..8"),
        ({"events": events([(0, 0, 6, 0)])}, "0..5"),
        ({"events": Events(np.array([1]), np.array([1]))}, "no recording"),
    ],
)
def test_refusals(change, words):
    with pytest.raises(DataError, match=words):
        frames(**{"events": at(0, 1), "size": SIZE, **change})
