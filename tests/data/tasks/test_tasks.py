"""The generated data sets: the same for the same seed, as large as they say, and such that neither
counts nor single frames tell the class."""

import json

import numpy as np
import pytest

from snndelay.data.catalog import open_clips, open_recordings
from snndelay.data.tasks import al, drift, localisation, polychrony
from snndelay.data.vision.frames import frames
from snndelay.errors import DataError

from ...helpers_training import call, load_train_py

OPENERS = {
    "polychrony": polychrony.open_polychrony,
    "localisation": localisation.open_localisation,
    "al": al.open_al,
}
# name -> clips of each part, steps, units, classes, as the docstrings say
SIZES = {
    "polychrony": ({"train": 800, "test": 800}, 60, 8, 10),
    "localisation": ({"train": 1200, "test": 600}, 200, 40, 12),
    "al": ({"train": 1000, "test": 500}, 400, 3, 2),
}


def counts(clips) -> np.ndarray:
    """Spikes of every unit of every clip, (n, units)."""
    whole = clips.whole()
    clip = np.repeat(np.arange(len(clips)), np.diff(whole.offsets))
    return np.bincount(
        clip * clips.n_units + whole.x, minlength=len(clips) * clips.n_units
    ).reshape(-1, clips.n_units)


@pytest.mark.parametrize("name", OPENERS)
def test_clips_are_as_the_docstring_says(name):
    parts, steps, units, n_classes = SIZES[name]
    for part, n in parts.items():
        clips = open_clips(name, "/nowhere", part)
        assert (len(clips), clips.n_units, len(clips.classes)) == (n, units, n_classes)
        t_us = clips.whole().t_us
        assert t_us.min() >= 0 and t_us.max() < steps * 1000 and not (t_us % 1000).any()
        assert len(set(np.bincount(clips.labels))) == 1, "a part has as many clips of each class"
    with pytest.raises(DataError, match=f"{name} has no valid split"):
        open_clips(name, "/nowhere", "valid")


@pytest.mark.parametrize("name", OPENERS)
def test_every_unit_fires_as_often_in_every_clip(name):
    n_NC = counts(open_clips(name))
    assert (n_NC == n_NC[0]).all() and n_NC.min() > 0, "counts tell clips apart"


@pytest.mark.parametrize("name", OPENERS)
def test_the_seed_makes_the_clips_and_the_parts_share_none(name):
    train, again, test, other = (
        OPENERS[name]("/nowhere", part, False, seed)
        for part, seed in (("train", 0), ("train", 0), ("test", 0), ("train", 1))
    )
    assert train.whole().t_us.tobytes() == again.whole().t_us.tobytes()
    assert np.array_equal(train.labels, again.labels)
    assert train.whole().t_us.tobytes() != other.whole().t_us.tobytes()
    seen = {train[i][0].t_us.tobytes() for i in range(len(train))}
    shared = sum(test[i][0].t_us.tobytes() in seen for i in range(len(test)))
    assert shared == 0, f"{shared} test clips are training clips"


def test_polychrony_has_orders_that_differ_and_one_time_course():
    t_NC = polychrony.templates()
    assert len(np.unique(t_NC, axis=0)) == polychrony.CLASSES
    slots = np.arange(polychrony.UNITS) * polychrony.GAP
    assert (np.sort(t_NC, axis=1) == slots).all(), "a class fires at times of its own"


def test_polychrony_s_clips_show_their_order():
    clips = open_clips("polychrony")
    found_NC = clips.whole().t_us.reshape(len(clips), -1) / 1000
    t_KC = polychrony.templates()
    # the order whose times fit best, up to the onset, which the median takes away
    off_NKC = found_NC[:, None] - t_KC
    error_NK = np.abs(off_NKC - np.median(off_NKC, 2, keepdims=True)).sum(2)
    accuracy = np.mean(error_NK.argmin(1) == clips.labels)
    assert accuracy > 0.98, f"only {accuracy:.1%} of the clips are nearest to their own order"


