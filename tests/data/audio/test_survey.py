"""Bad clips and clocks are found before anything trains, and events in the frames are counted."""

import h5py
import numpy as np
import pytest

from snndelay.data.audio.frames import FRAMINGS, Framing, frames
from snndelay.data.audio.sets import ClipSet
from snndelay.data.audio.shd import AS_STORED, Reading
from snndelay.data.audio.survey import coverage, few_units, left_out, survey, usable
from snndelay.data.catalog import open_clips
from snndelay.data.events import Clips
from snndelay.errors import DataError, EventFormatError

from ...helpers_data import clips_s, write_file

GRID = Framing(10_000, 5, 700, 100)
WHOLE, CLIP_BY_CLIP = 2**30, 0


def opened(folder, times, units, reading=AS_STORED, dtype=np.float64):
    """A set of clips with these times and units, a list of arrays each."""
    path = folder / "a.h5"
    write_file(path, [np.zeros(0, np.float16)] * len(times), units)
    with h5py.File(path, "a") as file:
        del file["spikes/times"]
        stored = file.create_dataset("spikes/times", (len(times),), h5py.vlen_dtype(dtype))
        for i, t in enumerate(times):
            stored[i] = np.asarray(t).astype(dtype)
    return open_clips(str(path), reading=reading)


def one_second(n=8, seed=0):
    rng = np.random.default_rng(seed)
    times = [np.sort(rng.uniform(0, 0.6, 60)) for _ in range(n)]
    return times, [rng.integers(0, 700, 60) for _ in range(n)]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("n_steps", [None, 20])
@pytest.mark.parametrize("in_memory_bytes", [WHOLE, CLIP_BY_CLIP])
def test_counts_are_those_of_the_frames(tmp_path, framing, n_steps, in_memory_bytes):
    times, units = clips_s(13)
    clips = open_clips(str(write_file(tmp_path / "a.h5", times, units)))
    clips.source.in_memory_bytes = in_memory_bytes
    clips = clips.subset(np.array([5, 2, 12, 7]))
    how = Framing(10_000, 5, 700, n_steps, framing)
    for stored in (None, clips.whole()):
        found = survey(clips, how, stored)
        for i in range(4):
            events = clips[i][0]
            inside = frames(events, 10_000, 5, 700, n_steps, framing).sum()
            whole = len(frames(events, 10_000, 5, 700, None, framing))
            want = (len(events), inside, whole, events.t_us.min(), events.t_us.max())
            assert tuple(column[i] for column in found[:5]) == want, f"clip {i} of {found}"
    share = coverage(found, how, "test").share
    assert share == found.n_inside.sum() / found.n_events.sum()
    assert (share == 1) == (n_steps is None), "20 steps hold a part of the events"


@pytest.mark.parametrize(
    ("scale", "start_s", "words"),
    [
        (
            1e3,
            0,
            "which end at 1 s: its 60 events lie at .*look like milliseconds, see --time-unit ms",
        ),
        (1e6, 0, "look like microseconds, see --time-unit us"),
        (1, 5, r"5\.\d+ s, the clock starts at 5\.\d+ s, see --time-zero first-event"),
        (1e3, 5, "look like milliseconds, the clock .* --time-unit ms and --time-zero first-event"),
        (1, 1.7e9, "over 30 years: give --time-zero first-event if it is a date"),
    ],
)
def test_a_clock_that_leaves_clips_empty_is_named_and_can_be_mended(
    tmp_path, scale, start_s, words
):
    times, units = one_second()
    strange = [(t + start_s) * scale for t in times]
    clips = opened(tmp_path, strange, units)
    with pytest.raises((DataError, EventFormatError), match=words):
        usable(clips, survey(clips, GRID), skip_bad=False)
    unit = {1: "s", 1e3: "ms", 1e6: "us"}[scale]
    zero = "first-event" if start_s else "file"
    mended = opened(tmp_path, strange, units, Reading(unit, zero))
    found = survey(mended, GRID)
    assert coverage(found, GRID, "test") == ("test", 480, 480, ""), found
    for i, t in enumerate(times):
        want = np.rint(1e6 * (t - t.min() if start_s else t))
        assert np.abs(mended[i][0].t_us - want).max() <= 1, f"clip {i}"


@pytest.mark.parametrize(
    ("scale", "start_s", "framing", "hint"),
    [
        (1, 0, "grid", ""),
        (1e3, 0, "grid", "times look like milliseconds, see --time-unit ms"),
        (1e3, 0, "event", "times look like milliseconds, see --time-unit ms"),
        (1, 5, "event", ""),
        (1, 5, "event-published", "the clock starts at 5.005 s, see --time-zero first-event"),
        (1e-3, 0, "grid", "most clips lie in a single frame of 10 ms, see --time-unit"),
    ],
)
def test_frames_of_any_number_say_what_is_odd(tmp_path, scale, start_s, framing, hint):
    times, units = one_second()
    clips = opened(tmp_path, [(t + start_s) * scale for t in times], units)
    how = GRID._replace(framing=framing, n_steps=None)
    found = survey(clips, how)
    assert not found.why
    assert coverage(found, how, "test").hint == hint


