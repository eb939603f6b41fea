"""Files of still images -> arrays: what PIL opens, and MNIST's IDX. Nothing is unpacked before its
size is known to be sensible.

    pixels = read_image("a.png")                     # uint8 (H, W) or (H, W, 3), uint16 (H, W)
    images = read_idx("train-images-idx3-ubyte", 3)  # uint8 (n, H, W)

Source of IDX: LeCun, Cortes, Burges, "The MNIST database". Shape suffixes: H row, W column.
"""

import gzip
import math
import warnings
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...errors import DataError, alternatives
from ..events import pixels

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".pgm", ".ppm", ".tif", ".tiff", ".gif", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "PPM", "TIFF", "GIF", "WEBP")  # some others start programs
MOST_PIXELS, PER_BYTE = 1 << 23, 4  # of an image, and more for each byte of its file
MOST_SCANS = 100  # of a JPEG, each of which goes over all of it
BITS, GREY = 258, 262  # tags of a TIFF; PIL takes 12 bits for 16, and 0 for black
STRIP = 1 << 18  # pixels that are converted at once
MOST_BYTES, TIMES = 1 << 26, 32  # that an IDX file may hold, and more for each byte of a packed one


def read_image(path: Path) -> np.ndarray:
    """Pixels of an image file: uint8 (H, W) or (H, W, 3), uint16 (H, W) for grey ones of more than
    8 bits and for floats in 0..1. What is transparent has the colour that is stored there.

    Errors: DataError naming a file that is damaged or no image, claims more pixels than its bytes
    can well hold, or has no one meaning: several pictures, floats beyond 0..1, integers of 32 bits,
    a shape that lies in its transparency alone.
    """
    from PIL import Image, UnidentifiedImageError  # slow to import, so only here

    try:
        n_bytes = path.stat().st_size
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of side information that nobody reads
            if not n_bytes:
                raise ValueError("it is empty")
            with Image.open(file, formats=FORMATS) as picture:
                _check(picture, file, n_bytes)
                return _pixels(picture)
    except UnidentifiedImageError:
        kinds = alternatives(FORMATS)
        raise DataError(f"{path} cannot be read as an image (no {kinds}, or damaged)") from None
    except Exception as error:  # PIL has no common error for a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be read as an image ({reason})") from error


def _check(picture: Any, file: BinaryIO, n_bytes: int) -> None:
    """ValueError for a picture that would take much memory or time, or is not one."""
    W, H = picture.size
    tags = getattr(picture, "tag_v2", {})  # of a TIFF
    if picture.mode.startswith("I;16") and (
        tags.get(BITS, (16,)) != (16,) or not tags.get(GREY, 1)
    ):
        raise ValueError("its grey has 12 bits, or its 0 is white: save it with 16 bits, 0 black")
    if MOST_PIXELS + PER_BYTE * n_bytes < W * H:
        raise ValueError(f"it claims {pixels((H, W))} in {n_bytes:,} bytes: make it smaller")
    if picture.format in ("JPEG", "MPO"):  # MPO: with a small copy in it, as phones write
        file.seek(0)
        if (n := file.read().count(b"\xff\xda")) > MOST_SCANS:
            raise ValueError(f"it is coded in {n} scans: save it anew")
    elif getattr(picture, "is_animated", False):
        raise ValueError("it holds several pictures: keep the one that is meant")


def _pixels(picture: Any) -> np.ndarray:
    """As `read_image` returns them, or uint8 (H, W, 3). Strip by strip, because PIL's conversions
    hold everything several times."""
    W, H = picture.size
    rows, out = max(1, STRIP // W), np.zeros(0, np.uint8)
    for top in range(0, H, rows):
        bottom = min(H, top + rows)
        strip = _strip(picture.crop((0, top, W, bottom)), picture.format)
        if not top:
            out = np.empty((H, *strip.shape[1:]), strip.dtype)
        out[top:bottom] = strip
    if out.shape[2:] != (4,):
        return out
    colour, alpha = out[..., :3], out[..., 3]
    if alpha.min() < alpha.max() and (colour == colour[:1, :1]).all():
        raise ValueError("its shape lies in its transparency alone: save it on a background")
    return colour


def _strip(part: Any, format: str) -> np.ndarray:
    """Pixels of a picture: uint8 (H, W), (H, W, 3) or, with transparency, (H, W, 4), or uint16
    (H, W). ValueError if nobody knows which of its numbers is white."""
    if part.mode == "F":
        grey = np.asarray(part)
        low, high = grey.min(), grey.max()
        if not (low >= 0 and high <= 1):  # nor is NaN
            raise ValueError(f"its floats run from {low:g} to {high:g}: save them as 0 to 1")
        return np.rint(grey * 65535).astype(np.uint16)
    if part.mode == "I" and format not in ("PNG", "PPM"):
        raise ValueError("its integers have 32 bits, and which is white is unknown: save 8 or 16")
    if part.mode.startswith("I"):  # these have 16
        return np.asarray(part).astype(np.uint16)
    if part.mode in ("1", "L"):
        return np.asarray(part.convert("L"))
    clear = part.mode[-1] in "Aa" or "transparency" in part.info
    return np.asarray(part.convert("RGBA" if clear else "RGB"))


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """An IDX file, packed or not: bytes 0 0 8 ndim, `ndim` lengths as big-endian int32, the values,
    uint8 of these lengths. Errors: DataError if it is none or not whole, or claims more than its
    bytes can well hold."""
    start = 4 + 4 * ndim
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            head = file.read(start)
            shape = [int.from_bytes(head[i : i + 4]) for i in range(4, start, 4)]
            n = math.prod(shape)
            if head[:4] != bytes((0, 0, 8, ndim)) or len(head) < start:
                raise ValueError(f"it is no IDX file of bytes with {ndim} dimensions")
            if n > MOST_BYTES + TIMES * (n_bytes := path.stat().st_size):
                raise ValueError(
                    f"it claims {n:,} bytes in {n_bytes:,}: give a file that is not packed"
                )
            values = file.read(n + 1)  # no more, whatever a packed file holds
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error})") from error
    if len(values) != n:
        more = "more" if len(values) > n else "fewer"
        raise DataError(f"{path} cannot be read (it holds {more} than the {n:,} bytes it claims)")
    return np.frombuffer(values, np.uint8).reshape(shape)
