"""What all readers of recordings share: bytes of a file, clocks that wrap, the last check.

Legend: n events; `size` is (height, width) of a sensor in pixels.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ....errors import DataError, EventFormatError
from ...events import Events

SIDE = 2048  # pixels: the 11 bits that EVT2 and EVT3 have for a row or a column
END_US = 1 << 53  # 285 years: times below it are exact in float64, and frames never overflow
LATE_US = 10_000  # events of a sorted format may come so late; a clock that falls by more is broken


def read_bytes(path: str | Path) -> bytes:
    """All bytes of a file. Errors: DataError if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the recording {path}: {error.strerror}") from None


def records(raw: bytes, at: int, dtype: np.dtype, path: str) -> np.ndarray:
    """The records from byte `at` on, (n,) of `dtype`. Errors: EventFormatError if one is cut."""
    dtype = np.dtype(dtype)
    n, more = divmod(len(raw) - at, dtype.itemsize)
    if more:
        reason = f"{more} bytes of a {dtype.itemsize}-byte record: the file was cut, fetch it again"
        raise EventFormatError(path, len(raw) - more, reason, "byte")
    return np.frombuffer(raw, dtype, n, at)


def unwrapped(t_n: np.ndarray, bits: int, fail: Callable[[int, str], None]) -> np.ndarray:
    """Times of a counter of so many bits, unsigned (n,), as int64 that go on over its end. `fail`:
    (index, reason), called where the counter falls by more than LATE_US and not over its end."""
    t_us = t_n.astype(np.int64)
    step = np.diff(t_us, prepend=t_us[:1])
    over = step < -(1 << (bits - 1))
    back = (step < -LATE_US) & ~over
    if back.any():
        i = int(back.argmax())
        fail(
            i, f"the time falls from {t_us[i - 1]} to {t_us[i]} us: the clock was reset or damaged"
        )
    # an event that is late may come from before the counter's end
    late = step > 1 << (bits - 1)
    return t_us + ((np.cumsum(over) - np.cumsum(late)) << bits)


def checked(
    path: str,
    t_us: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
    size: tuple[int, int] | None,
    place: Callable[[int], int] = int,
    unit: str = "event",
) -> Events:
    """Events of columns (n,) of integers: t_us int64, x and y int16, p int8. `place`: index of an
    event -> where in the file it lies, in `unit`. Errors: EventFormatError that names the first
    event off the sensor (None: of 2048 x 2048), before time 0, or of another polarity than 0, 1."""
    H, W = size or (SIDE, SIDE)
    good = (t_us >= 0) & (t_us < END_US) & (x >= 0) & (x < W) & (y >= 0) & (y < H)
    good &= (p == 0) | (p == 1)
    if not good.all():
        i = int(np.argmin(good))
        reason = impossible(*(int(part[i]) for part in (t_us, x, y, p)), (H, W))
        raise EventFormatError(path, place(i), reason, unit)
    return Events(t_us.astype(np.int64), x.astype(np.int16), y.astype(np.int16), p.astype(np.int8))


def impossible(t_us: int, x: int, y: int, p: int, size: tuple[int, int]) -> str:
    """What is wrong with an event, in words."""
    H, W = size
    if not (0 <= x < W and 0 <= y < H):
        return f"the event at x {x}, y {y} lies off the sensor of {W} x {H} pixels"
    if p not in (0, 1):
        return f"the event has polarity {p}, expected 0 or 1"
    return f"the event comes at {t_us} us, expected a time from 0 to {END_US} us"


def check_size(size: tuple[int, int], path: str, at: int | None) -> tuple[int, int]:
    """(H, W) as a header says it. Errors: EventFormatError if no sensor has it."""
    H, W = size
    if not (1 <= H <= SIDE and 1 <= W <= SIDE):
        raise EventFormatError(path, at, f"its header names a sensor of {W} x {H} pixels", "byte")
    return H, W
