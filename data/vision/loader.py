"""Recordings as frames, with or without images of the same classes beside them -> batches.

Order, augmentation and partners are pure functions of (seed, epoch, index), as for clips.

Legend: n recordings or images, T time steps, B batch, P polarity (2), H height, W width.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ...errors import DataError
from ..batches import epoch_batches
from ..cache import cached_frames
from ..events import Events
from ..seeds import generator
from .augment import augment
from .frames import frames, resize_frames
from .images import STATIC_FORMS, Partners, StaticImages
from .saccade import RECIPE, saccade
from .sets import RecordingSet


class Framing(NamedTuple):
    """How a recording becomes frames: `framing`, `n_steps`, `dt_ms` and `events_per_step` as
    `frames` takes them (`dt_ms` counts for "time_window" only); `frame_size`: rows and columns to
    which the frames are resized, None: those of the sensor."""

    framing: str = "time_bins"
    n_steps: int | None = 10
    dt_ms: float = 10.0
    events_per_step: int | None = None
    frame_size: int | None = None


class Batch(NamedTuple):
    """`x` float32 counts (T, B, P, H, W) of recordings; `static` the sequences of their partner
    images, same shape, or None; `label_B` int64, `index_B` int64 (position in the set)."""

    x: torch.Tensor
    static: torch.Tensor | None
    label_B: torch.Tensor
    index_B: torch.Tensor


@dataclass(frozen=True)
class FrameSet:
    """Recordings or images as frames. `frames`: (n, T, P, H, W) counts of recordings, or images
    (n, H, W) that are the same at every step and polarity; `labels` int64 (n,)."""

    frames: np.ndarray
    labels: np.ndarray
    classes: list[str]
    steps: int
    index: np.ndarray | None = None  # of the frames, int64 (n,); None: all, so that none is copied

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.frames.shape[-2:]

    def sequence(self, i: int) -> np.ndarray:
        """Frames of recording or image `i`, float32 (T, P, H, W)."""
        i = i if self.index is None else self.index[i]
        frame = np.asarray(self.frames[i], np.float32)
        if frame.ndim == 2:
            frame = np.broadcast_to(frame, (self.steps, 2, *frame.shape))
        return frame

    def subset(self, indices: np.ndarray) -> "FrameSet":
        """Those at `indices` int64 (m,), in that order."""
        index = indices if self.index is None else self.index[indices]
        return replace(self, labels=self.labels[indices], index=index)


@dataclass(frozen=True)
class StaticPool:
    """Images that training may show, as `images`, and `partners`, which draws one of a class."""

    images: FrameSet
    partners: Partners


def recording_frames(
    recordings: RecordingSet, framing: Framing, folder: str | Path | None
) -> FrameSet:
    """All recordings of a set as frames, made once and kept in `folder` (None: in memory).
    Errors: DataError, EventFormatError."""

    def record(i: int) -> Events:
        return recordings[i][0]

    return _cached(recordings, record, recordings.size, framing, folder, recordings.name)


def image_frames(
    images: StaticImages,
    sensor: tuple[int, int],
    like: FrameSet,
    framing: Framing,
    static_as: str = "image",
    static_fit: str = "resize",
    folder: str | Path | None = None,
) -> FrameSet:
    """All images as they are shown to the network, of the size and steps of `like`.

    `static_as` "image": the same picture at every step, `static_fit` as `StaticImages.frames` takes
    it; "saccade": simulated recordings by a `sensor` (H, W), kept in `folder` as those of
    `recording_frames`. Errors: DataError.
    """
    if static_as not in STATIC_FORMS:
        raise DataError(f"images are shown as {' or '.join(STATIC_FORMS)}, not as {static_as!r}")
    if static_as == "saccade":

        def record(i: int) -> Events:
            # a recording of the same image in the set `dvs` must not be the same recording
            return saccade(images.image(i), seed=2**32 + i, size=sensor)

        name = f"{len(images)} simulated recordings"
        return _cached(images, record, sensor, framing, folder, name)
    x_NHW = np.stack([images.frames(i, like.size, static_fit) for i in range(len(images))])
    return FrameSet(x_NHW, images.labels, images.classes, like.steps)


def _cached(
    source: RecordingSet | StaticImages,
    record: Callable[[int], Events],
    sensor: tuple[int, int],
    framing: Framing,
    folder: str | Path | None,
    name: str,
) -> FrameSet:
    """Frames of what `record` makes of every element of `source`, seen by a `sensor`."""
    key = framing._asdict()
    key |= {"of": type(source).__name__, "source": source.fingerprint(), "sensor": list(sensor)}
    key |= {"recipe": RECIPE, "version": 1}  # raise it when frames.py makes other frames
    dt_us = round(framing.dt_ms * 1000) if framing.framing == "time_window" else None
    side, how = framing.frame_size, (framing.framing, framing.n_steps, dt_us)

    def make(i: int) -> np.ndarray:
        x_TPHW = frames(record(i), sensor, *how, framing.events_per_step)
        return x_TPHW if side is None else resize_frames(x_TPHW, (side, side))

    progress = f"frames of {name}" if sys.stderr.isatty() else None
    made = cached_frames(key, make, len(source), folder, progress)
    return FrameSet(made, source.labels, source.classes, made.shape[1])


def loader(
    events: FrameSet,
    static: StaticPool | None,
    *,
    batch_size: int,
    aug_crop: int = 0,
    aug_flip: float = 0.0,
    aug_rotate: float = 0.0,
    seed: int = 0,
    epoch: int | None = None,
) -> "Loader":
    """Iterable of `Batch`, with len(): recordings, each with a partner from `static` if there is
    one. `epoch`: recordings in that epoch's order, and all sequences augmented by the amounts
    aug_* as `augment` takes them; None: as stored."""
    parts = epoch_batches(len(events), batch_size, seed, epoch)
    return Loader(events, static, parts, (aug_crop, aug_flip, aug_rotate), seed, epoch)


@dataclass(frozen=True)
class Loader:
    """What `loader` returns: iterate it as often as needed; batches are made anew each time.
    `parts`: the indices of each batch, `amounts`: crop, flip and rotate."""

    events: FrameSet
    static: StaticPool | None
    parts: list[np.ndarray]
    amounts: tuple[int, float, float]
    seed: int
    epoch: int | None

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Batch]:
        for part in self.parts:
            yield Batch(
                _stack([self._augmented("augment_event", self.events, i, i) for i in part]),
                _stack([self._partner(self.static, i) for i in part]) if self.static else None,
                torch.from_numpy(self.events.labels[part]),
                torch.from_numpy(part),
            )

    def _partner(self, static: StaticPool, i: int) -> np.ndarray:
        """The sequence of an image of the class of recording `i`."""
        rng = generator("partner", self.seed, self.epoch or 0, i)
        j = static.partners.partner(int(self.events.labels[i]), rng)
        return self._augmented("augment_static", static.images, j, i)

    def _augmented(self, stream: str, source: FrameSet, j: int, i: int) -> np.ndarray:
        """Sequence `j` of `source`, augmented by what `stream` draws for recording `i`."""
        x_TPHW = source.sequence(j)
        if self.epoch is None or not any(self.amounts):
            return x_TPHW
        return augment(x_TPHW, generator(stream, self.seed, self.epoch, i), *self.amounts)


def _stack(sequences: list[np.ndarray]) -> torch.Tensor:
    """Sequences (T, P, H, W) -> (T, B, P, H, W) with channels last in memory."""
    x_BTHWP = np.stack([np.moveaxis(x, 1, -1) for x in sequences])
    x_TBHWP = np.ascontiguousarray(np.moveaxis(x_BTHWP, 1, 0))
    return torch.from_numpy(x_TBHWP).permute(0, 1, 4, 2, 3)
