"""What all readers of recordings share: bytes of a file, clocks that wrap, the last check.

Legend: n events; `size` is (height, width) of a sensor in pixels.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ....errors import DataError, EventFormatError
from ....kernels.cpu.compiled import compiled
from ...events import Events, pixels

SIDE = 2048  # pixels: the 11 bits that EVT2 and EVT3 have for a row or a column
END_US = 1 << 53  # 285 years: times below it are exact in float64, and frames never overflow
LATE_US = 10_000  # events of a sorted format may come so late; a clock that falls by more is broken


@compiled()
def _pack(
    t_us: np.ndarray,  # int64 (n,), and so x, y, p
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
    H: int,
    W: int,
    x_out: np.ndarray,  # int16 (n,)
    y_out: np.ndarray,  # int16 (n,)
    p_out: np.ndarray,  # int8 (n,)
) -> int:
    """How many events are possible before the first that is not."""
    for i in range(len(t_us)):
        if not (0 <= t_us[i] < END_US and 0 <= x[i] < W and 0 <= y[i] < H and 0 <= p[i] <= 1):
            return i
        x_out[i], y_out[i], p_out[i] = x[i], y[i], p[i]
    return len(t_us)


@compiled()
def _unwrap(
    t_n: np.ndarray,  # int64 (n,), times of a counter; they go on over its end afterwards
    bits: int,
) -> int:
    """How many times go on before the first that falls by more than LATE_US, and not over the end
    of the counter."""
    before, turns, half = np.int64(0), np.int64(0), np.int64(1) << (bits - 1)
    for i in range(len(t_n)):
        now = t_n[i]
        if i > 0:
            step = now - before
            if step < -half:
                turns += 1
            elif step < -LATE_US:
                return i
            elif step > half:  # it is late, and comes from before the counter's end
                turns -= 1
        before = now
        t_n[i] = now + (turns << bits)
    return len(t_n)


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
    i = _unwrap(t_us, bits)
    if i < len(t_us):
        fell = f"{int(t_n[i - 1])} to {int(t_n[i])} us"
        fail(i, f"the time falls from {fell}: the clock was reset or damaged")
    return t_us


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
    parts = [np.ascontiguousarray(part, np.int64) for part in (t_us, x, y, p)]
    packed = [np.empty(len(t_us), kind) for kind in (np.int16, np.int16, np.int8)]
    i = _pack(*parts, H, W, *packed)
    if i < len(t_us):
        reason = impossible(*(int(part[i]) for part in parts), (H, W))
        raise EventFormatError(path, place(i), reason, unit)
    return Events(parts[0], *packed)


def impossible(t_us: int, x: int, y: int, p: int, size: tuple[int, int]) -> str:
    """What is wrong with an event, in words."""
    H, W = size
    if not (0 <= x < W and 0 <= y < H):
        return f"the event at x {x}, y {y} lies off the sensor of {pixels(size)}"
    if p not in (0, 1):
        return f"the event has polarity {p}, expected 0 or 1"
    return f"the event comes at {t_us} us, expected a time from 0 to {END_US} us"


def check_size(size: tuple[int, int], path: str, at: int | None) -> tuple[int, int]:
    """(H, W) as a header says it. Errors: EventFormatError if no sensor has it."""
    H, W = size
    if not (1 <= H <= SIDE and 1 <= W <= SIDE):
        reason = f"its header names a sensor of {pixels(size)}"
        raise EventFormatError(path, at, reason, "byte")
    return H, W
