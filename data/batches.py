"""The order of the samples in an epoch and their division into batches, for both wings."""

import numpy as np

from .seeds import generator


def order(n: int, seed: int, epoch: int) -> np.ndarray:
    """Permutation of n samples, int64 (n,), for one epoch of training."""
    return generator("order", seed, epoch, 0).permutation(n)


def batches(indices: np.ndarray, batch_size: int, train: bool) -> list[np.ndarray]:
    """`indices` (n,) cut into batches; the last may be shorter. In training a last batch of one
    sample joins the one before, because BatchNorm cannot take statistics of one sample."""
    parts = [indices[i : i + batch_size] for i in range(0, len(indices), batch_size)]
    if train and len(parts) > 1 and len(parts[-1]) == 1 and batch_size > 1:
        parts[-2:] = [np.concatenate(parts[-2:])]
    return parts


def epoch_batches(n: int, batch_size: int, seed: int, epoch: int | None) -> list[np.ndarray]:
    """Batches of one epoch of training over n samples; with `epoch` None in order, as stored."""
    indices = np.arange(n) if epoch is None else order(n, seed, epoch)
    return batches(indices, batch_size, train=epoch is not None)


def n_batches(n: int, batch_size: int, train: bool = True) -> int:
    """Batches that one epoch over n samples takes."""
    return len(batches(np.arange(n), batch_size, train))
