"""ATIS recordings, the 5-byte files of N-MNIST and N-Caltech101 <-> events.

A record: x (8 bits), y (8 bits), polarity (1 bit), time in us (23 bits, big-endian). A record with
y = 240 is no event: it adds 2^13 us to its own and all later times.
Source: Orchard et al. 2015, arXiv 1507.07629, and the event streams' own description beside them.
Shapes: n events, r records (events and overflows) of a recording.
"""

import os
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import numpy as np

from ...errors import DataError, EventFormatError
from ..events import Events, pixels

RECORD = 5  # bytes
ROWS, COLUMNS = 240, 256  # all that x and y can say; an ATIS sensor has 240 rows
OVERFLOW_Y = 240
OVERFLOW_US = 1 << 13
LAST_US = (1 << 23) - 1  # the longest time one record can say
MAX_OVERFLOWS = 1_000_000  # 2.3 hours: more is a damaged time stamp, not a recording


class Packed(NamedTuple):
    """A recording as its file holds it: `parse_atis` takes the same."""

    raw: bytes
    path: str = ""
    size: tuple[int, int] | None = None

    def events(self) -> Events:
        """As `parse_atis`."""
        return parse_atis(*self)

    def span_us(self) -> tuple[int, int]:
        """First and last of its times; the first is above the last if there is no event. Errors:
        EventFormatError if a record is cut short."""
        from .counting import atis_span  # brings numba, so only here

        return atis_span(_records(self.raw, self.path), OVERFLOW_Y, OVERFLOW_US)

    def extent(self) -> tuple[int, int] | None:
        """(H, W) that hold all events, None if there is none; its times are not looked at, so this
        takes a part of the time of reading. Errors: EventFormatError if a record is cut short."""
        from .counting import atis_extent  # brings numba, so only here

        row, column = atis_extent(_records(self.raw, self.path), OVERFLOW_Y)
        return None if row < 0 else (int(row) + 1, int(column) + 1)

    def counts(
        self, shape: tuple[int, int, int, int], first_us: int, per: int, span_us: int, last: int
    ) -> tuple[np.ndarray, int, int] | None:
        """(counts, uint8 (T, 2, H, W), `shape`, how many events they hold, how many there are) in
        one pass; steps as those of `counting.Steps`. None if an event lies off the sensor or a
        count is above 255. Errors: as `span_us`."""
        from .counting import atis_counts  # brings numba, so only here

        rows, columns = shape[2:]
        ends = min(columns, COLUMNS), min(rows, ROWS)
        record, out = _records(self.raw, self.path), np.zeros(shape, np.uint8)
        how = OVERFLOW_Y, OVERFLOW_US, *ends, first_us, per, span_us, last
        n_inside, n, right = atis_counts(record, *how, out)
        return (out, n_inside, n) if right else None


def parse_atis(raw: bytes, path: str = "", size: tuple[int, int] | None = None) -> Events:
    """Events of a recording in file order: t_us int64 (not sorted if the file is not), x and y
    int16, p int8, all (n,). No bytes are no events.

    `path` is what errors call the file. `size`: (H, W) of the sensor in pixels, None: (240, 256).
    Errors: EventFormatError(path, byte, reason) if a record is cut short or lies off the sensor.
    """
    record = _records(raw, path)
    rows, columns = (ROWS, COLUMNS) if size is None else size
    ends = min(columns, COLUMNS), min(rows, ROWS)
    t_us, x, y, p = (np.empty(len(record), kind) for kind in ("i8", "i2", "i2", "i1"))
    from .counting import atis_events  # brings numba, so only here

    n, inside = atis_events(record, OVERFLOW_Y, OVERFLOW_US, *ends, t_us, x, y, p)
    if not inside:
        off = np.any(record[:, :2] >= ends, 1) & (record[:, 1] != OVERFLOW_Y)
        first = int(np.argmax(off))
        column, row = record[first, :2].tolist()
        where = f"x {column}, y {row} lies off the sensor of {pixels((rows, columns))}"
        reason = f"the event at {where}"
        raise EventFormatError(path, first * RECORD, reason, "byte")
    return Events(t_us[:n], x[:n], y[:n], p[:n])


def _records(raw: bytes, path: str) -> np.ndarray:
    """The bytes of a file as records, uint8 (r, 5). Errors: EventFormatError if it was cut."""
    if len(raw) % RECORD:
        whole = len(raw) // RECORD * RECORD
        reason = f"{len(raw) - whole} bytes of a 5-byte record: the file was cut, fetch it again"
        raise EventFormatError(path, whole, reason, "byte")
    return np.frombuffer(raw, np.uint8).reshape(-1, RECORD)


def extent(path: str | Path) -> tuple[int, int] | None:
    """`Packed.extent` of the recording at `path`. Errors: as `read_atis`."""
    return read_packed(path).extent()


def read_atis(path: str | Path, size: tuple[int, int] | None = None) -> Events:
    """Events of the recording at `path`; shapes, dtypes, `size` and errors as `parse_atis`, and
    DataError if there is no readable file."""
    return parse_atis(_bytes_of(path), str(path), size)


def read_packed(path: str | Path, size: tuple[int, int] | None = None) -> Packed:
    """The recording at `path` as its file holds it. Errors: DataError if it cannot be read."""
    return Packed(_bytes_of(path), str(path), size)


def _bytes_of(path: str | Path) -> bytes:
    try:
        with open(path, "rb", 0) as file:  # read at once, so a buffer only takes time
            return file.read()
    except OSError as error:
        raise DataError(f"cannot read the recording {path}: {error.strerror}") from None


def atis_bytes(events: Events) -> bytes:
    """The recording as bytes, in the order of `events`, with as few overflow records as its times
    need (none up to 8.39 s).

    Errors: DataError if there is no y or p, a coordinate is not in 0..255 (x) or 0..239 (y), or
    the times last over two hours or run back by over 8 s.
    """
    events.validate(COLUMNS, ROWS)
    t_us = events.t_us.astype(np.int64)
    needed = np.maximum(-(-(t_us - LAST_US) // OVERFLOW_US), 0)
    before = np.maximum.accumulate(needed)  # overflows in the file before each event
    if len(events) and before[-1] > MAX_OVERFLOWS:
        raise DataError(f"an event at {t_us.max()} us is too late for ATIS: cut the recording")
    t_us = t_us - before * OVERFLOW_US
    if len(events) and t_us.min() < 0:
        raise DataError("the times run back by more than 8 s: sort the events by time")
    record = np.empty((len(events), RECORD), np.uint8)
    record[:, 0], record[:, 1] = events.x, np.asarray(events.y)
    record[:, 2] = (np.asarray(events.p, np.int64) << 7) | (t_us >> 16)
    record[:, 3], record[:, 4] = t_us >> 8 & 255, t_us & 255
    at = np.repeat(np.arange(len(events)), np.diff(before, prepend=0))
    return np.insert(record, at, [0, OVERFLOW_Y, 0, 0, 0], axis=0).tobytes()


def write_atis(path: str | Path, events: Events) -> None:
    """Writes the recording; the file appears under its name only when it is complete. Errors:
    DataError as `atis_bytes`, and if the file cannot be written."""
    raw = atis_bytes(events)
    part = Path(f"{path}.{uuid4().hex[:8]}.part")
    try:
        part.write_bytes(raw)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(f"cannot write the recording {path}: {error.strerror}") from None