@pytest.mark.parametrize(
    ("scale", "start_s", "words"),
    [
        (1, 40, "too late for framing event-published, .* see --time-zero first-event"),
        (1e3, 0, "look like milliseconds, see --time-unit ms"),
    ],
)
def test_published_frames_that_end_too_early_say_how_to_mend_it(tmp_path, scale, start_s, words):
    times, units = one_second()
    clips = opened(tmp_path, [(t + start_s) * scale for t in times], units)
    how = GRID._replace(framing="event-published", n_steps=None)
    with pytest.raises(DataError, match=words):
        usable(clips, survey(clips, how), skip_bad=False)


def test_a_gap_is_told(tmp_path):
    times, units = one_second()
    clips = opened(tmp_path, [np.where(t > 0.3, t + 3, t) for t in times], units)
    part = coverage(survey(clips, GRID), GRID, "test")
    assert part.n_inside == sum((t <= 0.3).sum() for t in times)
    assert part.hint.endswith("frames or more, see --n-steps"), part


def test_whole_numbers_are_no_seconds(tmp_path):
    times, units = one_second()
    with pytest.raises(EventFormatError, match="whole numbers, no seconds: give --time-unit"):
        survey(opened(tmp_path, [1e3 * t for t in times], units, dtype=np.int32), GRID)
    clips = opened(tmp_path, [1e3 * t for t in times], units, Reading("ms"), np.int32)
    assert np.array_equal(clips[3][0].t_us, (1e3 * times[3]).astype(np.int64) * 1000)


def with_bad_clips():
    """12 clips: 2 without events, 5 with a unit off the axis, 7 late, 8 with a unit too few."""
    times, units = one_second(12)
    times[2], units[2], times[7] = times[2][:0], units[2][:0], times[7] + 4
    units[5][9], units[8] = 700, units[8][1:]
    return times, units


@pytest.mark.parametrize("in_memory_bytes", [WHOLE, CLIP_BY_CLIP])
def test_bad_clips_are_left_out_and_counted(tmp_path, in_memory_bytes):
    clips = opened(tmp_path, *with_bad_clips(), Reading(skip_bad=True))
    clips.source.in_memory_bytes = in_memory_bytes
    found = survey(clips, GRID)
    reasons = {2: "no events", 5: "outside 0..699", 7: "no event lies in", 8: "60 times but 59"}
    assert sorted(found.why) == sorted(reasons), found.why
    for i, words in reasons.items():
        assert words in found.why[i], f"clip {i}: {found.why[i]}"
    good = usable(clips, found, skip_bad=True)
    assert good.tolist() == [0, 1, 3, 4, 6, 9, 10, 11]
    assert coverage(found, GRID, "test").n_events == 8 * 60
    text = left_out(clips, found, "test")
    assert text.startswith("left out 4 of 12 test clips") and "a.h5:2: the clip has no" in text, (
        text
    )
    assert survey(clips.subset(good), GRID).why == {}


def test_the_first_bad_clip_is_named_with_the_way_out(tmp_path):
    times, units = one_second(12)
    times[4], times[9] = times[4][:0], times[9][:0]
    units[4], units[9] = units[4][:0], units[9][:0]
    clips = opened(tmp_path, times, units)
    words = r"a\.h5:4: the clip has no events; 1 more of 12 clips .* --skip-bad"
    with pytest.raises(DataError, match=words):
        usable(clips, survey(clips, GRID), skip_bad=False)
    bad = clips.subset(np.array([4, 9]))
    with pytest.raises(DataError, match="none of the 2 clips of"):
        usable(bad, survey(bad, GRID), skip_bad=True)


@pytest.mark.parametrize("in_memory_bytes", [WHOLE, CLIP_BY_CLIP])
def test_a_damaged_clip_is_named_with_the_way_out(tmp_path, in_memory_bytes):
    times, units = one_second(12)
    units[5][9] = 700
    clips = opened(tmp_path, times, units)
    clips.source.in_memory_bytes = in_memory_bytes
    with pytest.raises(EventFormatError, match=r"a\.h5, clip 5: a unit .* with --skip-bad"):
        survey(clips, GRID)


def test_sets_in_memory_have_their_own_clock():
    with pytest.raises(DataError, match="leave out --time-unit"):
        open_clips("spoken-digits", reading=Reading("ms"))
    open_clips("spoken-digits", reading=Reading(skip_bad=True))


@pytest.mark.parametrize(("unit", "said"), [(349, 1), (350, 0)])
def test_units_that_never_fire_are_told(unit, said):
    x = np.array([3, unit, 0], np.uint16)
    clips = ClipSet("a", Clips(x.astype(int), x, np.array([0, 1, 3])), x[:2] * 0, ["a"], None)
    how = Framing(10_000)
    found = few_units(survey(clips, how), how, "training")
    assert len(found) == said, found
    assert not found or "only the first 350 of 700 units fire, see --n-units" in found[0]
