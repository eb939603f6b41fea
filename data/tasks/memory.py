"""Memory tasks: N-parity and N-delayed match to sample, on sequences of bits of random length.

A trial is a sequence of T bits, one per step, of which only the last N matter; T is drawn for every
batch, so that a network must forget what came before. The label is told at the last step.

- n-parity: whether the sum of the last N bits is odd.
- n-dms: whether the bit N-1 steps before the last one equals the last one.

Chance is 50 % where both bits are equally likely. In training n-parity draws the probability of a
1 anew for every batch, as published; whoever always says `even` is then right in more than half of
the trials of an even N (1/2 + 1/(2N+2)), so that validation and test draw balanced bits.

Source: Khajehabdollahi et al. 2024 (arXiv 2309.12927), section 2.

Legend: T steps, B trials, H heads, that is values of N.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError
from ..seeds import generator

URL = "https://arxiv.org/abs/2309.12927"
SHORTEST = 2  # a sequence has at least so many bits beyond the last N


class Batch(NamedTuple):
    """`x`: bits, 0 or 1, float32 (T, B, 1). `label_HB`: 0 or 1, int64, one row for each N asked
    for."""

    x: Tensor
    label_HB: Tensor


def parity(bit_TB: np.ndarray, n: int) -> np.ndarray:
    """1 where the sum of the last n bits is odd, else 0: int64 (B,)."""
    return bit_TB[-n:].sum(0) % 2


def match(bit_TB: np.ndarray, n: int) -> np.ndarray:
    """1 where the n-th bit from the end equals the last one, else 0: int64 (B,)."""
    return (bit_TB[-n] == bit_TB[-1]).astype(np.int64)


@dataclass(frozen=True)
class MemoryTask:
    """One task for every N >= 2. `label`: (bits (T, B), n) -> labels (B,). `spread`: sequences for
    N have from N + 2 to N + 2 + spread N bits. `mixed`: whether training draws the probability of a
    1 for every batch; else both bits are equally likely."""

    name: str
    label: Callable[[np.ndarray, int], np.ndarray]
    spread: float
    mixed: bool

    def train_batch(self, ns: Sequence[int], B: int, seed: int, epoch: int, step: int) -> Batch:
        """B trials to train on, labelled for each of `ns`; as long as the largest needs. A function
        of its arguments. Errors: ConfigError for an N below 2."""
        return self._batch(ns, B, self.mixed, "memory_train", seed, epoch, step)

    def valid_batch(self, ns: Sequence[int], B: int, seed: int, epoch: int, step: int) -> Batch:
        """The same with balanced bits, which no training step of an epoch has seen."""
        return self._batch(ns, B, False, "memory_valid", seed, epoch, step)

    def test_batch(self, n: int, B: int, seed: int, step: int) -> Batch:
        """B trials with balanced bits to test one N on, from a stream of their own."""
        return self._batch([n], B, False, "memory_test", seed, n, step)

    def _batch(self, ns: Sequence[int], B: int, mixed: bool, stream: str, *key: int) -> Batch:
        if min(ns) < 2:
            raise ConfigError(f"{self.name} is of at least 2 bits, not of {min(ns)}")
        rng, n = generator(stream, *key), max(ns)
        T = n + SHORTEST + int(rng.integers(int(self.spread * n) + 1))
        p = rng.random() if mixed else 0.5
        bit_TB = (rng.random((T, B)) < p).astype(np.int64)
        label_HB = np.stack([self.label(bit_TB, n) for n in ns])
        return Batch(torch.from_numpy(bit_TB).float()[:, :, None], torch.from_numpy(label_HB))


def open_n_parity() -> MemoryTask:
    """Parity of the last N bits, on sequences of N + 2 to N + 2 + 1.5 N bits."""
    return MemoryTask("n-parity", parity, 1.5, mixed=True)


def open_n_dms() -> MemoryTask:
    """Delayed match to sample over N bits, on sequences of N + 2 to N + 2 + 3 N bits."""
    return MemoryTask("n-dms", match, 3.0, mixed=False)
