"""Recordings as frames, with or without images of the same classes beside them -> batches.

Order, augmentation and partners are pure functions of (seed, epoch, index), as for clips. What an
epoch draws is drawn at its start and goes to the device at once; batches are then made there, and
nothing waits for the host.

Legend: n recordings or images, N samples of an epoch, in its order, T time steps, B batch, P
polarity (2), H height, W width.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError, DataError, EventFormatError, nearest
from ..batches import ALL, Shard, epoch_batches, times_before
from ..cache import cached_frames
from ..coverage import ENOUGH, WAY_OUT, Coverage, taken_lines
from ..events import Events
from ..placing import forget, moved, on_host, one_thread, placed, taken
from ..seeds import uniforms
from .atis import Packed
from .augment import (
    AUGMENTATIONS,
    DRAWS,
    MORE_DRAWS,
    MOVES,
    Changes,
    amounts_of,
    augment,
    change,
    changes,
    moves,
)
from .counting import channels_last_batch
from .filters import NOISE_NAMES
from .framing import Framing, framed, resized
from .images import STATIC_FORMS, Partners, StaticImages
from .saccade import RECIPE, saccade
from .sets import RecordingSet

VERSION = 3  # raise this with any change of the frames: caches are then made anew
MAPPED_BYTES = 2**28  # so much of a mapped file is kept in this process's memory at most


class Batch(NamedTuple):
    """`x` float32 counts (T, B, P, H, W) of recordings, channels last in memory; `static` the
    sequences of their partner images, alike, or None; `label_B` int64. All on the device where
    batches are made. Always on the host: `index_B` int64, position in the set, and `draw_B` int64,
    of which random choices are functions: `index_B`, plus the size of the set for each earlier time
    that the recording was drawn in this epoch."""

    x: Tensor
    static: Tensor | None
    label_B: Tensor
    index_B: Tensor
    draw_B: Tensor


@dataclass(frozen=True)
class FrameSet:
    """Recordings or images as frames. `frames`: (n, T, P, H, W) counts of recordings, or images
    (n, H, W) that are the same at every step and polarity, on the host or on a device; `labels`
    int64 (n,)."""

    frames: Tensor
    labels: np.ndarray
    classes: list[str]
    steps: int
    index: np.ndarray | None = None  # of the frames, int64 (n,); None: all, so that none is copied
    mapped: np.ndarray | None = None  # the file that holds `frames`
    held: Coverage | None = None  # how many events of all recordings the frames hold
    said: tuple[str, ...] = ()  # what filters took away

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        H, W = self.frames.shape[-2:]
        return H, W

    @property
    def sample_bytes(self) -> int:
        """Memory of the frames of one."""
        return self.frames[0].nbytes

    @property
    def on_host(self) -> bool:
        """Whether the frames lie in the host's memory, or in a file."""
        return self.frames.device.type == "cpu"

    def sequence(self, i: int) -> np.ndarray:
        """Frames of recording or image `i`, float32 (T, P, H, W); waits for the device."""
        frame = (
            self.frames[int(self.places(np.array(i)))].to("cpu", torch.float32, copy=True).numpy()
        )
        if frame.ndim == 2:
            frame = np.broadcast_to(frame, (self.steps, 2, *frame.shape))
        return frame

    def places(self, index: np.ndarray) -> np.ndarray:
        """Where among `frames` those at `index`, int64, lie."""
        return index if self.index is None else self.index[index]

    def subset(self, indices: np.ndarray) -> "FrameSet":
        """Those at `indices` int64 (m,), in that order."""
        return replace(self, labels=self.labels[indices], index=self.places(indices))

    def placed(self, device: torch.device, data_on: str = "auto") -> "FrameSet":
        """The same set with its frames where `data_on` wants them, see `placing.placed`."""
        return replace(self, frames=placed(self.frames, device, data_on))


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
    return _cached(recordings, recordings.read, recordings.size, framing, folder, recordings.name)


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
    return FrameSet(on_host(x_NHW), images.labels, images.classes, like.steps)


