"""Windows of clips: every event in every window that covers it, parents kept together."""

import numpy as np
import pytest

from snndelay.data.audio.sets import ClipSet
from snndelay.data.audio.windows import cut
from snndelay.data.events import Clips
from snndelay.errors import DataError


def clip_set(sizes, longest_us=2_000_000, seed=0, names=None):
    rng, n = np.random.default_rng(seed), sum(sizes)
    t_us, x = rng.integers(0, longest_us, n), rng.integers(0, 700, n).astype(np.uint16)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    labels, speakers = np.arange(len(sizes)) % 3, np.arange(len(sizes)) + 10
    clips = Clips(t_us, x, offsets)
    return ClipSet("a.h5", clips, labels, ["a", "b", "c"], speakers, names=names)


def brute(clips, window_ms, overlap):
    """(clip, window) -> its events as sorted pairs, event by event."""
    length, step = round(window_ms * 1000), round(window_ms * 1000 * (1 - overlap))
    found = {}
    for i in range(len(clips)):
        events, k = clips[i][0], 0
        while len(events):
            t = events.t_us - k * step
            inside = (t >= 0) & (t < length)
            if inside.any():
                found[i, k] = sorted(
                    zip(t[inside].tolist(), events.x[inside].tolist(), strict=True)
                )
            if k * step + length > events.t_us.max():
                break
            k += 1
    return found


@pytest.mark.parametrize(
    ("window_ms", "overlap"), [(100, 0.0), (100, 0.5), (300, 0.9), (5000, 0.3)]
)
@pytest.mark.parametrize("sizes", [[1, 30, 7], [200], [3, 1, 1, 60]])
def test_windows_hold_the_events_that_they_cover(sizes, window_ms, overlap):
    clips = clip_set(sizes)
    made, said = cut(clips, window_ms, overlap)
    wanted = brute(clips, window_ms, overlap)
    names = [f"a.h5:{i}, window {k}" for i, k in wanted]
    assert [made.identity(k) for k in range(len(made))] == names
    for k, ((i, _), pairs) in enumerate(wanted.items()):
        events, label, _ = made[k]
        found = sorted(zip(events.t_us.tolist(), events.x.tolist(), strict=True))
        assert found == pairs, f"{names[k]}: {found[:5]} instead of {pairs[:5]}"
        assert label == clips.labels[i] and made.speakers[k] == clips.speakers[i]
    assert f"{len(clips)} clips are cut into {len(wanted)} windows of {window_ms} ms" in said
    if overlap == 0:
        assert made.source.offsets[-1] == sum(sizes), "events are lost or doubled"


def test_silence_between_is_left_out_and_said():
    t_us = np.array([0, 950_000])
    clips = ClipSet("a", Clips(t_us, t_us * 0, np.array([0, 2])), np.zeros(1, int), ["a"], None)
    made, said = cut(clips, 100)
    assert len(made) == 2 and "8 more hold no event and are left out" in said


def test_a_clip_without_events_stays_for_whoever_looks_for_bad_ones():
    clips = clip_set([4, 0, 2])
    clips.source.bad[1] = "damaged"
    made, _ = cut(clips.subset(np.array([1, 2])), 10_000)
    assert len(made) == 2 and len(made[0][0]) == 0
    assert made.why_bad(0) == "damaged" and made.why_bad(1) is None


def test_a_subset_keeps_the_names_of_its_parents():
    made, _ = cut(clip_set([4, 3, 2], names=["x", "y", "z"]).subset(np.array([2, 0])), 10_000)
    assert [made.identity(k) for k in (0, 1)] == ["z, window 0", "x, window 0"]
    assert made.subset(np.array([1])).identity(0) == "x, window 0"


def test_a_wrong_clock_is_found_before_memory_is_full():
    with pytest.raises(DataError, match=r"windows of 1 ms the clips become .*--time-unit"):
        cut(clip_set([3], longest_us=10**14), 1)
