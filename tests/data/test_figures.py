"""Figures of tiny sets against values computed by hand."""

import itertools
import tracemalloc

import numpy as np
import pytest

from snndelay.data import figures
from snndelay.data.audio import frames as audio_frames
from snndelay.data.audio.shd import Reading, write_shd
from snndelay.data.catalog import open_clips
from snndelay.data.events import Events
from snndelay.data.figures import chosen, clip_figures, digests, hot, recording_figures, same_events
from snndelay.data.vision.atis import write_atis
from snndelay.data.vision.filters import Filters
from snndelay.data.vision.folder import open_folder
from snndelay.data.vision.framing import Framing

from ..helpers_data import write_file


def clip(times_ms: list[int], units: list[int]) -> Events:
    return Events(np.array(times_ms, np.int64) * 1000, np.array(units, np.int64))


CLIPS = [
    clip([0, 500, 1000], [1, 2, 2]),
    clip([], []),
    clip([300, 100], [2, 699]),  # not in order of time
    clip([100, 300], [699, 2]),  # the same
    clip([5000, 5100], [0, 0]),  # after the frames
]


@pytest.fixture
def clips(tmp_path):
    path = tmp_path / "a.h5"
    write_shd(path, CLIPS, [0, 0, 1, 1, 1], ["a", "b"])
    return open_clips(str(path), reading=Reading(skip_bad=True))


def test_figures_of_clips_are_those_computed_by_hand(clips):
    steps = []
    found = clip_figures(
        "training", clips, audio_frames.Framing(10_000, n_steps=100), None, steps.append
    )
    assert found.n_events.tolist() == [3, 0, 2, 2, 2]
    assert found.n_inside.tolist() == [2, 0, 2, 2, 0]  # 1000 ms is the first step outside
    assert found.duration_s.tolist() == pytest.approx([1.0, 0.2, 0.2, 0.1], rel=1e-5)
    assert found.rate_s.tolist() == pytest.approx([3, 10, 10, 20], rel=1e-5)
    assert {i: int(n) for i, n in enumerate(found.counts) if n} == {0: 2, 1: 1, 2: 4, 699: 2}
    assert found.bad.keys() == {1, 4} and "no events" in found.bad[1]
    assert "which end at 1 s" in found.bad[4]
    assert same_events([found]) == [[(0, 2), (0, 3)]]
    assert found.held is not None and found.held[:3] == ("training", 6, 7)
    assert {label: place for label, (place, _) in found.shown.items()} == {0: 0, 1: 2}
    assert sum(steps) == 5


def test_a_part_of_the_clips_gives_the_same_figures(tmp_path, clips, monkeypatch):
    how, place = audio_frames.Framing(10_000, n_steps=100), np.array([0, 2, 4])
    monkeypatch.setattr(figures, "chosen", lambda n, most: place)
    some = clip_figures("training", clips, how, 3)
    monkeypatch.undo()
    whole = clip_figures("training", clips, how)
    for name in ("n_events", "n_inside", "first_us", "last_us", "digest"):
        assert np.array_equal(getattr(some, name), getattr(whole, name)[place]), name
    assert some.bad == {4: whole.bad[4]}


def test_damaged_clips_are_named_and_the_others_counted(tmp_path):
    times, units = [[0.1, 0.2], [0.1, np.nan], [0.3]], [[5, 6], [5, 6], [700]]
    path = write_file(tmp_path / "a.h5", times, units, [0, 1, 2])
    clips = open_clips(str(path), reading=Reading(skip_bad=True))
    for most in (None, 1):
        found = clip_figures("all", clips, audio_frames.Framing(10_000), most)
        assert found.n_events[0] == 2 and found.counts.sum() == 2
    found = clip_figures("all", clips, audio_frames.Framing(10_000))
    assert found.bad.keys() == {1, 2} and "not finite" in found.bad[1]


def recording(t_ms, x, y, p) -> Events:
    return Events(np.array(t_ms) * 1000, *(np.array(part) for part in (x, y, p)))


