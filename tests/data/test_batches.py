import numpy as np
import pytest

from snndelay.data.batches import batches, epoch_batches, n_batches, order


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
    train, stored = epoch_batches(9, 4, 0, 3), epoch_batches(9, 4, 0, None)
    assert [len(part) for part in train] == [4, 5] and [len(part) for part in stored] == [4, 4, 1]
    assert np.array_equal(np.concatenate(train), order(9, 0, 3))
    assert np.array_equal(np.concatenate(stored), np.arange(9))
