"""Files of recordings -> events, behind one table: what a name ends with -> how it is read.

    events = read_events("drive.raw")  # any of ENDINGS
    sensor_size("drive.raw")           # (720, 1280), as its header says

To add a format, write its reader in `readers/` and its row here. Legend: n events; `size` is
(height, width) of a sensor in pixels.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import DataError, EventFormatError, alternatives, nearest
from ..audio.shd import UNITS_US
from ..events import Events, pixels
from .atis import Packed, extent, read_packed

LONGEST_MS, SHORTEST_MS = 600_000, 100  # of a gesture: one lasts 1 to 20 s
MANY = 1000  # events that no gesture has in SHORTEST_MS
SIDE = 128  # rows and columns of the DVS128, which recorded DVS128-Gesture


class Reader(NamedTuple):
    """How files of one kind are read. `read`: the module beside this one and its function,
    (path, size) -> Events, loaded with the first such file because some bring numba or h5py.
    `sensor`: whether the module also has `sensor`, path -> size or None, which reads the header
    alone. `timed`: whether a time may be in any unit, so that `read` also takes `time_unit`."""

    read: str
    title: str
    sensor: bool = True
    timed: bool = False


ATIS = Reader("atis.read_atis", "ATIS, the 5-byte events of N-MNIST and N-Caltech101", False)
AEDAT = Reader("readers.aedat.read_aedat", "AEDAT 1.0, 2.0, 3.0 and 3.1")
AEDAT4 = Reader("readers.aedat4.read_aedat4", "AEDAT 4.0")
HDF5 = Reader("readers.hdf5.read_hdf5", "HDF5 as DSEC and Metavision write it")
TEXT = Reader("readers.text.read_text", "text, t x y p on every line", timed=True)
READERS = {  # ending, in lower case -> reader
    ".bin": ATIS,
    ".npz": Reader("readers.arrays.read_npz", "NumPy's archive of t, x, y, p", False, True),
    ".npy": Reader("readers.arrays.read_npy", "a NumPy array of events", False, True),
    ".aedat": AEDAT,
    ".aedat4": AEDAT4,
    ".raw": Reader("readers.prophesee.read_raw", "Prophesee EVT2, EVT2.1 and EVT3"),
    ".dat": Reader("readers.prophesee.read_dat", "Prophesee DAT, version 1 and 2"),
    ".h5": HDF5,
    ".hdf5": HDF5,
    ".txt": TEXT,
    ".csv": TEXT,
}
ENDINGS = tuple(READERS)
SIGNATURES = {  # first bytes of files that also come under another ending -> reader
    b"#!AER-DAT4": AEDAT4,
    b"#!AER-DAT": AEDAT,
    b"\x89HDF\r\n": HDF5,
}


def is_annotation(path: Path) -> bool:
    """Whether a file is none of events by its name: N-Caltech101 has others that end in .bin."""
    return path.name.startswith("annotation")


def read_events(
    path: str | Path, size: tuple[int, int] | None = None, time_unit: str | None = None
) -> Events:
    """Events of the recording at `path` in file order: t_us int64, x and y integer, p 0 or 1.

    `size`: (H, W) of its sensor, None: as its header says, else what the format can hold.
    `time_unit`: of the times of a format that is `timed`, one of UNITS_US; None: us, and s in text
    with a fraction. Errors: DataError if it cannot be read, its ending is none of ENDINGS or a
    package is missing, EventFormatError that names the byte, line or event where the file is
    damaged.
    """
    return _read(reader_of(path), path, size, time_unit)


def read_recording(
    path: str | Path, size: tuple[int, int] | None = None, time_unit: str | None = None
) -> Events | Packed:
    """As `read_events`, but 5-byte events as their file holds them, of which frames are made
    sooner."""
    reader = reader_of(path)
    return read_packed(path, size) if reader is ATIS else _read(reader, path, size, time_unit)


def read_of_sensor(
    path: str | Path, size: tuple[int, int], time_unit: str | None = None
) -> Events | Packed:
    """As `read_recording`, where `size` is what somebody says of the sensor. Errors: DataError also
    as `check_sensor`."""
    if reader_of(path) is ATIS:
        packed = read_packed(path, size)
        check_sensor(path, size, None, packed.extent() or (0, 0))
        return packed
    check_sensor(path, size, sensor_size(path))
    events = read_events(path, None, time_unit)
    check_sensor(path, size, None, size_of(events))
    return events


def check_sensor(
    what: str | Path,
    size: tuple[int, int],
    header: tuple[int, int] | None,
    reach: tuple[int, int] = (0, 0),
) -> None:
    """DataError if `what` is of another sensor than one of `size`, (H, W): by its `header`, or as
    its events `reach` beyond."""
    if header is not None and header != size:
        H, W = header
        hint = f"give --sensor {H} {W} for such files"
        raise DataError(f"{what} is of a sensor of {H} x {W}, not of {pixels(size)}: {hint}")
    rows, columns = reach
    if rows > size[0] or columns > size[1]:
        raise DataError(
            f"{what} has events up to x {columns - 1}, y {rows - 1}, off the sensor of "
            f"{pixels(size)}: give --sensor HEIGHT WIDTH as its camera has them"
        )


def _read(
    reader: Reader, path: str | Path, size: tuple[int, int] | None, time_unit: str | None
) -> Events:
    if time_unit not in (None, *UNITS_US):
        raise DataError(f"unknown unit of time {time_unit!r}: {nearest(time_unit, UNITS_US)}")
    unit = {"time_unit": time_unit} if reader.timed else {}
    return _function(reader.read)(path, size, **unit)


def sensor_size(path: str | Path) -> tuple[int, int] | None:
    """(height, width) of the sensor as the header of a file says it, None if it does not. Errors:
    as `read_events`."""
    reader = reader_of(path)
    try:
        return (
            _function(f"{reader.read.rpartition('.')[0]}.sensor")(path) if reader.sensor else None
        )
    except OSError as error:
        raise DataError(f"cannot read the recording {path}: {error.strerror}") from None


def size_seen(path: str | Path, time_unit: str | None = None) -> tuple[int, int]:
    """(height, width) of the sensor as the header of a file says it, else those that hold all of
    its events, (0, 0) without any. `time_unit`, errors: as `read_events`."""
    if reader_of(path) is ATIS:
        return extent(path) or (0, 0)
    return sensor_size(path) or size_of(read_events(path, None, time_unit))


def size_of(events: Events) -> tuple[int, int]:
    """(height, width) that hold all events of a recording, (0, 0) without any."""
    rows, columns = (
        int(np.max(place, initial=-1)) + 1 for place in (np.asarray(events.y), events.x)
    )
    return rows, columns


def reader_of(path: str | Path) -> Reader:
    """The row of READERS for a file, by its signature where that says more than its ending.
    Errors: DataError if it cannot be read or nothing reads it, EventFormatError if it is empty."""
    path = Path(path)
    if not path.is_file() and path.exists() and not path.is_dir():
        raise DataError(f"cannot read the recording {path}: a pipe or a device is no file")
    try:
        with path.open("rb") as file:
            begin = file.read(max(map(len, SIGNATURES)))
    except OSError as error:
        raise DataError(f"cannot read the recording {path}: {error.strerror}") from None
    if path.suffix.lower() not in READERS:
        raise DataError(f"{path} is no recording: its name must end in {alternatives(ENDINGS)}")
    found = (reader for mark, reader in SIGNATURES.items() if begin.startswith(mark))
    reader = next(found, READERS[path.suffix.lower()])
    if not begin and reader not in (ATIS, TEXT):  # which have no header, so nothing is no event
        raise EventFormatError(str(path), 0, "the file is empty: fetch it again", "byte")
    return reader


def _function(name: str) -> Callable:
    module, _, function = name.rpartition(".")
    return getattr(importlib.import_module(f".{module}", __package__), function)


def read_gesture(path: Path) -> Events:
    """Events of an .npy array (n, 4) of x, y, polarity and time in ms, as tonic cuts the gestures
    of DVS128-Gesture; the clock may start anywhere. Errors: EventFormatError, also for times that
    must be us or s, DataError if it cannot be opened."""
    try:
        with path.open("rb") as file:
            raw = np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    except Exception as error:  # numpy has no common error for a damaged header
        raise EventFormatError(str(path), None, f"it is no array of numbers ({error})") from error
    if raw.ndim != 2 or raw.shape[1] != 4 or raw.dtype.kind not in "iuf":
        reason = f"it holds {raw.dtype} {raw.shape}, expected numbers (n, 4): x, y, p, ms"
        raise EventFormatError(str(path), None, reason)
    x, y, p, t_ms = raw.astype(np.float64).T
    if (unit := _other_unit(t_ms)) is not None:
        lasts = f"read as ms it lasts {np.ptp(t_ms):g} ms, so its times must be {unit}"
        raise EventFormatError(str(path), None, f"{lasts}: write them in ms, as tonic does")
    return _checked(path, np.rint(t_ms * 1000), x, y, p)


def _other_unit(t_ms: np.ndarray) -> str | None:
    """The unit of times that cannot be ms of a gesture, float64 (n,); None if they can."""
    if not len(t_ms) or not np.isfinite(t_ms).all():  # which is refused for what it is
        return None
    if (lasts := np.ptp(t_ms)) > LONGEST_MS:
        return "us"
    return "s" if lasts < SHORTEST_MS and len(t_ms) >= MANY else None


def _checked(path: Path, t_us: np.ndarray, *xyp: np.ndarray) -> Events:
    """Events of float64 columns x, y, p; the first impossible one is an EventFormatError."""
    x, y, p = xyp
    good = (t_us >= 0) & (t_us < 2.0**53) & ((p == 0) | (p == 1))  # NaN compares as false
    for place in (x, y):
        good &= (place >= 0) & (place < SIDE)
    if not good.all():
        i = int(np.argmin(good))
        what = f"event {i} has x {x[i]:g}, y {y[i]:g}, p {p[i]:g} at {t_us[i]:g} us"
        raise EventFormatError(str(path), None, f"{what}, expected x and y below {SIDE}, p 0 or 1")
    return Events(t_us.astype(np.int64), *(part.astype(np.int16) for part in xyp))