@pytest.fixture
def folder(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
    write_atis(tmp_path / "a/1.bin", recording([0, 10, 40], [0, 1, 1], [0, 2, 2], [0, 1, 1]))
    write_atis(tmp_path / "a/2.bin", recording([25, 45], [3, 3], [0, 0], [1, 1]))
    (tmp_path / "b/1.bin").write_bytes(b"123")
    (tmp_path / "b/2.bin").write_bytes(b"")
    write_atis(tmp_path / "b/3.bin", recording([25, 45], [3, 3], [0, 0], [1, 1]))
    return open_folder(tmp_path, (3, 4))


@pytest.mark.parametrize(
    ("framing", "inside"),
    [
        (Framing(), [3, 2, 0, 0, 2]),
        (Framing("time_window", 3, 10.0), [2, 1, 0, 0, 1]),
        (Framing("time_window", 3, 10.0, time_zero="first-event"), [2, 2, 0, 0, 2]),
        (Framing("event_count", 2, events_per_step=1), [2, 2, 0, 0, 2]),
    ],
)
def test_figures_of_recordings_are_those_computed_by_hand(folder, framing, inside):
    found = recording_figures("all", folder, framing)
    assert found.n_events.tolist() == [3, 2, 0, 0, 2]
    assert found.n_inside.tolist() == inside
    assert found.counts.tolist() == [[1, 0, 0, 4], [0, 0, 0, 0], [0, 2, 0, 0]]
    assert found.n_on == 6 and found.duration_s.tolist() == [0.04, 0.02, 0.02]
    assert found.bad.keys() == {2, 3} and "5-byte record" in found.bad[2]
    assert found.bad[3] == "b/2: the recording has no events"
    assert same_events([found]) == [[(0, 1), (0, 4)]]
    assert found.held is not None and found.held[1:3] == (sum(inside), 7)
    assert bool(found.held.hint) == (sum(inside) < 7)


def test_the_share_of_the_frames_is_that_of_a_run(folder):
    from snndelay.data.vision.loader import recording_frames

    framing, good = Framing("time_window", 3, 10.0), folder.subset(np.array([0, 1, 4]))
    held = recording_frames(good, framing, None).held
    found = recording_figures("all", good, framing).held
    assert held is not None and found is not None and held[1:3] == found[1:3]


def test_what_filters_take_is_not_lost_in_the_frames(folder):
    from snndelay.data.vision.loader import recording_frames
    from snndelay.runs.look_told import told

    framing, good = Framing(filters=Filters(thin_ms=1000.0, hot_pixels=9.0)), np.array([0, 1, 4])
    found = recording_figures("all", folder, framing)
    assert found.n_events.sum() == 7 and 0 < found.n_taken.sum() == found.taken["thinning"]
    assert found.n_inside.tolist() == (found.n_events - found.n_taken).tolist()
    assert found.taken["hot pixels"] == 0 and "noise" not in found.taken
    run = recording_frames(folder.subset(good), framing, None)
    assert found.held is not None and run.held is not None
    assert found.held[1:] == run.held[1:] and not found.held.hint
    look = told({}, "", [found], ["a", "b"], (3, 4), []).found
    assert look["parts"][0]["lost_share"] == 0 and look["notes"] == [*run.said]


def test_same_events_are_found_between_parts_whatever_their_order():
    rng = np.random.default_rng(0)
    t_us, x, y, p = (rng.integers(0, n, 1000) for n in (10**6, 640, 480, 2))
    one = digests(t_us, np.array([0, 1000]), x, y, p)
    order = rng.permutation(1000)
    again = digests(t_us[order], np.array([0, 1000]), x[order], y[order], p[order])
    assert one == again
    for part in range(4):  # one event that is another
        other = [a.copy() for a in (t_us, x, y, p)]
        other[part][500] ^= 1
        assert digests(other[0], np.array([0, 1000]), *other[1:]) != one
    swapped = digests(t_us, np.array([0, 1000]), y, x, p)
    assert swapped != one


def test_digests_of_many_samples_are_those_of_each():
    t_us, x = np.arange(10), np.arange(10) % 3
    offsets = np.array([0, 4, 4, 9, 10])
    one_by_one = [
        digests(t_us[a:b], np.array([0, b - a]), x[a:b])[0] for a, b in itertools.pairwise(offsets)
    ]
    assert digests(t_us, offsets, x).tolist() == one_by_one


def test_hot_pixels_stand_out_of_their_neighbours():
    rows, columns = np.mgrid[:34, :34]
    counts = np.rint(1000 * np.exp(-((rows - 17) ** 2 + (columns - 17) ** 2) / 60)).astype(int)
    assert not hot(counts).any(), "the centre of a picture is not hot"
    counts[3, 4], counts[0, 33], counts[17, 17] = 900, 900, 9000
    assert np.argwhere(hot(counts)).tolist() == [[0, 33], [3, 4], [17, 17]]
    units = np.full(700, 20)
    units[[0, 350]] = 400
    assert np.flatnonzero(hot(units)).tolist() == [0, 350]
    assert not hot(np.array([9000])).any() and not hot(np.zeros((5, 5), int)).any()


@pytest.mark.parametrize(("n", "most"), [(10, None), (10, 10), (10, 3), (70_001, 2000), (0, 5)])
def test_samples_are_chosen_at_even_distances(n, most):
    place = chosen(n, most)
    assert len(place) == min(n, most or n) and len(np.unique(place)) == len(place)
    steps = np.diff(place, append=n)
    assert not len(place) or (place[0] == 0 and steps.max() - steps.min() <= 1)


def test_memory_does_not_grow_with_the_clips(tmp_path):
    rng, peaks = np.random.default_rng(0), []
    for n in (1000, 4000):
        path = tmp_path / f"{n}.h5"
        clips = (
            Events(np.sort(rng.integers(0, 10**6, 800)), rng.integers(0, 700, 800))
            for _ in range(n)
        )
        write_shd(path, clips, [0] * n, ["a"])
        opened = open_clips(str(path), reading=Reading(skip_bad=True))
        tracemalloc.start()
        clip_figures("all", opened, audio_frames.Framing(10_000))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0], peaks
