"""The order of the samples in an epoch and their division into batches, for both wings."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from .seeds import generator

Samples = TypeVar("Samples", bound=Sequence | np.ndarray)


class Shard(NamedTuple):
    """What process `rank` of `size` takes of every batch: neighbours, as many as the others or one
    more."""

    rank: int = 0
    size: int = 1

    def bounds(self, n: int) -> tuple[int, int]:
        """Where its samples of a batch of n begin and end."""
        return n * self.rank // self.size, n * (self.rank + 1) // self.size

    def of(self, batch: Samples) -> Samples:
        """Its samples of a batch."""
        return batch[slice(*self.bounds(len(batch)))]  # type: ignore[return-value]


ALL = Shard()


def shards(parts: list[np.ndarray], shard: Shard) -> list[np.ndarray]:
    """A process's samples of each batch, without batches that have none for it."""
    return [part for part in map(shard.of, parts) if len(part)]


def order(n: int, seed: int, epoch: int) -> np.ndarray:
    """Permutation of n samples, int64 (n,), for one epoch of training."""
    return generator("order", seed, epoch, 0).permutation(n)


def balanced(labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """As many samples as there are, int64 (n,), drawn with replacement such that every class of
    `labels` integer (n,) is equally likely, whatever the number of its samples."""
    _, place, count = np.unique(labels, return_inverse=True, return_counts=True)
    share = 1 / (len(count) * count[place])
    return generator("order", seed, epoch, 0).choice(len(labels), len(labels), p=share)


def batches(
    indices: np.ndarray, batch_size: int, train: bool, drop_last: bool = False
) -> list[np.ndarray]:
    """`indices` (n,) cut into batches; the last may be shorter, unless `drop_last` leaves it out
    where it is not the only one. In training a last batch of one sample joins the one before,
    because BatchNorm cannot take statistics of one sample."""
    parts = [indices[i : i + batch_size] for i in range(0, len(indices), batch_size)]
    if train and len(parts) > 1 and len(parts[-1]) < batch_size and drop_last:
        return parts[:-1]
    if train and len(parts) > 1 and len(parts[-1]) == 1 and batch_size > 1:
        parts[-2:] = [np.concatenate(parts[-2:])]
    return parts


SAMPLINGS = ("uniform", "class-balanced")


def epoch_batches(
    labels: np.ndarray,
    batch_size: int,
    seed: int,
    epoch: int | None,
    sampling: str = "uniform",
    drop_last: bool = False,
) -> list[np.ndarray]:
    """Batches of one epoch of training over samples of these `labels`, integer (n,); with `epoch`
    None in order, as stored. `sampling` "uniform": every sample once; "class-balanced": `balanced`.
    """
    if epoch is None:
        return batches(np.arange(len(labels)), batch_size, train=False)
    drawn = order(len(labels), seed, epoch)
    if sampling == "class-balanced":
        drawn = balanced(labels, seed, epoch)
    return batches(drawn, batch_size, True, drop_last)


def n_batches(n: int, batch_size: int, train: bool = True) -> int:
    """Batches that one epoch over n samples takes."""
    return len(batches(np.arange(n), batch_size, train))


def times_before(index: np.ndarray) -> np.ndarray:
    """How often each number of `index` integer (n,) stands before in it, int64 (n,)."""
    place = np.argsort(index, kind="stable")
    ordered = index[place]
    before = np.empty(len(index), np.int64)
    before[place] = np.arange(len(index)) - np.searchsorted(ordered, ordered)
    return before
