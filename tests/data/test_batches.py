import numpy as np
import pytest

from snndelay.data.batches import (
    balanced,
    batches,
    epoch_batches,
    n_batches,
    order,
    times_before,
)


@pytest.mark.parametrize(
    ("n", "size", "train", "want"),
    [
        (13, 4, True, [4, 4, 5]),
        (13, 4, False, [4, 4, 4, 1]),
        (14, 4, True, [4, 4, 4, 2]),
        (12, 4, True, [4, 4, 4]),
        (1, 4, True, [1]),
        (3, 1, True, [1, 1, 1]),
        (2, 8, True, [2]),
    ],
)
def test_no_clip_is_dropped_and_none_stands_alone(n, size, train, want):
    parts = batches(np.arange(n), size, train)
    assert [len(part) for part in parts] == want
    assert np.concatenate(parts).tolist() == list(range(n))
    assert n_batches(n, size, train) == len(want)


def test_order_is_a_permutation_of_seed_and_epoch():
    assert sorted(order(50, 0, 0)) == list(range(50))
    assert np.array_equal(order(50, 0, 0), order(50, 0, 0))
    assert not np.array_equal(order(50, 0, 0), order(50, 1, 0)), "the seed has no effect"
    assert not np.array_equal(order(50, 0, 0), order(50, 0, 1)), "the epoch has no effect"


def test_an_epoch_is_shuffled_and_its_lone_sample_joins_but_not_as_stored():
    labels = np.zeros(9, np.int64)
    train, stored = epoch_batches(labels, 4, 0, 3), epoch_batches(labels, 4, 0, None)
    assert [len(part) for part in train] == [4, 5] and [len(part) for part in stored] == [4, 4, 1]
    assert np.array_equal(np.concatenate(train), order(9, 0, 3))
    assert np.array_equal(np.concatenate(stored), np.arange(9))


def test_a_last_batch_that_is_not_full_can_be_left_out():
    labels = np.zeros(14, np.int64)
    for size, want in ((4, [4, 4, 4]), (7, [7, 7]), (20, [14])):
        parts = epoch_batches(labels, size, 0, 1, drop_last=True)
        assert [len(part) for part in parts] == want
    stored = epoch_batches(labels, 4, 0, None, drop_last=True)
    assert [len(part) for part in stored] == [4, 4, 4, 2], "evaluation leaves nothing out"


def test_class_balanced_sampling_draws_all_classes_alike():
    """Weight 1 / (number of samples of the class), with replacement, as many as there are."""
    labels = np.repeat([0, 1, 5], [900, 90, 10])
    drawn = balanced(labels, 0, 0)
    share = np.bincount(labels[drawn], minlength=6)[[0, 1, 5]] / 1000
    assert np.abs(share - 1 / 3).max() < 4 * (2 / 9 / 1000) ** 0.5, share
    assert len(np.unique(drawn[labels[drawn] == 5])) == 10, "within a class all alike"
    assert np.array_equal(drawn, balanced(labels, 0, 0))
    assert not np.array_equal(drawn, balanced(labels, 0, 1)), "the epoch has no effect"
    parts = epoch_batches(labels, 64, 0, 0, "class-balanced")
    assert np.array_equal(np.concatenate(parts), drawn)


def test_times_before_counts_repetitions():
    assert times_before(np.array([3, 1, 3, 3, 0, 1])).tolist() == [0, 0, 1, 2, 0, 1]
