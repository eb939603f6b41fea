"""NumPy's files -> events: .npz of columns t, x, y, p (SpikingJelly's events_np), a structured
array (tonic's), or plain rows; fields in any order, times in us.

Source of the files: numpy.lib.format, version 1.0 to 3.0. Legend: n events; `size` is (height,
width) in pixels.
"""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np

from ....errors import EventFormatError
from ...audio.shd import UNITS_US
from ...events import Events
from ...text import RECORDING as NAMES
from .common import checked, read_bytes

ORDERS = ("txyp", "xytp", "xypt")  # of the columns of plain rows
MOST_TIMES = 1100  # how many times its bytes a deflated array can hold


def read_npy(
    path: str | Path, size: tuple[int, int] | None = None, time_unit: str | None = None
) -> Events:
    """Events of an .npy file; see `parse_npy`, and DataError if it cannot be read."""
    return parse_npy(read_bytes(path), str(path), size, time_unit)


def parse_npy(
    raw: bytes, path: str = "", size: tuple[int, int] | None = None, time_unit: str | None = None
) -> Events:
    """Events of one array in its order: structured, (n,) with fields named as in NAMES, or plain
    rows (n, 4) of integers, whose order of columns is the one of ORDERS that they allow.

    `size`: (H, W) of the sensor, None: 2048 x 2048. `time_unit`: of the times, one of UNITS_US,
    None: us. Errors: EventFormatError if it is no such array, times in us are no whole numbers, or
    an event is impossible.
    """
    return _events(_columns(array_of(raw, path), path), path, size, time_unit)


def read_npz(
    path: str | Path, size: tuple[int, int] | None = None, time_unit: str | None = None
) -> Events:
    """Events of an .npz file; see `parse_npz`, and DataError if it cannot be read."""
    return parse_npz(read_bytes(path), str(path), size, time_unit)


def parse_npz(
    raw: bytes, path: str = "", size: tuple[int, int] | None = None, time_unit: str | None = None
) -> Events:
    """Events of an archive of four columns (n,), named as in NAMES, or of one array as `parse_npy`
    takes it. `size`, `time_unit` and errors as `parse_npy`."""
    members = _members(raw, path)
    found = {part: [name for name in members if name.lower() in NAMES[part]] for part in NAMES}
    if all(len(names) == 1 for names in found.values()):
        columns = {part: array_of(members[name], path) for part, (name,) in found.items()}
    elif len(members) == 1:
        columns = _columns(array_of(*members.values(), path), path)
    else:
        reason = f"it holds {', '.join(members) or 'nothing'}, expected t, x, y and p, or one array"
        raise EventFormatError(path, None, reason)
    return _events(columns, path, size, time_unit)


def arrays_of(raw: bytes, path: str) -> dict[str, np.ndarray]:
    """All arrays of an .npz file by their names. Errors: EventFormatError if it is damaged or holds
    Python objects, or text that is none."""
    arrays = {name: array_of(part, path) for name, part in _members(raw, path).items()}
    for name, array in arrays.items():
        if array.dtype.kind == "U" and _letters(array).max(initial=0) > sys.maxunicode:
            raise EventFormatError(path, None, f"{name} holds what is no text")
    return arrays


def array_of(raw: bytes, path: str) -> np.ndarray:
    """The array of an .npy file; no bytes are set aside before they are known to be there. Errors:
    EventFormatError if it is damaged or holds Python objects."""
    file = io.BytesIO(raw)
    try:
        version = np.lib.format.read_magic(file)
        read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = read[min(version[0], 2)](file)
    except Exception as error:  # numpy has no common error for a damaged header
        reason = f"it is no array of numbers ({error})"
        raise EventFormatError(path, 0, " ".join(reason.split()), "byte") from error
    at, n = file.tell(), 1
    for side in shape:
        n *= side  # Python's integers: no overflow
    if dtype.hasobject or not dtype.itemsize or min(shape, default=0) < 0:
        raise EventFormatError(path, 0, f"it holds {dtype} {shape}: save numbers", "byte")
    if n * dtype.itemsize != len(raw) - at:
        reason = f"{len(raw) - at} bytes where its header says {n * dtype.itemsize}: it was cut"
        raise EventFormatError(path, at, f"{reason} or damaged", "byte")
    flat = np.frombuffer(raw, dtype, n, at)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def _letters(text: np.ndarray) -> np.ndarray:
    """Numbers of the characters of an array of text, uint32 (n,)."""
    kind = np.dtype("u4").newbyteorder(text.dtype.byteorder)
    return np.frombuffer(text.tobytes(), kind)