def test_the_ears_hear_the_direction():
    clips = open_clips("localisation")
    degrees, half = localisation.ANGLES, len(localisation.PERIODS) * localisation.FIBRES
    lags = []
    for k in range(len(degrees)):
        mine = clips.subset(np.flatnonzero(clips.labels == k)).whole()
        n_clips, t = len(mine), mine.t_us // 1000
        clip = np.repeat(np.arange(n_clips), np.diff(mine.offsets))
        tone = mine.x % half // localisation.FIBRES
        n_LRT = np.zeros((2, n_clips * 4, localisation.STEPS))
        np.add.at(n_LRT, (mine.x // half, clip * 4 + tone, t), 1)
        shifts = np.arange(-25, 26)
        same = [(n_LRT[0] * np.roll(n_LRT[1], -s, axis=1)).sum() for s in shifts]
        lags.append(shifts[np.argmax(same)])
    off = np.abs(np.array(lags) - localisation.MAX_ITD * degrees / 90)
    assert off.max() < 2.5, f"the best lag of a direction is off by {off.max()} steps"


def test_the_sound_at_the_ear_of_the_class_is_as_long_ago_as_the_cue_says():
    clips = open_clips("al")
    for i in range(0, len(clips), 37):
        events, label, _ = clips[i]
        step = np.round(np.asarray(events.t_us) / 1000).astype(int)
        unit = np.asarray(events.x)
        ears = [np.sort(step[unit == ear])[:: al.HIT] for ear in (0, 1)]
        cue = np.sort(step[unit == 2])[:: al.CUE]
        assert len(cue) == len(ears[0]) == len(ears[1]) == al.TRIALS
        assert np.array_equal(cue - ears[label], np.full(al.TRIALS, al.WAIT))
        off = np.abs(ears[1 - label] - ears[label])
        assert off.min() >= al.OFF[0] and off.max() <= al.OFF[1]


def test_drift_is_made_as_it_says():
    recordings = open_recordings("drift")
    assert len(recordings) == 800 and len(set(recordings.identities)) == 800
    assert (np.bincount(recordings.labels) == 50).all() and len(recordings.classes) == 16
    one, again = recordings[3][0], open_recordings("drift")[3][0]
    assert all(getattr(one, k).tobytes() == getattr(again, k).tobytes() for k in ("t_us", "x", "y"))
    other = drift.open_drift("/nowhere", False, seed=1)
    assert one.x.tobytes() != other[3][0].x.tobytes()
    assert recordings.fingerprint() != other.fingerprint()
    x_TPHW = frames(one, drift.SIZE, n_steps=drift.STEPS)
    assert (x_TPHW.sum((1, 2, 3)) == drift.EVENTS).all(), "a frame's events tell the speed"


def test_drift_moves_as_its_class_says():
    recordings = open_recordings("drift")
    for label in range(len(recordings.classes)):
        same_HW = np.zeros(drift.SIZE)
        for i in np.flatnonzero(recordings.labels == label)[:8]:  # 60 events per frame are few
            x_THW = frames(recordings[i][0], drift.SIZE, n_steps=drift.STEPS).sum(1)
            f_THW = np.fft.fft2(x_THW)
            same_HW += np.fft.ifft2(f_THW[1:] * np.conj(f_THW[:-1])).real.sum(0)
        dy, dx = np.unravel_index(np.argmax(same_HW), drift.SIZE)
        way, speed = divmod(label, len(drift.SPEEDS))
        want = drift.SPEEDS[speed] * np.array([*drift.DIRECTIONS.values()][way])
        off = (np.array([dx, dy]) - want + 17) % 34 - 17
        assert np.abs(off).max() <= 1, f"class {label} moves by {dx}, {dy}, not {want}"


TINY = ["--epochs", "1", "--threads", "1", "--batch-size", "100"]


@pytest.mark.parametrize("name", [*OPENERS, "drift"])
def test_a_task_trains_by_its_name(name, tmp_path):
    options = ["--n-hidden", "4"]
    if name == "drift":
        options = ["--n-labelled", "16", "--test-fraction", "0.1", "--warmup-epochs", "0"]
        options += ["--cache", "false"]
    argv = [name, *TINY, *options, "--runs", tmp_path, "--run", "a"]
    code, out, err = call(load_train_py().main, *argv)
    assert code == 0, err
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert summary["dataset"] == name and 0 <= summary["test_accuracy"] <= 1
    assert ("angle_error" in summary) == (name == "localisation")
    assert ("mean angular error" in out) == (name == "localisation")
