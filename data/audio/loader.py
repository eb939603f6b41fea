"""Clips -> batches [T, B, C]. Order and augmentation are pure functions of (seed, epoch, index).

So a batch is the same for any number of workers, and an epoch can be resumed at any batch: the
state is three integers. Nothing here draws from a global random generator.
"""

import signal
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info

from ...errors import DataError, EventFormatError
from ..batches import epoch_batches
from ..events import Events
from ..seeds import generator
from .augment import augment, blend, check_amounts
from .frames import frames, n_channels
from .sets import ClipSet


class Batch(NamedTuple):
    """`x` float32 counts (T, B, C), `label_B` int64, `index_B` int64 (position in the set)."""

    x: torch.Tensor
    label_B: torch.Tensor
    index_B: torch.Tensor


def loader(
    clips: ClipSet,
    *,
    batch_size: int,
    dt_ms: float,
    units_per_channel: int,
    framing: str = "grid",
    n_steps: int | None = None,
    workers: int = 0,
    amounts: Mapping[str, float] | None = None,
    mix: float = 0.0,
    seed: int = 0,
    epoch: int | None = None,
    start_batch: int = 0,
    pin_memory: bool = False,
    timeout_s: float = 120,
) -> "Loader":
    """Iterable of `Batch`, with len(). Clips shorter than the batch are zero at the end.

    `epoch`: clips in that epoch's order and augmented, by `amounts` of AUGMENTATIONS, after a mix
    with another clip of the class with probability `mix`; None: as stored. `dt_ms`, `framing`,
    `n_steps`, `units_per_channel`: as `frames` takes them. `start_batch`: batches of this epoch
    that are already done. `workers`: processes, 0 for none; `timeout_s`: longest wait for one.
    Errors: DataError and ConfigError for arguments that cannot work; while iterating DataError, one
    sentence that names clip and worker.
    """
    if not len(clips):
        raise DataError("the data set has no clips")
    n_channels(clips.n_units, units_per_channel)
    check_amounts(amounts or {})
    shape = (round(dt_ms * 1000), units_per_channel, clips.n_units, n_steps, framing)
    samples = _Samples(clips, shape, amounts or {}, mix, seed, epoch)
    parts = epoch_batches(len(clips), batch_size, seed, epoch)[start_batch:]
    return Loader(samples, parts, workers, pin_memory, timeout_s)


class Loader:
    """What `loader` returns: iterate it as often as needed; batches are made anew each time."""

    def __init__(
        self,
        samples: "_Samples",
        parts: list[np.ndarray],
        workers: int,
        pin_memory: bool,
        timeout_s: float,
    ):
        self.samples, self.parts = samples, parts
        self.loader = DataLoader(
            samples,
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
            self.samples.clips.before_fork()
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


class _Samples:
    """Index -> (frames [T, C], label, index), or a sentence if the clip cannot be used: errors
    travel from a worker as values, because torch turns exceptions into tracebacks. `shape`: the
    arguments of `frames` after the events."""

    def __init__(
        self,
        clips: ClipSet,
        shape: tuple[int, int, int, int | None, str],
        amounts: Mapping[str, float],
        mix: float,
        seed: int,
        epoch: int | None,
    ):
        self.clips, self.shape, self.amounts, self.mix = clips, shape, amounts, mix
        self.seed, self.epoch = seed, epoch
        self.labels = clips.labels

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int, int] | str:
        try:
            events, label, identity = self.clips[i]
        except EventFormatError as error:
            return f"{error}{_in_worker()}"
        except Exception as error:
            return f"clip {i} cannot be read: {type(error).__name__}: {error}{_in_worker()}"
        try:
            return frames(self._augmented(events, label, i), *self.shape), label, i
        except DataError as error:
            return f"{identity}: {error}{_in_worker()}"

    def _augmented(self, events: Events, label: int, i: int) -> Events:
        if self.epoch is None or not len(events) or not (self.mix or any(self.amounts.values())):
            return events
        rng = generator("augment_audio", self.seed, self.epoch, i)
        if rng.random() < self.mix:
            other = self.clips[int(rng.choice(np.flatnonzero(self.labels == label)))][0]
            events = blend(events, other, rng) if len(other) else events
        return augment(events, self.amounts, rng, self.clips.n_units)


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
    info = get_worker_info()
    return "" if info is None else f" (loader worker {info.id})"


def _ignore_interrupt(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal; only the trainer is to answer it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
