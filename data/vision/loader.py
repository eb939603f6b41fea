"""Recordings of event cameras as frames, beside images of the same classes: batches of pairs.

Order, augmentation and partners are pure functions of (seed, epoch, index), as in loader.py.

Legend: n recordings or images, T time steps, B batch, P polarity (2), H height, W width.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..audio.frames import resize_frames, vision_frames
from ..audio.loader import batches, order
from ..cache import cached_frames
from ..events import Events
from .augment import augment_frames
from .images import Partners, StaticImages
from .saccade import RECIPE, saccade
from .sets import RecordingSet

# Keep draws apart from each other and from those of loader.py and sliding.py.
STATIC, EVENT, PARTNER = 5, 6, 7


class Pairs(NamedTuple):
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


def recording_frames(cameras: RecordingSet, config: Any) -> FrameSet:
    """All recordings of a set as frames, by a DataConfig (framing, n_steps, frame_size, cache).

    Frames are made once and kept on disk under `config.root` if `config.cache`. Errors: DataError,
    EventFormatError.
    """
    return _cached(cameras, lambda i: cameras[i][0], cameras.size, config, cameras.name)


def image_frames(
    images: StaticImages, sensor: tuple[int, int], like: FrameSet, config: Any
) -> FrameSet:
    """All images as they are shown to the network, of the size and steps of `like`: the same
    picture at every step, or with `static_as` saccade simulated recordings by a `sensor` (H, W)."""
    if config.static_as == "saccade":

        def record(i: int) -> Events:
            # a recording of the same image in the set `dvs` must not be the same recording
            return saccade(images.image(i), seed=2**32 + i, size=sensor)

        return _cached(images, record, sensor, config, f"{len(images)} simulated recordings")
    fit = config.static_fit
    frames = np.stack([images.frames(i, like.size, fit) for i in range(len(images))])
    return FrameSet(frames, images.labels, images.classes, like.steps)


def _cached(
    source: RecordingSet | StaticImages,
    record: Callable[[int], Events],
    sensor: tuple[int, int],
    config: Any,
    name: str,
) -> FrameSet:
    parts = ("framing", "n_steps", "events_per_step", "frame_size", "dt_ms")
    key = {part: getattr(config, part) for part in parts}
    key |= {"of": type(source).__name__, "source": source.fingerprint(), "sensor": list(sensor)}
    key |= {"recipe": RECIPE, "version": 1}  # raise it when encode.py makes other frames
    dt_us = round(config.dt_ms * 1000) if config.framing == "time_window" else None

    def make(i: int) -> np.ndarray:
        x_TPHW = vision_frames(
            record(i), sensor, config.framing, config.n_steps, dt_us, config.events_per_step
        )
        side = config.frame_size
        return x_TPHW if side is None else resize_frames(x_TPHW, (side, side))

    folder = Path(config.root).expanduser() / "frames" if config.cache else None
    progress = f"frames of {name}" if sys.stderr.isatty() else None
    frames = cached_frames(key, make, len(source), folder, progress)
    return FrameSet(frames, source.labels, source.classes, frames.shape[1])


@dataclass(frozen=True)
class PairLoader:
    """Batches of one epoch, or with `epoch` None as stored and not augmented. `partners`: images
    of the same classes (None: no pairs), `config`: a DataConfig (batch_size, aug_*)."""

    events: FrameSet
    partners: "StaticPool | None"
    config: Any
    seed: int
    epoch: int | None

    def _parts(self) -> list[np.ndarray]:
        train = self.epoch is not None
        indices = np.arange(len(self.events))
        if train:
            indices = order(len(self.events), self.seed, self.epoch)
        return batches(indices, self.config.batch_size, train)

    def __len__(self) -> int:
        return len(self._parts())

    def __iter__(self) -> Iterator[Pairs]:
        for part in self._parts():
            yield Pairs(
                _stack([self._augmented(self.events.sequence(i), i, EVENT) for i in part]),
                _stack([self._partner(i) for i in part]) if self.partners else None,
                torch.from_numpy(self.events.labels[part]),
                torch.from_numpy(part),
            )

    def _partner(self, i: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, self.epoch or 0, i, PARTNER))
        image = self.partners.images
        j = self.partners.partners.partner(int(self.events.labels[i]), rng)
        return self._augmented(image.sequence(j), i, STATIC)

    def _augmented(self, x_TPHW: np.ndarray, i: int, domain: int) -> np.ndarray:
        c = self.config
        if self.epoch is None or not (c.aug_crop or c.aug_flip or c.aug_rotate):
            return x_TPHW
        rng = np.random.default_rng((self.seed, self.epoch, i, domain))
        return augment_frames(x_TPHW, rng, c.aug_crop, c.aug_flip, c.aug_rotate)


@dataclass(frozen=True)
class StaticPool:
    """Images that training may show, as `images`, and `partners`, which draws one of a class."""

    images: FrameSet
    partners: Partners


def _stack(sequences: list[np.ndarray]) -> torch.Tensor:
    """Sequences (T, P, H, W) -> (T, B, P, H, W) with channels last in memory."""
    x_BTHWP = np.stack([np.moveaxis(x, 1, -1) for x in sequences])
    x_TBHWP = np.ascontiguousarray(np.moveaxis(x_BTHWP, 1, 0))
    return torch.from_numpy(x_TBHWP).permute(0, 1, 4, 2, 3)
