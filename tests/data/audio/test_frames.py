import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snndelay.data.audio.flat import BadClip, compact, flat, pieces
from snndelay.data.audio.frames import (
    MAX_STEPS,
    Framing,
    batch_frames,
    batch_steps,
    frames,
    n_channels,
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
    st.sampled_from(["grid", "event"]),
    st.randoms(use_true_random=False),
)
@settings(max_examples=100, deadline=None)
def test_a_batch_is_its_clips_side_by_side(pairs, dt_us, n_steps, framing, random):
    """The frames of each clip alone, of its living events only, and zeros after its end."""
    clips = [events(p) for p in pairs]
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
