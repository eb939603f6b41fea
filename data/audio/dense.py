"""Clips that are frames already -> batches [T, B, C], as `loader` makes them of events.

Order and what is drawn are those of `loader`: pure functions of (seed, epoch, index), so that a
batch is the same for any number of workers and on any device. Augmentation moves whole frames and
whole channels: only integers are computed from what is drawn, in single float64 operations.

Legend: T frames, B clips of the batch, C channels (mel bands); values in dB.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError, DataError
from ..batches import ALL, Shard, epoch_batches, shards
from ..placing import moved, one_thread
from .augment import Drawn, check_amounts, clip_draws
from .frames import Framing
from .loader import Batch, Loader
from .log_mel import SILENCE_DB
from .waves import FrameSet

# what is done to frames; the others are of single events
AMOUNTS = (
    *("aug_time_scale", "aug_time_shift_ms", "aug_unit_scale", "aug_unit_shift"),
    *("aug_time_mask_ms", "aug_unit_mask"),
)


def frame_loader(
    clips: FrameSet,
    *,
    batch_size: int,
    dt_ms: float,
    workers: int = 0,
    n_steps: int | None = None,
    amounts: Mapping[str, float] | None = None,
    mix: float = 0.0,
    cutmix: float = 0.0,
    seed: int = 0,
    epoch: int | None = None,
    start_batch: int = 0,
    shard: Shard = ALL,
    pin_memory: bool = False,
    timeout_s: float = 120,
) -> Loader:
    """Iterable of `Batch`, with len(), `x` float32 (T, B, C) where the frames lie. Arguments:
    those of `loader`; `n_steps`: T, cut or padded with silence; None: as the frames are.

    Errors: DataError if there is no clip, ConfigError for an augmentation of single events.
    """
    if not len(clips):
        raise DataError("the data set has no clips")
    check_amounts(amounts or {})
    used = {name: amount for name, amount in (amounts or {}).items() if amount}
    check_frames_take(used | {"aug_mix": mix, "aug_cutmix": cutmix})
    parts = shards(epoch_batches(clips.labels, batch_size, seed, epoch)[start_batch:], shard)
    made = _Batches(clips, parts, dt_ms, used, seed, epoch, n_steps)
    there = clips.frames.device.type != "cpu"
    return Loader(made, 0 if there else workers, pin_memory, timeout_s)  # type: ignore[arg-type]


def check_frames_take(amounts: Mapping[str, float]) -> None:
    """ConfigError for an augmentation, with an amount that is not 0, of single events."""
    for name, amount in amounts.items():
        if amount and name not in AMOUNTS:
            raise ConfigError(f"{name} is of single events, and frames have none: set it to 0")


class _Batches:
    """Number of a batch -> the batch."""

    def __init__(
        self,
        clips: FrameSet,
        parts: list[np.ndarray],
        dt_ms: float,
        amounts: Mapping[str, float],
        seed: int,
        epoch: int | None,
        n_steps: int | None,
    ):
        _, T, C = clips.frames.shape
        self.clips, self.parts, self.dt_ms, self.amounts = clips, parts, dt_ms, amounts
        self.how = Framing(round(dt_ms * 1000), 1, C, n_steps or T)
        self.labels = torch.from_numpy(clips.labels).to(clips.frames.device)
        draws = epoch is not None and amounts
        self.u_KN = torch.from_numpy(clip_draws(seed, epoch, len(clips))) if draws else None

    def __len__(self) -> int:
        return len(self.parts)

    def steps(self) -> None:
        """All clips have as many."""

    def __getitem__(self, k: int) -> Batch:
        if not 0 <= k < len(self):
            raise IndexError(k)
        with one_thread(self.labels.device):
            return self.batch(self.parts[k])

    def batch(self, index_B: np.ndarray) -> Batch:
        """The batch of the clips `index_B`; nothing waits for the device."""
        clips, device = self.clips, self.labels.device
        index = moved(torch.from_numpy(index_B), device)
        place_B = moved(torch.from_numpy(clips.place[index_B]), device)
        x_BTC = clips.frames.index_select(0, place_B).float()
        if clips.reverse:
            x_BTC = x_BTC.flip(1)
        if self.u_KN is not None:
            u_KB = moved(self.u_KN[:, index_B], device)
            x_BTC = augmented(x_BTC, self.amounts, u_KB, self.dt_ms)
        missing = self.how.n_steps - x_BTC.shape[1]  # type: ignore[operator]
        x_BTC = torch.nn.functional.pad(x_BTC, (0, 0, 0, missing), value=SILENCE_DB)
        return Batch(x_BTC.transpose(0, 1).contiguous(), self.labels.index_select(0, index), index)


def augmented(x_BTC: Tensor, amounts: Mapping[str, float], u_KB: Tensor, dt_ms: float) -> Tensor:
    """Frames after the augmentations whose amounts are not 0, which mean what those of events mean:
    stretches and shifts of time and of the channels by the nearest whole frame and channel, then
    masks. What comes from outside is silence, as masks are.

    `u_KB` float64: what the clips draw. `dt_ms`: of a frame.
    """
    _, T, C = x_BTC.shape
    drawn, of = Drawn(u_KB, None, C), amounts.get
    t_BT = _source(T, drawn, "time", of("aug_time_scale"), of("aug_time_shift_ms", 0) / dt_ms, 0.0)
    c_BC = _source(C, drawn, "unit", of("aug_unit_scale"), of("aug_unit_shift", 0), (C - 1) / 2)
    there_BT, there_BC = (t_BT >= 0) & (t_BT < T), (c_BC >= 0) & (c_BC < C)
    for there, name, size, unit in (
        (there_BT, "time_mask", T, dt_ms), (there_BC, "unit_mask", C, 1.0)
    ):  # fmt: skip
        widest = of("aug_time_mask_ms" if name == "time_mask" else "aug_unit_mask", 0) / unit
        if widest:
            there &= _outside(size, drawn, name, widest)
    clip_B11 = torch.arange(len(x_BTC), device=x_BTC.device)[:, None, None]
    moved_BTC = x_BTC[clip_B11, t_BT.clamp(0, T - 1)[:, :, None], c_BC.clamp(0, C - 1)[:, None]]
    there_BTC = there_BT[:, :, None] & there_BC[:, None]
    return torch.where(there_BTC, moved_BTC, SILENCE_DB)


def _source(
    n: int, drawn: Drawn, axis: str, scale: float | None, shift: float, middle: float
) -> Tensor:
    """From where each of the n places of an axis is taken, int64 (B, n): it is stretched about
    `middle` by U(1 - scale, 1 + scale), then moved by U(-shift, shift)."""
    factor_B1 = (drawn.either(f"{axis}_scale") * (scale or 0.0) + 1)[:, None]
    shift_B1 = (drawn.either(f"{axis}_shift") * shift).round()[:, None]
    place_n = torch.arange(n, dtype=torch.float64, device=factor_B1.device)
    return ((place_n - shift_B1 - middle) / factor_B1 + middle).round().long()


def _outside(n: int, drawn: Drawn, name: str, widest: float) -> Tensor:
    """Which places of an axis no mask of U(0, widest) from anywhere on covers, bool (B, n)."""
    width = "length" if name == "time_mask" else "width"
    start_B1 = (drawn.uniform(f"{name}_start") * n)[:, None]
    end_B1 = start_B1 + (drawn.uniform(f"{name}_{width}") * widest)[:, None]
    place_n = torch.arange(n, device=start_B1.device)
    return (place_n < start_B1.ceil()) | (place_n >= end_B1.ceil())