def _cached(
    source: RecordingSet | StaticImages,
    record: Callable[[int], Events | Packed],
    sensor: tuple[int, int],
    framing: Framing,
    folder: str | Path | None,
    name: str,
) -> FrameSet:
    """Frames of what `record` makes of every element of `source`, seen by a `sensor`."""
    key = framing._asdict()
    key |= {"of": type(source).__name__, "source": source.fingerprint(), "sensor": list(sensor)}
    key |= {"recipe": RECIPE, "version": VERSION}
    # of events: in the frames, left by the filters, and taken away by each of them
    counts = np.zeros(2 + len(NOISE_NAMES), np.int64)

    def make(i: int) -> np.ndarray:
        try:
            events = record(i)
            x_TPHW, found = framed(events, sensor, framing, f"{source.identities[i]} of {name}")
        except EventFormatError as error:
            reason = error.reason + WAY_OUT
            raise EventFormatError(error.path, error.offset, reason, error.unit) from error
        except DataError as error:
            raise DataError(f"{error}{WAY_OUT}") from error
        counts[:] += found
        return resized(x_TPHW, framing)

    progress = f"frames of {name}" if sys.stderr.isatty() else None
    made = cached_frames(key, make, len(source), folder, progress, counts)
    n_inside, n_left, *taken = counts.tolist()
    held = Coverage("recordings", n_inside, n_left, "see --n-steps, --dt-ms and --framing")
    held = held if held.share < ENOUGH else held._replace(hint="")
    parts = zip(NOISE_NAMES, taken, framing.filters.taking, strict=True)
    said = taken_lines({part: n for part, n, on in parts if on}, n_left + sum(taken))
    about = source.labels, source.classes, made.shape[1]
    return FrameSet(on_host(made), *about, mapped=made, held=held, said=tuple(said))


def loader(
    events: FrameSet,
    static: StaticPool | None,
    *,
    batch_size: int,
    aug_one: bool = False,
    sampling: str = "uniform",
    drop_last: bool = False,
    seed: int = 0,
    epoch: int | None = None,
    start_batch: int = 0,
    shard: Shard = ALL,
    device: torch.device | None = None,
    **amounts: float,
) -> "Loader":
    """Iterable of `Batch`, with len(): recordings, each with a partner from `static` if there is
    one. `epoch`: recordings as that epoch draws them (`sampling` and `drop_last` as `epoch_batches`
    takes them), and recordings, real or simulated, augmented by the `amounts` of AUGMENTATIONS,
    with `aug_one` each by one of them or none, but not still images, as published; None: as stored.
    `start_batch`: batches of this epoch that are already done. `shard`: the part of each that is
    made.
    `device`: where batches are made, the same bits on each; None: where the recordings lie.
    Errors: ConfigError for an amount of no augmentation."""
    for name in amounts:
        if name not in AUGMENTATIONS:
            raise ConfigError(f"no augmentation {name!r}: {nearest(name, AUGMENTATIONS)}")
    parts = epoch_batches(events.labels, batch_size, seed, epoch, sampling, drop_last)
    where = device or events.frames.device
    return Loader(events, static, parts, amounts, aug_one, seed, epoch, where, start_batch, shard)


