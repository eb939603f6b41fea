import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snndelay.data.audio.flat import BadClip, compact, flat, pieces
from snndelay.data.audio.frames import (
    FRAMINGS,
    MAX_STEPS,
    TICKS,
    Framing,
    batch_frames,
    batch_steps,
    frames,
    n_channels,
    published_step,
)
from snndelay.data.events import Events
from snndelay.errors import DataError

CLIPS = st.lists(st.tuples(st.integers(0, 400_000), st.integers(0, 699)), min_size=1, max_size=80)


def events(pairs):
    t, x = zip(*pairs, strict=True)
    return Events(np.array(t, np.int64), np.array(x, np.uint16))


def test_small_grid_by_hand():
    e = events([(0, 0), (9_999, 4), (10_000, 5), (29_999, 699), (30_000, 699), (5, 1)])
    x_TC = frames(e, 10_000, units_per_channel=5)
    want = np.zeros((4, 140), np.float32)
    want[0, 0], want[1, 1], want[2, 139], want[3, 139] = 3, 1, 1, 1
    assert x_TC.dtype == np.float32
    assert np.array_equal(x_TC, want), f"differs at {np.argwhere(x_TC != want).tolist()}"


def test_n_steps_cuts_and_pads():
    e = events([(0, 0), (15_000, 0), (25_000, 0)])
    for n_steps, want in ((1, [1]), (2, [1, 1]), (5, [1, 1, 1, 0, 0])):
        got = frames(e, 10_000, units_per_channel=700, n_steps=n_steps)[:, 0]
        assert got.tolist() == want, f"n_steps {n_steps}: {got}"


@given(CLIPS, st.sampled_from([1, 4, 5, 7, 700]), st.integers(500, 50_000), st.booleans())
@settings(max_examples=100, deadline=None)
def test_every_event_is_counted_once(pairs, units_per_channel, dt_us, anchored):
    x_TC = frames(events(pairs), dt_us, units_per_channel, framing="event" if anchored else "grid")
    assert x_TC.sum() == len(pairs), f"{x_TC.sum()} of {len(pairs)} events"
    channels = np.bincount(
        [x // units_per_channel for _, x in pairs], minlength=700 // units_per_channel
    )
    assert np.array_equal(x_TC.sum(0), channels), "an event is in the wrong channel"
    assert x_TC[-1].sum() > 0, "T is longer than the clip"


@given(CLIPS, st.integers(500, 50_000), st.one_of(st.none(), st.integers(1, 20)))
@settings(max_examples=100, deadline=None)
def test_anchored_frames_against_a_loop(pairs, dt_us, n_steps):
    want, start = [], None
    for t, x in sorted(pairs):
        if start is None or t >= start + dt_us:
            start = t
            want.append(np.zeros(140, np.float32))
        want[-1][x // 5] += 1
    want = np.array(want)[:n_steps]
    if n_steps is not None:
        want = np.pad(want, ((0, n_steps - len(want)), (0, 0)))
    got = frames(events(pairs), dt_us, 5, n_steps=n_steps, framing="event")
    assert np.array_equal(got, want), f"{got.shape} {want.shape}"


def published_steps(t_s, duration_ms):
    """Step of every event, from ascending float16 seconds. The original (SpikingJelly of 2023, as
    mended for these runs in its issue 361) takes the time of every event in float16 milliseconds,
    and a step goes on while that minus the time of its first event, float16 too, is no more than
    the duration."""
    t_ms = (t_s * np.float16(1000)).astype(np.float16)
    step, first, k = np.zeros(len(t_ms), int), t_ms[0], 0
    for i, t in enumerate(t_ms):
        if np.float16(t - first) > duration_ms:
            first, k = t, k + 1
        step[i] = k
    return step


@given(
    st.lists(st.integers(1_000, 1_400_000), min_size=1, max_size=300),
    st.sampled_from([1, 4, 7, 10, 25]),
)
@settings(max_examples=100, deadline=None)
def test_published_frames_against_float16_arithmetic(t_us, dt_ms):
    t_s = (np.sort(t_us) / 1e6).astype(np.float16)
    read = np.rint(t_s.astype(np.float64) * 1e6).astype(np.int64)  # as the reader of files has them
    unit = np.arange(len(t_s)) % 700
    step = published_steps(t_s, dt_ms)
    want = np.zeros((step[-1] + 1, 700), np.float32)
    np.add.at(want, (step, unit), 1)
    got = frames(Events(read, unit), 1000 * dt_ms, framing="event-published")
    assert np.array_equal(got, want), f"steps {got.sum(1)} instead of {want.sum(1)}"


def test_published_and_exact_frames_differ_by_hand():
    # 0.7 and 0.71 s are 700 and 710 ms in float16, 10 ms later is no new step yet; 0.5105 s is
    # 510.5 ms, and 0.5205 s is 520.5 ms: all steps of 0.5 ms
    e = events([(700_000, 0), (710_000, 0), (710_700, 0)])
    for framing, want in (("event", [1, 2]), ("event-published", [2, 1])):
        got = frames(e, 10_000, 700, framing=framing)[:, 0].tolist()
        assert got == want, f"{framing}: {got}"


@given(st.integers(1, 2_000_000))
@settings(max_examples=200, deadline=None)
def test_a_published_step_is_the_first_longer_difference(dt_us):
    ticks = published_step(dt_us)
    longer, not_longer = (np.float16(n / TICKS) for n in (ticks, ticks - 1))
    assert float(longer) > dt_us / 1000 >= float(not_longer), f"{not_longer} {longer}"


def test_anchored_boundary_goes_to_the_next_frame_and_silence_vanishes():
    e = events([(3_000, 0), (12_999, 1), (13_000, 2), (900_000, 3)])
    got = frames(e, 10_000, units_per_channel=1, framing="event")
    assert [np.flatnonzero(row).tolist() for row in got] == [[0, 1], [2], [3]]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"units_per_channel": 3}, "does not divide 700"),
        ({"units_per_channel": 0}, "does not divide"),
        ({"dt_us": 0}, "at least 1 us"),
        ({"events": Events(np.empty(0, np.int64), np.empty(0, np.uint16))}, "no events"),
        ({"events": events([(0, 700)])}, "0..699"),
        ({"events": events([(MAX_STEPS * 10_000, 0)])}, "n_steps"),
        ({"events": events([(33_000_000, 0)]), "framing": "event-published"}, "at 33 s, too late"),
        ({"events": events([(10_000, 0)]), "n_steps": 1}, "no event lies in the frames"),
        ({"dt_us": 33_000_000, "framing": "event-published"}, "it can be 32768 ms"),
    ],
)
def test_refusals(change, word):
    with pytest.raises(DataError, match=word):
        frames(**{"events": events([(0, 0)]), "dt_us": 10_000, "units_per_channel": 5, **change})