def _members(raw: bytes, path: str) -> dict[str, bytes]:
    """The arrays of an archive by their names."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            for info in archive.infolist():
                if info.file_size > MOST_TIMES * len(raw):
                    raise ValueError(f"{info.filename} claims {info.file_size} bytes")
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            return {name.removesuffix(".npy"): archive.read(name) for name in names}
    except Exception as error:  # zipfile has no common error either
        reason = f"it is no .npz archive, or was cut or damaged ({error})"
        raise EventFormatError(path, None, " ".join(reason.split())) from error


def _columns(array: np.ndarray, path: str) -> dict[str, np.ndarray]:
    """The parts of the events in one array, structured or plain."""
    names = array.dtype.names
    if names is None:
        return _plain(array, path)
    found = {part: [name for name in names if name.lower() in NAMES[part]] for part in NAMES}
    if any(len(columns) != 1 for columns in found.values()):
        raise EventFormatError(
            path, None, f"its fields are {', '.join(names)}, expected t, x, y, p"
        )
    return {part: array[name] for part, (name,) in found.items()}


def _plain(rows: np.ndarray, path: str) -> dict[str, np.ndarray]:
    """The columns of plain rows, by the one order in which times go on and polarities are two."""
    if rows.ndim != 2 or 4 not in rows.shape or rows.dtype.kind not in "iufb":
        reason = f"it holds {rows.dtype} {rows.shape}, expected a structured array or (n, 4)"
        raise EventFormatError(path, None, reason)
    columns = rows.T if rows.shape[1] == 4 else rows
    fits = [
        order
        for order in ORDERS
        if np.isin(columns[order.index("p")], (-1, 0, 1)).all()
        and (np.diff(columns[order.index("t")].astype(np.float64)) >= 0).all()
    ]
    if len(fits) != 1:
        state = f"its columns could be {' or '.join(fits)}" if fits else "no order of columns fits"
        reason = f"{state}: save a structured array, or an .npz with t, x, y and p"
        raise EventFormatError(path, None, reason)
    return {part: columns[fits[0].index(part)] for part in NAMES}


def _events(
    columns: dict[str, np.ndarray],
    path: str,
    size: tuple[int, int] | None,
    time_unit: str | None,
) -> Events:
    n = columns["t"].shape
    for name, part in columns.items():
        if part.ndim != 1 or part.shape != n or part.dtype.kind not in "iufb":
            reason = f"{name} is {part.dtype} {part.shape}, expected numbers like t, {n}"
            raise EventFormatError(path, None, reason)
    columns = columns | {"t": _microseconds(columns["t"], time_unit)}
    t_us, x, y, p = (_whole(columns[name], name, path) for name in "txyp")
    return checked(path, t_us, x, y, two_polarities(p), size)


def _microseconds(t: np.ndarray, time_unit: str | None) -> np.ndarray:
    """Times in us, whole numbers of float64 where they were in another unit."""
    if time_unit in (None, "us"):
        return t
    with np.errstate(invalid="ignore", over="ignore"):  # `_whole` finds what is no number
        return np.rint(t.astype(np.float64) * UNITS_US[time_unit])


def _whole(part: np.ndarray, name: str, path: str) -> np.ndarray:
    """The numbers as int64; those that are not whole are refused."""
    if part.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            bad = ~(np.rint(part) == part) | (np.abs(part) >= 2.0**62)
        if bad.any():
            i = int(bad.argmax())
            reason = f"{name} is {part[i]:g}: write whole numbers, times in us, or see --time-unit"
            raise EventFormatError(path, i, reason, "event")
    elif part.dtype == np.uint64:
        part = np.minimum(part, np.uint64(2**62))  # too late all the same
    return part.astype(np.int64)


def two_polarities(p: np.ndarray) -> np.ndarray:
    """Polarities -1 and 1 as 0 and 1; those that hold a 0 stay as they are."""
    return np.where(p == -1, 0, p) if len(p) and p.min() == -1 and not (p == 0).any() else p
