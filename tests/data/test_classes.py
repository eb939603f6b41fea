"""Classes by name: order does not matter, and what is unknown is said."""

import numpy as np
import pytest

from snndelay.data.audio.sets import ClipSet
from snndelay.data.classes import absent, by_name, of_training
from snndelay.data.events import Clips
from snndelay.errors import DataError


def clips(labels, classes):
    """A set of clips of one event each, at the time of its place."""
    n = len(labels)
    source = Clips(np.arange(n), np.zeros(n, np.int64), np.arange(n + 1))
    return ClipSet("made", source, np.array(labels), classes, None, 5)


def test_labels_count_in_the_classes_that_are_wanted():
    made = clips([0, 1, 2, 1], ["b", "c", "a"])
    same, n, said = by_name(made, ["a", "b", "c"], False)
    assert [same.classes[k] for k in same.labels] == ["b", "c", "a", "c"]
    assert (same.classes, n, said) == (["a", "b", "c"], 0, [])
    assert by_name(same, ["a", "b", "c"], False)[0] is same


def test_a_class_without_samples_is_no_unknown_one():
    made, n, _ = by_name(clips([1], ["new", "a"]), ["a"], False)
    assert (made.labels.tolist(), n) == ([0], 0)


def test_unknown_classes():
    made = clips([0, 1, 0, 2], ["new", "a", "newer"])
    with pytest.raises(DataError, match=r"3 of 4 samples of made .* \(new, newer\)"):
        by_name(made, ["z", "a"], False)
    kept, n, said = by_name(made, ["z", "a"], True)
    assert (kept.labels.tolist(), n) == ([1], 3) and "left out 3 of 4" in said[0]
    assert kept[0][0].t_us.tolist() == [1], "another clip was kept"
    with pytest.raises(DataError, match="no sample of made has a class of the run"):
        by_name(made, ["z"], True)


def test_classes_without_samples_are_said_once():
    made, n, said = by_name(clips([0], ["b"]), ["a", "b", "c"], False)
    assert (made.labels.tolist(), n) == ([1], 0)
    assert said == ["2 of the 3 classes have no sample in made: a, c"]
    assert absent(np.arange(3), ["a", "b", "c"], "made") == []
    many = absent(np.array([0]), [*"abcdefgh"], "made")
    assert many == ["7 of the 8 classes have no sample in made: b, c, d, e, f, ..."]


def test_a_part_counts_in_the_classes_of_training():
    part = of_training(clips([1, 0, 0], ["c", "a"]), ["a", "b", "c"], "test clips")
    assert (part.labels.tolist(), part.classes) == ([0, 2, 2], ["a", "b", "c"])
    with pytest.raises(DataError, match=r"2 of 3 test clips are of classes .* \(c\): take them"):
        of_training(clips([1, 0, 0], ["c", "a"]), ["a", "b"], "test clips")


def test_two_classes_of_one_name_match_nothing():
    for mine, wanted in ((["a", "a"], ["a", "b"]), (["a", "b"], ["a", "a"])):
        with pytest.raises(DataError, match="two classes are called 'a'"):
            by_name(clips([0, 1], mine), wanted, False)
