"""The events of a batch of clips, one clip after the other, as tensors on any device.

Legend: n events, B clips of the batch, S stored clips of which they consist: one each, two where
clips are mixed.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import DataError
from ..events import Events
from ..placing import moved

SHORT_US = 2**29  # twice as much and what augmentation adds is still below 2**31


class Flat(NamedTuple):
    """Events of B clips. `t_us` int32 or int64 (n,), `unit` integer (n,), `clip` int32 (n,),
    ascending; `begin` int64 (B,), the place of each clip's first event; `index` int64 (B,), the
    clips' places in their set; `alive` bool (n,), which events there still are, None: all; `part`
    int8 (n,), of a mix 1 in the first clip and 2 in the second, else 0; None: there is no mix.
    `most`: events of the largest clip. Of a clip with a stretch of another `part` is 3 and 4, and
    `share` float64 (B,) is the part of its events that is the other's; None: nothing is cut."""

    t_us: Tensor
    unit: Tensor
    clip: Tensor
    begin: Tensor
    index: Tensor
    most: int
    alive: Tensor | None = None
    part: Tensor | None = None
    share: Tensor | None = None

    def only(self, alive: Tensor) -> "Flat":
        """Without the events that are not `alive` (n,)."""
        return self._replace(alive=alive if self.alive is None else self.alive & alive)


class Pieces(NamedTuple):
    """Which stored clips a batch consists of. `index_B`: its clips; `place_S`: their places in the
    set and, after a clip's own, that of the clip it is mixed with; `clip_S`: whose each is in the
    batch; `second_S`: whether it is the one mixed in; `cut_S`: whether it is of a clip that gets a
    stretch of another, None: none is. Integers and bool."""

    index_B: np.ndarray
    place_S: np.ndarray
    clip_S: np.ndarray
    second_S: np.ndarray
    cut_S: np.ndarray | None = None


def pieces(
    index_B: np.ndarray, partner_B: np.ndarray | None, cut_B: np.ndarray | None = None
) -> Pieces:
    """Pieces of the clips `index_B`; `partner_B`: the clip that each is mixed with, -1: none;
    `cut_B`: where it gives a stretch and is not blended."""
    B = len(index_B)
    if partner_B is None or (partner_B < 0).all():
        return Pieces(index_B, index_B, np.arange(B), np.zeros(B, bool))
    clip_S = np.repeat(np.arange(B), 1 + (partner_B >= 0))
    second_S = np.diff(clip_S, prepend=-1) == 0
    place_S = np.where(second_S, partner_B[clip_S], index_B[clip_S])
    return Pieces(index_B, place_S, clip_S, second_S, None if cut_B is None else cut_B[clip_S])


def flat(
    t_us: Tensor,
    unit: Tensor,
    made: Pieces,
    size_S: np.ndarray,
    sum_S: np.ndarray,
    start_S: np.ndarray | None = None,
) -> Flat:
    """The events of a batch, on the device of `t_us` and `unit`, integer (n,) each.

    `size_S`: events of each piece, at least one of the first of a clip; `sum_S`: sum of their
    times. `start_S`: where in `t_us` each begins; None: they are all there is, in order. What is
    mixed in is moved so that the mean times agree. All sizes are known here, and one copy brings
    them to the device: nothing waits for it.
    """
    B, n = len(made.index_B), int(size_S.sum())
    size_B = np.bincount(made.clip_S, size_S, B).astype(np.int64)
    move_S = np.zeros(len(size_S), np.int64) if start_S is None else start_S - begins(size_S)
    part_S, shift_S = _mixed(made, size_S, sum_S)
    arrays = [begins(size_B), made.index_B, size_S, move_S, made.clip_S, part_S, shift_S]
    begin_B, index_B, size, move, clip, part, shift = _on(t_us.device, arrays)
    piece_n = torch.repeat_interleave(size, output_size=n)
    if start_S is not None:
        place_n = move.index_select(0, piece_n) + torch.arange(n, device=t_us.device)
        t_us, unit = t_us.index_select(0, place_n), unit.index_select(0, place_n)
    clip_n, part_n = piece_n.int(), None
    if part_S.any():
        clip_n = clip.int().index_select(0, piece_n)
        part_n = part.to(torch.int8).index_select(0, piece_n)
        t_us = t_us + shift.to(t_us.dtype).index_select(0, piece_n)
    return Flat(t_us, unit, clip_n, begin_B, index_B, int(size_B.max()), None, part_n)


def begins(size: np.ndarray) -> np.ndarray:
    """Where each of several pieces of these sizes, in a row, begins."""
    return np.cumsum(size) - size


def _mixed(made: Pieces, size_S: np.ndarray, sum_S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Part of each piece, see `Flat`, and how far it moves in us: both 0 where nothing is mixed."""
    part_S, shift_S = np.zeros((2, len(size_S)), np.int64)
    second = np.flatnonzero(made.second_S & (size_S > 0))
    part_S[second], part_S[second - 1] = 2, 1
    shift_S[second] = np.rint(
        sum_S[second - 1] / size_S[second - 1] - sum_S[second] / size_S[second]
    )
    if made.cut_S is not None:
        part_S[made.cut_S & (part_S > 0)] += 2
        shift_S[made.cut_S] = 0
    return part_S, shift_S


def _on(device: torch.device, arrays: list[np.ndarray]) -> tuple[Tensor, ...]:
    """Integer arrays as int64 tensors there, in one copy."""
    packed = torch.from_numpy(np.concatenate(arrays).astype(np.int64))
    return moved(packed, device).split([len(a) for a in arrays])


def compact(t_us: np.ndarray, unit: np.ndarray, n_units: int) -> tuple[Tensor, Tensor]:
    """Checked times and units, integer (n,), in the smallest types that hold them whatever
    augmentation does."""
    short = not len(t_us) or t_us.max() < SHORT_US
    t = t_us.astype(np.int32 if short else np.int64)
    return torch.from_numpy(t), torch.from_numpy(
        unit.astype(np.int16 if n_units <= 2**15 else np.int32)
    )


class BadClip(Exception):
    """The `piece`-th of several clips cannot be used; `why`: a sentence's second half."""

    def __init__(self, piece: int, why: str):
        super().__init__(why)
        self.piece, self.why = piece, why


def check(t_us: np.ndarray, unit: np.ndarray, size_S: np.ndarray, n_units: int) -> None:
    """BadClip for the first clip without events, or with one before time 0 or off the axis.
    `t_us`, `unit` integer (n,): the events of clips of `size_S`, in order."""
    bad = np.flatnonzero(size_S == 0)
    if len(bad):
        raise BadClip(int(bad[0]), "the clip has no events")
    if not len(t_us) or (t_us.min() >= 0 and unit.min() >= 0 and unit.max() < n_units):
        return
    first = int(((t_us < 0) | (unit < 0) | (unit >= n_units)).argmax())
    piece = int(np.searchsorted(np.cumsum(size_S), first, side="right"))
    mine = slice(begin := int(begins(size_S)[piece]), begin + int(size_S[piece]))
    try:
        Events(t_us[mine], unit[mine]).validate(n_units)
    except DataError as error:
        raise BadClip(piece, str(error)) from None
