"""Clips of which only the timing is left, by hand and through a run; clips played backwards."""

import numpy as np
import pytest

from snndelay.data.audio.shd import Reading, ShdFile
from snndelay.data.audio.timing import backwards, changed, evenly
from snndelay.data.catalog import open_clips
from snndelay.data.events import Clips

from ...helpers_training import write_tiny


def clips_of(*clips: list[tuple[int, int]]) -> Clips:
    """Clips from lists of (time, unit)."""
    rows = np.array([row for clip in clips for row in clip], np.int64).reshape(-1, 2)
    size = [len(clip) for clip in clips]
    return Clips(rows[:, 0], rows[:, 1].astype(np.uint16), np.cumsum([0, *size]))


def rows(clips: Clips, i: int = 0) -> list[tuple[int, int]]:
    events = clips.events(i)
    return sorted(zip(events.t_us.tolist(), events.x.tolist(), strict=True))


def test_many_events_are_thinned_and_few_repeated():
    got = evenly(clips_of([(t, 0) for t in (50, 10, 40, 20, 30)] + [(7, 1)]), 3, 2)
    assert rows(got) == [(7, 1), (7, 1), (7, 1), (10, 0), (30, 0), (50, 0)]


def test_a_unit_without_events_takes_those_of_the_nearest():
    got = rows(evenly(clips_of([(10, 1), (30, 3)]), 1, 6))
    assert got == [(10, 0), (10, 1), (10, 2), (30, 3), (30, 4), (30, 5)]


def some_clips(seed: int) -> list[list[tuple[int, int]]]:
    """Four clips of 0 to 19 events of nine units."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 20, 4)
    return [[(int(e[0]), int(e[1])) for e in rng.integers(0, [1000, 9], (n, 2))] for n in sizes]


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_every_unit_has_exactly_so_many_events_at_times_of_the_clip(seed, n):
    lists = [*some_clips(seed), []]
    clips = clips_of(*lists)
    got = evenly(clips, n, 9)
    for i, events in enumerate(lists):
        count = np.bincount(got.events(i).x, minlength=9)
        assert (count == (n if events else 0)).all(), f"clip {i} has counts {count}"
        assert set(got.events(i).t_us) <= {t for t, _ in events}


@pytest.mark.parametrize("seed", range(5))
def test_backwards_twice_is_as_before(seed):
    lists = [[], *some_clips(seed)]
    clips = clips_of(*lists)
    once = backwards(clips)
    assert [rows(backwards(once), i) for i in range(len(clips))] == [
        rows(clips, i) for i in range(len(clips))
    ]
    for i, events in enumerate(filter(None, lists)):
        first, last = min(events)[0], max(events)[0]
        want = sorted((first + last - t, unit) for t, unit in events)
        assert rows(once.take(np.flatnonzero(np.diff(once.offsets))), i) == want


@pytest.mark.parametrize("in_memory_bytes", [2**20, 0])
def test_files_are_changed_wherever_they_are_read(tmp_path, in_memory_bytes):
    path = write_tiny(tmp_path / "a.h5")
    plain = ShdFile(path).whole()
    file = ShdFile(path, in_memory_bytes=in_memory_bytes)
    file = file.read_as(Reading(spikes_per_unit=2, reverse=True))
    want = changed(plain, 2, True, 700)
    for got in (file.whole(), file.between(0, 12)):
        assert np.array_equal(got.t_us, want.t_us) and np.array_equal(got.x, want.x)
    assert np.array_equal(file.events(7).t_us, want.events(7).t_us)
    assert file.most_events >= len(want.t_us)


def test_sets_in_memory_are_changed_too():
    reading = Reading(spikes_per_unit=1, reverse=True)
    clips = open_clips("spoken-digits", split="test", reading=reading).whole()
    plain = open_clips("spoken-digits", split="test").whole()
    assert np.array_equal(clips.t_us, changed(plain, 1, True, 700).t_us)
    assert (np.diff(clips.offsets) == 700).all()
