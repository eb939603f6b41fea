"""The one way to another size, of frames and of images: bilinear.

Shape suffixes: H row, W column; further axes stand before them.
"""

import numpy as np

from ...errors import DataError, nearest


def _between_corners(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from .counting import between_rows_and_columns  # brings numba, so only here

    x = np.ascontiguousarray(x, np.float32)
    out = np.empty((*x.shape[:-2], *size), np.float32)
    planes, made = (a.reshape(-1, *a.shape[-2:]) for a in (x, out))
    rows, columns = (_lines(*sizes) for sizes in zip(x.shape[-2:], size, strict=True))
    between_rows_and_columns(planes, *rows, *columns, made)
    return out


def _lines(old: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Between which two of `old` lines each of `n` new ones lies, int64 (n,), and how much of it
    the second is, float32 (n,)."""
    at = np.arange(n) * ((old - 1) / max(n - 1, 1) if n != old else 1.0)
    low = np.minimum(at.astype(np.int64), old - 1)
    return low, np.minimum(low + 1, old - 1), (at - low).astype(np.float32)


def _by_area(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    if x.shape[-2:] == tuple(size):
        return x
    dtype = np.uint8 if x.dtype == np.uint8 else np.float32  # else PIL would cut 16 bits to 8
    planes = np.ascontiguousarray(x.reshape(-1, *x.shape[-2:]), dtype)
    size_WH, how = (size[1], size[0]), Image.Resampling.BILINEAR
    out = np.stack([np.asarray(Image.fromarray(plane).resize(size_WH, how)) for plane in planes])
    return out.reshape(*x.shape[:-2], *size)


RESIZES = {"aligned": _between_corners, "antialias": _by_area}


def resize(x: np.ndarray, size: tuple[int, int], how: str = "antialias") -> np.ndarray:
    """`x` (..., H, W), numbers, with the last two axes brought to `size` (H, W).

    `how`: "antialias" averages over all pixels that fall together where it shrinks, as Pillow's
    bilinear does; bytes stay bytes, rounded. "aligned": corners fall on corners and only the four
    nearest pixels count, as torch's interpolate with align_corners=True; so the frames of He et al.
    2024 (arXiv 2303.13077) are made. Other types come back as float32, at the scale of the input.
    Errors: DataError for another `how`.
    """
    if how not in RESIZES:
        raise DataError(f"frames cannot be resized by {how!r}: {nearest(how, RESIZES)}")
    return RESIZES[how](np.asarray(x), size)
