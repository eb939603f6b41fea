"""Augmentation of recordings' frames: one random turn, mirroring and shift for each, the same for
all its steps and polarities, so that movement and polarity keep their meaning.

A whole batch at once, where it lies, and the same bits on every device: angles are worked out on
the host, and the device multiplies and adds one operation at a time.

Legend: T steps, B batch or more samples, P polarities or channels, H rows, W columns, S = H W.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

FAR = 1e9  # a row outside any frame
DRAWS = 4  # uniform numbers that a sample takes: turn, mirror, row, column


def moves(u_B4: np.ndarray, crop: int = 0, flip: float = 0.0, rotate: float = 0.0) -> Tensor:
    """How each of B samples moves, from DRAWS uniform numbers in (0, 1) for each, float64 (B, 4).

    It is turned by U(-rotate, rotate) degrees, mirrored with probability `flip`, and cut at a
    random place out of a frame with `crop` pixels on every side. Each number has its own purpose,
    so that changing one amount keeps the others. Returns float64 (B, 5) on the host, for
    `augment`: cosine, sine, 1 where it is mirrored, and the row and column at which it is cut.
    """
    angle_B = np.deg2rad((2 * u_B4[:, 0] - 1) * rotate)
    mirrored_B = u_B4[:, 1] < flip
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