def test_long_clip_with_n_steps_is_fine():
    e = events([(0, 0), (10**15, 0)])
    assert frames(e, 10_000, 5, n_steps=3).sum() == 1, "the late event is to be cut"
    assert n_channels(700, 5) == 140


def batch_of(clips):
    """The clips of a batch, as `Flat`."""
    size = np.array([len(e) for e in clips])
    t_us, x = (np.concatenate([getattr(e, part) for e in clips]) for part in ("t_us", "x"))
    made = pieces(np.arange(len(clips)), None)
    return flat(*compact(t_us, x, 700), made, size, size)


@given(
    st.lists(CLIPS, min_size=1, max_size=5),
    st.integers(500, 50_000),
    st.one_of(st.none(), st.integers(1, 20)),
    st.sampled_from(FRAMINGS),
    st.randoms(use_true_random=False),
)
@settings(max_examples=100, deadline=None)
def test_a_batch_is_its_clips_side_by_side(pairs, dt_us, n_steps, framing, random):
    """The frames of each clip alone, of its living events only, and zeros after its end."""
    clips = [events([(0, 0), *p]) for p in pairs]
    batch, how = batch_of(clips), Framing(dt_us, 5, 700, n_steps, framing)
    alive = np.array([random.random() < 0.7 for _ in range(len(batch.t_us))])
    alive[batch.begin.numpy()] = True  # no clip becomes empty
    batch = batch.only(torch.from_numpy(alive))
    x_TBC, steps_B = batch_frames(batch, how).numpy(), batch_steps(batch, how)
    alone = []
    for b, clip in enumerate(clips):
        living = clip.select(alive[batch.clip.numpy() == b])
        alone.append(frames(living, dt_us, 5, 700, n_steps, framing))
        want = alone[-1]
        assert np.array_equal(x_TBC[: len(want), b], want), f"clip {b} of {len(clips)}"
        assert not x_TBC[len(want) :, b].any(), f"clip {b} goes on after its end"
        T = len(frames(living, dt_us, 5, 700, None, framing))
        assert steps_B[b] == T, f"clip {b} has {T} steps, not {steps_B[b]}"
    assert len(x_TBC) == max(map(len, alone))


def test_the_clip_that_is_too_long_is_named():
    batch = batch_of([events([(0, 0)]), events([(MAX_STEPS * 1000, 0)])])
    with pytest.raises(BadClip, match="set n_steps") as caught:
        batch_frames(batch, Framing(1000))
    assert caught.value.piece == 1
