"""Clips -> batches [T, B, C]. Order and augmentation are pure functions of (seed, epoch, index).

So a batch is the same for any number of workers, and an epoch can be resumed at any batch: the
state is three integers. Nothing here draws from a global random generator.
"""

import signal
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader

from ...errors import DataError, EventFormatError
from ..events import Events
from .augment import AUGMENTATIONS, augment, blend
from .frames import frames, n_channels
from .sets import Dataset


class Batch(NamedTuple):
    """`x` float32 counts (T, B, C), `label_B` int64, `index_B` int64 (position in the data set)."""

    x: torch.Tensor
    label_B: torch.Tensor
    index_B: torch.Tensor


def order(n: int, seed: int, epoch: int) -> np.ndarray:
    """Permutation of n clips, int64 (n,), for one epoch of training."""
    # The last 1 keeps it apart from the draws of clip 0, whose seed is (seed, epoch, 0).
    return np.random.default_rng((seed, epoch, 0, 1)).permutation(n)


def batches(indices: np.ndarray, batch_size: int, train: bool) -> list[np.ndarray]:
    """`indices` (n,) cut into batches; the last may be shorter. In training a last batch of one
    clip joins the one before, because BatchNorm cannot take statistics of one clip."""
    parts = [indices[i : i + batch_size] for i in range(0, len(indices), batch_size)]
    if train and len(parts) > 1 and len(parts[-1]) == 1 and batch_size > 1:
        parts[-2:] = [np.concatenate(parts[-2:])]
    return parts


def n_batches(n: int, batch_size: int, train: bool = True) -> int:
    """Batches that one epoch over n clips takes."""
    return len(batches(np.arange(n), batch_size, train))


def loader(
    dataset: Dataset,
    config: Any,
    *,
    train: bool,
    seed: int = 0,
    epoch: int = 0,
    start_batch: int = 0,
    pin_memory: bool = False,
    timeout_s: float = 120,
) -> "Loader":
    """Iterable of `Batch`, with len(). `config`: a DataConfig (framing, batch, workers, aug_*).

    `train`: clips in random order and augmented; otherwise as stored. Clips shorter than the
    batch are zero at the end. `start_batch`: batches of this epoch that are already done.
    `timeout_s`: longest wait for a worker. Errors while iterating: DataError, one sentence that
    names clip and worker.
    """
    if not len(dataset):
        raise DataError("the data set has no clips")
    n_channels(dataset.n_units, config.units_per_channel)
    indices = order(len(dataset), seed, epoch) if train else np.arange(len(dataset))
    parts = batches(indices, config.batch_size, train)[start_batch:]
    clips = _FramedClips(dataset, config, train, seed, epoch)
    return Loader(clips, parts, config.workers, pin_memory, timeout_s)


class Loader:
    """What `loader` returns: iterate it as often as needed; batches are made anew each time."""

    def __init__(
        self,
        clips: "_FramedClips",
        parts: list[np.ndarray],
        workers: int,
        pin_memory: bool,
        timeout_s: float,
    ):
        self.clips, self.parts = clips, parts
        self.loader = DataLoader(
            clips,
            batch_sampler=[part.tolist() for part in parts],
            collate_fn=collate,
            num_workers=workers,
            pin_memory=pin_memory,
            timeout=timeout_s if workers else 0,
            worker_init_fn=_ignore_interrupt,
            generator=torch.Generator(),  # else every iteration takes a number from the global one
        )

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Batch]:
        if self.loader.num_workers:
            self.clips.dataset.before_fork()
        made = iter(self.loader)
        for part in self.parts:
            try:
                batch = next(made)
            except RuntimeError as error:  # a worker died or hangs
                batch = (
                    f"a loader worker stopped while making clips {part.tolist()[:8]}..., "
                    f"try workers 0 to see why ({' '.join(str(error).split())})"
                )
            if isinstance(batch, str):
                del made  # ends the workers before the error leaves
                raise DataError(batch)
            yield batch


class _FramedClips:
    """Index -> (frames [T, C], label, index), or a sentence if the clip cannot be used: errors
    travel from a worker as values, because torch turns exceptions into tracebacks."""

    def __init__(self, dataset: Dataset, config: Any, train: bool, seed: int, epoch: int):
        self.dataset, self.config, self.seed, self.epoch = dataset, config, seed, epoch
        fields = (*AUGMENTATIONS, "aug_mix")
        self.augmented = train and any(getattr(config, field, 0) for field in fields)
        self.dt_us = round(config.dt_ms * 1000)
        self.labels = dataset.labels

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int, int] | str:
        try:
            events, label, identity = self.dataset[i]
        except EventFormatError as error:
            return f"{error}{_in_worker()}"
        except Exception as error:
            return f"clip {i} cannot be read: {type(error).__name__}: {error}{_in_worker()}"
        try:
            return self._frames(self._augmented(events, label, i)), label, i
        except DataError as error:
            return f"{identity}: {error}{_in_worker()}"

    def _augmented(self, events: Events, label: int, i: int) -> Events:
        if not self.augmented or not len(events):
            return events
        rng = np.random.default_rng((self.seed, self.epoch, i))
        if rng.random() < getattr(self.config, "aug_mix", 0):
            other = self.dataset[int(rng.choice(np.flatnonzero(self.labels == label)))][0]
            events = blend(events, other, rng) if len(other) else events
        return augment(events, self.config, rng, self.dataset.n_units)

    def _frames(self, events: Events) -> np.ndarray:
        config, anchored = self.config, self.config.framing == "event"
        n_units, n_steps = self.dataset.n_units, config.n_steps
        return frames(events, self.dt_us, config.units_per_channel, n_units, n_steps, anchored)


def collate(clips: list[tuple[np.ndarray, int, int] | str]) -> Batch | str:
    """Clips (frames float32 [T, C], label, index) -> Batch, zero-padded at the end to the longest
    T; or the first sentence among them."""
    for clip in clips:
        if isinstance(clip, str):
            return clip
    frames_TC, labels, indices = zip(*clips, strict=True)
    T = max(len(x) for x in frames_TC)
    x_TBC = np.zeros((T, len(clips), frames_TC[0].shape[1]), np.float32)
    for b, x in enumerate(frames_TC):
        x_TBC[: len(x), b] = x
    return Batch(torch.from_numpy(x_TBC), torch.tensor(labels), torch.tensor(indices))


def _in_worker() -> str:
    info = torch.utils.data.get_worker_info()
    return "" if info is None else f" (loader worker {info.id})"


def _ignore_interrupt(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal; only the trainer is to answer it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