@dataclass(frozen=True)
class Loader:
    """What `loader` returns: iterate it as often as needed; batches are made anew each time.
    `parts`: the indices of each batch, of which the first `start` are done; `amounts` and
    `aug_one`: as `loader` takes them."""

    events: FrameSet
    static: StaticPool | None
    parts: list[np.ndarray]
    amounts: Mapping[str, float]
    aug_one: bool
    seed: int
    epoch: int | None
    device: torch.device
    start: int = 0
    shard: Shard = ALL

    def __len__(self) -> int:
        return len(self.parts) - self.start

    def __iter__(self) -> Iterator[Batch]:
        index_N = np.concatenate(self.parts)
        draw_N = index_N + len(self.events) * times_before(index_N)
        labels_N = self.events.labels[index_N]
        label_N = moved(torch.from_numpy(labels_N), self.device)
        events = self._sequences("event", self.events, index_N, draw_N)
        static = None
        if self.static is not None:
            u_N1 = uniforms("partner", self.seed, self.epoch or 0, draw_N, 1)
            chosen_N = self.static.partners.draw(labels_N, u_N1[:, 0])
            static = self._sequences("static", self.static.images, chosen_N, draw_N)
        since, end = 0, sum(map(len, self.parts[: self.start]))
        for part in self.parts[self.start :]:
            mine = self.shard.of(range(end, end := end + len(part)))
            if not mine:
                continue
            since += len(mine)
            if since * self.events.sample_bytes > MAPPED_BYTES:
                since = self.forget()
            here = slice(mine.start, mine.stop)
            beside = None if static is None else static.batch(here)
            index_B, draw_B = (torch.from_numpy(part_N[here]) for part_N in (index_N, draw_N))
            yield Batch(events.batch(here), beside, label_N[here], index_B, draw_B)

    def forget(self) -> int:
        """Nothing of mapped files stays in memory. Returns 0."""
        for source in (self.events, self.static and self.static.images):
            forget(source and source.mapped)
        return 0

    def _sequences(
        self, stream: str, source: FrameSet, at_N: np.ndarray, draw_N: np.ndarray
    ) -> "Sequences":
        """Those of `source` at `at_N`, augmented as `stream` draws for `draw_N`; still images are
        not."""
        at, moves_N5, how = torch.from_numpy(source.places(at_N)), None, None
        on = frozenset(name for name, amount in self.amounts.items() if amount)
        if self.epoch is not None and on and source.frames.ndim > 3:
            key = self.seed, self.epoch
            u_NK = uniforms(f"augment_{stream}", *key, draw_N, DRAWS + MORE_DRAWS)
            of_N = amounts_of(self.amounts, u_NK[:, -1], self.aug_one)
            if on & {*MOVES}:
                amounts = (of_N[name] for name in ("aug_crop", "aug_flip", "aug_rotate"))
                moves_N5 = moved(moves(u_NK[:, :DRAWS], *amounts), self.device)
            if on - {*MOVES}:
                how_N9 = changes(u_NK[:, DRAWS:], of_N, source.steps, source.size)
                there = (moved(part, self.device) for part in (how_N9, torch.from_numpy(draw_N)))
                how = Changes(on, *there, f"cell_{stream}", *key)
        at = moved(at, source.frames.device)
        turned = "aug_rotate" in on
        return Sequences(source.frames, source.steps, at, moves_N5, turned, self.device, how)


@dataclass(frozen=True)
class Sequences:
    """The sequences of an epoch, in its order. `frames`, `steps` as in FrameSet; `moves_N5`: how
    they move, as `augment` takes it with `turned`, on `device`; `changes`: how they change; None:
    not at all."""

    frames: Tensor
    steps: int
    at_N: Tensor  # which of the frames, beside them
    moves_N5: Tensor | None
    turned: bool
    device: torch.device
    changes: Changes | None = None

    def batch(self, here: slice) -> Tensor:
        """Some of them, float32 (T, B, P, H, W) on `device`, channels last in memory."""
        if self.moves_N5 is None and self.changes is None and _simple(self.frames, self.device):
            return _counted_batch(self.frames, self.at_N[here])
        with one_thread(self.device):
            x = taken(self.frames, self.at_N[here], self.device)
            x = x[None, :, None] if x.ndim == 3 else x.transpose(0, 1)
            if self.moves_N5 is not None:
                x = augment(x, self.moves_N5[here], self.turned)
            if self.changes is not None:
                x = change(x, self.changes.part(here))
            still = (self.steps, -1, 2, -1, -1)  # an image is the same at every step and polarity
            return channels_last(x.expand(still))


def _simple(frames: Tensor, device: torch.device) -> bool:
    """Whether `_counted_batch` can make batches of these frames there."""
    kinds = (torch.uint8, torch.float32)
    on_cpu = frames.device.type == device.type == "cpu"
    return on_cpu and frames.ndim == 5 and frames.shape[2] == 2 and frames.dtype in kinds


def _counted_batch(frames: Tensor, at_B: Tensor) -> Tensor:
    """Frames of a CPU at these places as `Sequences.batch` returns them, in one pass."""
    T, P, H, W = frames.shape[1:]
    # numpy's, because torch asks for more than fits where the last batch was: memory would grow
    out = np.empty((T, len(at_B), H * W, P), np.float32)
    channels_last_batch(frames.numpy().reshape(-1, T, P, H * W), at_B.numpy(), out)
    return torch.from_numpy(out).view(T, -1, H, W, P).permute(0, 1, 4, 2, 3)


def channels_last(x_TBPHW: Tensor) -> Tensor:
    """The same as float32 in memory of its own, (T, B, P, H, W) with channels last."""
    T, B, P, H, W = x_TBPHW.shape
    out = torch.empty(T, B, H, W, P, device=x_TBPHW.device).permute(0, 1, 4, 2, 3)
    for p in range(P):  # a CPU takes twice as long for all at once
        out[:, :, p].copy_(x_TBPHW[:, :, p])
    return out
