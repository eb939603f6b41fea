import pickle

import numpy as np
import pytest

from snndelay.data.events import Clips, Events
from snndelay.errors import DataError, EventFormatError


def events(t, x):
    return Events(np.array(t, np.int64), np.array(x, np.uint16))


def test_valid_events_come_back():
    e = events([0, 5, 3], [0, 699, 1])
    assert e.validate(700) is e, "validate must return its own argument"
    assert len(events([], []).validate(700)) == 0, "a clip without events breaks no invariant"


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        (events([-1, 5], [0, 0]), "before time 0"),
        (events([0, 5], [0, 700]), "0..699"),
        (events([0, 5], [0]), "shape"),
        (Events(np.zeros((2, 1), np.int64), np.zeros((2, 1), np.int64)), "shape"),
        (Events(np.array([0.5]), np.array([1])), "dtype"),
        (Events(np.array([0]), np.array([1]), p=np.array([1, 2])), "p has shape"),
        (events([0], [1]), "no y and p"),
        (Events(np.array([0]), np.array([1]), np.array([34]), np.array([1])), "rows 34..34"),
        (Events(np.array([0]), np.array([1]), np.array([-1]), np.array([1])), "rows -1..-1"),
        (Events(np.array([0]), np.array([1]), np.array([1]), np.array([2])), "polarities 2..2"),
    ],
)
def test_broken_invariants_are_named(bad, word):
    with pytest.raises(DataError, match=word):
        bad.validate(700, 34)


def test_the_events_of_a_recording_are_valid_up_to_the_last_pixel():
    e = Events(np.array([0, 1]), np.array([0, 9]), np.array([33, 0]), np.array([0, 1], np.int8))
    assert e.validate(10, 34) is e


def test_select_keeps_every_field():
    e = Events(np.arange(4), np.arange(4) + 10, np.arange(4) + 20, np.arange(4) % 2)
    got = e.select(np.array([False, True, False, True]))
    assert got.t_us.tolist() == [1, 3], f"wrong times {got.t_us}"
    assert (got.x.tolist(), got.y.tolist(), got.p.tolist()) == ([11, 13], [21, 23], [1, 1])


def test_clips_index_like_a_list():
    t_us = np.arange(6, dtype=np.int32)
    clips = Clips(t_us, np.arange(6, dtype=np.uint16), np.array([0, 2, 2, 6]))
    assert [len(clips.events(i)) for i in range(3)] == [2, 0, 4], "wrong lengths"
    assert clips.events(-1).t_us.tolist() == [2, 3, 4, 5], "-1 must be the last clip"
    assert clips.events(0).t_us.dtype == np.int64, "times must be int64"
    with pytest.raises(IndexError):
        clips.events(3)


def test_format_error_says_where_and_survives_pickling():
    error = pickle.loads(pickle.dumps(EventFormatError("a.h5", 7, "no spikes")))
    assert str(error) == "a.h5, clip 7: no spikes", str(error)
    assert (error.path, error.offset, error.reason) == ("a.h5", 7, "no spikes")
    assert str(EventFormatError("a.h5", None, "empty")) == "a.h5: empty"
    error = pickle.loads(pickle.dumps(EventFormatError("a.bin", 10, "cut short", "byte")))
    assert str(error) == "a.bin, byte 10: cut short", str(error)
