"""Augmentation of recordings' frames, in two parts: `augment` moves a recording, by one random
turn, mirroring and shift for all its steps and polarities; `change` then shifts it in time, swaps
its polarities, silences a part and drops or adds events. AUGMENTATIONS has all.

A whole batch at once, where it lies, and the same bits on every device: what a sample draws is
worked out on the host, and the device multiplies and adds one operation at a time.

Legend: T steps, B batch or more samples, P polarities or channels, H rows, W columns, S = H W.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ...kernels import event_words
from ..augmentation import Augmentation
from ..seeds import counter

FAR = 1e9  # a row outside any frame
DRAWS = 4  # uniform numbers that a movement takes: turn, mirror, row, column
MORE_DRAWS = 8  # after them: shift, swap, row, column and side of the square, steps, choice
CELL = 2**16  # the parts in which the probabilities of `aug_drop` and `aug_noise` count


_NDA, _DROP = "Li et al. 2022 (arXiv 2203.06145)", "EventDrop, Gu et al. 2021 (arXiv 2106.05836)"
AUGMENTATIONS = {  # option -> row, in the order of use
    "aug_rotate": Augmentation("turns by U(-a, a) degrees", _NDA),
    "aug_flip": Augmentation("mirrors left to right with probability a", _NDA),
    "aug_crop": Augmentation("shifts by up to a pixels", _NDA),
    "aug_time_shift": Augmentation("shifts by up to a steps; what comes in is empty", "ours"),
    "aug_polarity": Augmentation(
        "swaps the polarities with probability a", "tonic RandomFlipPolarity"
    ),
    "aug_cutout": Augmentation("silences a square of U(0, a) pixels per side", _DROP + ", by area"),
    "aug_time_mask": Augmentation("silences U(0, a) steps in a row", _DROP + ", by time"),
    "aug_drop": Augmentation(
        "empties each pixel of each step and polarity with probability a", _DROP + ", random"
    ),
    "aug_noise": Augmentation(
        "adds an event at each pixel of each step and polarity with probability a",
        "tonic UniformNoise",
    ),
}
MOVES = ("aug_rotate", "aug_flip", "aug_crop")


def amounts_of(
    amounts: Mapping[str, float], u_B: np.ndarray, one: bool = False
) -> dict[str, np.ndarray]:
    """What each of B samples takes of every augmentation, float64 (B,). `amounts`: those of all.
    `one`: a sample takes only one of those that are on, or none, all alike by `u_B` in (0, 1), as
    EventDrop and NDA choose."""
    on = [name for name in AUGMENTATIONS if amounts.get(name)]
    pick_B = np.floor(u_B * (len(on) + 1))
    return {
        name: np.full(len(u_B), float(amounts.get(name, 0)))
        * (not one or (name in on and pick_B == on.index(name)))
        for name in AUGMENTATIONS
    }


Amount = float | np.ndarray  # one for all samples, or of each, (B,)


def moves(u_B4: np.ndarray, crop: Amount = 0, flip: Amount = 0.0, rotate: Amount = 0.0) -> Tensor:
    """How each of B samples moves, from DRAWS uniform numbers in (0, 1) for each, float64 (B, 4).

    It is turned by U(-rotate, rotate) degrees, mirrored with probability `flip`, and cut at a
    random place out of a frame with `crop` pixels on every side. Each number has its own purpose,
    so that changing one amount keeps the others. Returns float64 (B, 5) on the host, for
    `augment`: cosine, sine, 1 where it is mirrored, and the row and column at which it is cut.
    """
    angle_B = np.deg2rad((2 * u_B4[:, 0] - 1) * rotate)
    mirrored_B = u_B4[:, 1] < flip
    crop = np.reshape(crop, (-1, 1))
    cut_B2 = np.floor(u_B4[:, 2:] * (2 * crop + 1)) - crop
    columns = [np.cos(angle_B), np.sin(angle_B), mirrored_B, cut_B2]
    return torch.from_numpy(np.column_stack(columns).astype(np.float64))


def augment(x_TBPHW: Tensor, moves_B5: Tensor, turned: bool = True) -> Tensor:
    """The frames turned counter-clockwise about their middle (bilinear), then mirrored left to
    right, then cut, as `moves` says; what comes from outside is 0.

    Args:
        x_TBPHW: frames (T, B, P, H, W) of any type up to float32, in any memory layout.
        moves_B5: float64 (B, 5), on the device of the frames.
        turned: False where all angles are 0, which takes a quarter of the work.

    Returns:
        (T, B, P, H, W): float32, or if not `turned` the type of the frames.
    """
    T, B, P, H, W = x_TBPHW.shape
    # whatever comes from outside meets these zeros, with a neighbour on the right and below
    x_TBPS = pad(x_TBPHW, (1, 2, 1, 2)).flatten(3)
    row, column = _origins(moves_B5, H, W)
    top, left = row.floor(), column.floor()
    place_BS = (top * (W + 3) + left + (W + 4)).long().flatten(1)
    place_TBPS = place_BS[None, :, None].expand(T, B, P, H * W)
    if not turned:
        return x_TBPS.gather(3, place_TBPS).view(T, B, P, H, W)
    down, right = ((at - start).float().flatten(1) for at, start in ((row, top), (column, left)))
    out = None
    for below, share_y in enumerate((1 - down, down)):
        for beside, share_x in enumerate((1 - right, right)):
            seen = x_TBPS[..., below * (W + 3) + beside :].gather(3, place_TBPS)
            part = seen.float().mul_((share_y * share_x)[None, :, None])
            out = part if out is None else out.add_(part)
    assert out is not None
    return out.view(T, B, P, H, W)


class Changes(NamedTuple):
    """How B samples change beyond movement: `names`: those of AUGMENTATIONS that are on; `how_B9`
    int64 (B, 9), see `changes`; `draw_B` int64 (B,), the numbers by which they draw, both on the
    device of the frames; `stream`, `seed` and `epoch` say what their pixels draw."""

    names: frozenset[str]
    how_B9: Tensor
    draw_B: Tensor
    stream: str
    seed: int
    epoch: int

    def part(self, here: slice) -> "Changes":
        """Those of some samples."""
        return self._replace(how_B9=self.how_B9[here], draw_B=self.draw_B[here])


def changes(
    u_B8: np.ndarray, amounts: Mapping[str, np.ndarray], T: int, size: tuple[int, int]
) -> Tensor:
    """What each of B samples takes, from MORE_DRAWS uniform numbers in (0, 1) for each. `amounts`:
    as `amounts_of` gives them. Returns int64 (B, 9) on the host: steps later, 1 where polarities
    are swapped, first row and column and side of the square, first step and number of those that
    are silenced, and of 2^16 random numbers those that drop and those that add."""
    a, u = amounts, u_B8.T
    shift = np.floor(u[0] * (2 * a["aug_time_shift"] + 1)) - a["aug_time_shift"]
    side = np.floor(u[4] * (a["aug_cutout"] + 1))
    row, column = (np.floor(u[2 + i] * (size[i] + side)) - side for i in (0, 1))
    length = np.floor(u[6] * (a["aug_time_mask"] + 1))
    first = np.floor(u[5] * (T + length)) - length
    chances = [np.rint(a[name] * CELL) for name in ("aug_drop", "aug_noise")]
    columns = [shift, u[1] < a["aug_polarity"], row, column, side, first, length, *chances]
    return torch.from_numpy(np.column_stack(columns).astype(np.int64))


def change(x_TBPHW: Tensor, how: Changes) -> Tensor:
    """The frames (T, B, P, H, W), of any type up to float32, after all but movement; float32 where
    events are added, else of the same type."""
    T, B, _, H, W = x_TBPHW.shape
    x, device, on = x_TBPHW, x_TBPHW.device, how.names
    shift, swap, row, column, side, first, length, drop, noise = how.how_B9.unbind(1)
    step_T1 = torch.arange(T, device=device)[:, None]
    if "aug_time_shift" in on:
        at_TB = step_T1 - shift
        x = x[at_TB.clamp(0, T - 1), torch.arange(B, device=device)]
        x = x * ((at_TB >= 0) & (at_TB < T))[:, :, None, None, None]
    if "aug_polarity" in on:
        x = torch.where((swap == 1)[None, :, None, None, None], x.flip(2), x)
    if "aug_cutout" in on:
        across = [torch.arange(n, device=device) - at[:, None] for n, at in ((H, row), (W, column))]
        y_BH, x_BW = ((at >= 0) & (at < side[:, None]) for at in across)
        x = x * ~(y_BH[:, :, None] & x_BW[:, None, :])[None, :, None]
    if "aug_time_mask" in on:
        x = x * ((step_T1 < first) | (step_T1 >= first + length))[:, :, None, None, None]
    if on & {"aug_drop", "aug_noise"}:
        word = _cells(x, how)
        drop, noise = (part[None, :, None, None, None] for part in (drop, noise))
        x = x * ((word & (CELL - 1)) >= drop)
        x = x.float() + (((word >> 16) & (CELL - 1)) < noise) if "aug_noise" in on else x
    return x


def _cells(x_TBPHW: Tensor, how: Changes) -> Tensor:
    """The bits of a random word for each pixel, step and polarity of the frames, int32 alike."""
    T, B, P, H, W = x_TBPHW.shape
    at, blocks = counter(how.stream, how.seed, how.epoch), -(-T * P * H * W // 4)
    sample_B = torch.arange(B, device=x_TBPHW.device)
    sample_n = sample_B.int()[:, None].expand(B, blocks).reshape(-1)
    drawn_4n = event_words(sample_n, sample_B * blocks, how.draw_B, at.seed, at.epoch, at.stream)
    word_BN = drawn_4n.view(4, B, blocks).permute(1, 2, 0).reshape(B, -1)[:, : T * P * H * W]
    return word_BN.reshape(B, T, P, H, W).transpose(0, 1)


def _origins(moves_B5: Tensor, H: int, W: int) -> tuple[Tensor, Tensor]:
    """Row and column from which each pixel comes, float64 (B, H, W); -1, or the length, where that
    is outside."""
    cos, sin, mirrored, up, first = moves_B5[:, :, None, None].unbind(1)
    row = torch.arange(H, device=moves_B5.device)[:, None] + up  # (B, H, 1)
    column = torch.arange(W, device=moves_B5.device) + first  # (B, 1, W)
    column = column + mirrored * (W - 1 - 2 * column)
    y, x = row - (H - 1) / 2, column - (W - 1) / 2
    down = (cos * y + (H - 1) / 2).masked_fill((row < 0) | (row >= H), FAR)
    # the cut comes after the turn, so it hides what the turn brings there
    more_down = (sin * x).masked_fill((column < 0) | (column >= W), FAR)
    along = (cos * x + (W - 1) / 2) - sin * y
    return (down + more_down).clamp(-1, H), along.clamp(-1, W)
