"""Augmentation of a recording's frames: one random turn, mirroring and shift, the same for all
its steps and polarities, so that movement and polarity keep their meaning.

T steps, P polarities or channels, H rows, W columns. Everything random comes from `rng`.
"""

import numpy as np


def augment(
    x_TPHW: np.ndarray,
    rng: np.random.Generator,
    crop: int = 0,
    flip: float = 0.0,
    rotate: float = 0.0,
) -> np.ndarray:
    """The frames turned by U(-rotate, rotate) degrees about their middle (bilinear), mirrored left
    to right with probability `flip`, and cut at a random place out of a frame with `crop` pixels
    of zeros on every side. float32 [T, P, H, W]; what comes from outside is 0; an amount of 0
    changes nothing. The same draws are made whatever the amounts, so that changing one keeps
    the others."""
    x = np.asarray(x_TPHW, np.float32)
    degrees = rng.uniform(-1, 1) * rotate
    mirrored = rng.random() < flip
    up, left = np.floor(rng.random(2) * (2 * crop + 1)).astype(int)
    if degrees:
        x = rotated(x, degrees)
    if mirrored:
        x = x[..., ::-1]
    if crop:
        H, W = x.shape[-2:]
        sides = [(0, 0)] * (x.ndim - 2) + [(crop, crop)] * 2
        x = np.pad(x, sides)[..., up : up + H, left : left + W]
    return np.ascontiguousarray(x)


def rotated(x_TPHW: np.ndarray, degrees: float) -> np.ndarray:
    """The frames turned counter-clockwise about their middle, bilinear, 0 outside; float32."""
    H, W = x_TPHW.shape[-2:]
    angle = np.deg2rad(degrees)
    y, x = np.mgrid[:H, :W] - np.array([(H - 1) / 2, (W - 1) / 2]).reshape(2, 1, 1)
    from_y = np.cos(angle) * y + np.sin(angle) * x + (H - 1) / 2
    from_x = np.cos(angle) * x - np.sin(angle) * y + (W - 1) / 2
    top, left = np.floor(from_y).astype(int), np.floor(from_x).astype(int)
    flat = x_TPHW.reshape(*x_TPHW.shape[:-2], H * W)
    out = np.zeros(x_TPHW.shape, np.float32)
    for row in (top, top + 1):
        for column in (left, left + 1):
            share = (1 - np.abs(from_y - row)) * (1 - np.abs(from_x - column))
            share *= (row >= 0) & (row < H) & (column >= 0) & (column < W)
            place = row.clip(0, H - 1) * W + column.clip(0, W - 1)
            out += flat[..., place] * share.astype(np.float32)
    return out
