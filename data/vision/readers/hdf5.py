"""HDF5 as DSEC and Metavision write it -> events.

DSEC: datasets t, x, y, p of one length in a group `events`, or in the file itself; t in us from the
beginning of the recording, which the scalar `t_offset` places on the clock of other sensors.
Metavision: records (x, y, p, t) in `CD/events`.
Source: https://dsec.ifi.uzh.ch/data-format and
https://docs.prophesee.ai/stable/data/file_formats/hdf5.html.

Legend: n events; `size` is (height, width) in pixels.
"""

import importlib
import re
from pathlib import Path

import h5py
import numpy as np

from ....errors import DataError, EventFormatError
from ...events import Events
from ...heaps import open_file, text_of_attribute
from .arrays import NAMES, two_polarities
from .common import check_size, checked

GROUPS = ("events", "CD", "/")
SIDES, MOST_BYTES = ("geometry", "width", "height"), 1000  # attributes that say the sensor's size
MOST_TIMES = 1100  # how many times its bytes a compressed dataset can hold
ECF = 0x8ECF  # the filter of Metavision
COMPRESSED = {32001: "blosc", 32026: "blosc2", 32015: "zstd", 32004: "lz4", 32008: "bitshuffle"}


def read_hdf5(path: str | Path, size: tuple[int, int] | None = None) -> Events:
    """Events of an HDF5 file in its order, t_us as stored (without t_offset).

    `size`: (H, W) of the sensor, None: as `sensor` finds it, else 2048 x 2048. Errors:
    EventFormatError if there are no such datasets or they are damaged, DataError if the file cannot
    be opened or needs a package: hdf5plugin, for chunks of blosc and others.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"cannot read the recording {path}: there is no such file")
    try:
        with open_file(path) as file:
            columns = _columns(file, path)
            size = size or _sensor(file, str(path))
            t_us, x, y, p = (_whole(columns[name], name, path) for name in "txyp")
    except (DataError, EventFormatError):
        raise
    except Exception as error:  # h5py has no common error for damaged files
        reason = " ".join(f"it is no HDF5 file, or was cut or damaged ({error})".split())
        raise EventFormatError(str(path), None, reason) from error
    for name, part in zip("xyp", (x, y, p), strict=True):
        if len(part) != len(t_us):
            reason = f"{name} has {len(part)} values and t {len(t_us)}: it was cut or damaged"
            raise EventFormatError(str(path), None, reason)
    return checked(str(path), t_us, x, y, two_polarities(p), size)


def sensor(path: str | Path) -> tuple[int, int] | None:
    """(H, W) as attributes `width` and `height`, or Metavision's `geometry`, of the file or of the
    group of its events say it, else None."""
    try:
        with open_file(path) as file:
            return _sensor(file, str(path))
    except Exception:  # h5py has no common error for damaged files
        return None  # reading the events will say what is wrong


def _sensor(file: h5py.File, path: str) -> tuple[int, int] | None:
    for place in (file, *(file[name] for name in GROUPS if name in file)):
        found = {name: _attribute(place, name) for name in SIDES if name in place.attrs}
        geometry = found.get("geometry", b"")
        geometry = geometry.decode("ascii", "replace") if isinstance(geometry, bytes) else geometry
        if match := re.fullmatch(r"(\d{1,9})x(\d{1,9})\0*", f"{geometry}"):
            return check_size((int(match[2]), int(match[1])), path, None)
        if {"width", "height"} <= found.keys():
            sides = [np.asarray(found[side]).ravel() for side in ("height", "width")]
            if all(len(side) == 1 and side.dtype.kind in "iu" for side in sides):
                H, W = (int(side[0]) for side in sides)
                return check_size((H, W), path, None)
    return None


def _attribute(place: h5py.Group | h5py.Dataset, name: str) -> object:
    """The value of an attribute, b"" for what cannot be one of SIDES."""
    kind = place.attrs.get_id(name)
    if kind.dtype.hasobject:
        return text_of_attribute(place.file.filename, name, place.file.userblock_size)
    n_bytes = int(np.prod(kind.shape, dtype=np.float64)) * kind.dtype.itemsize
    return place.attrs[name] if n_bytes <= MOST_BYTES else b""


def _columns(file: h5py.File, path: Path) -> dict[str, np.ndarray]:
    """The parts of the events, read whole."""
    for name in GROUPS:
        group = file.get(name)
        if isinstance(group, h5py.Dataset):  # records under the name of the group
            return _fields(group, path)
        if not isinstance(group, h5py.Group):
            continue
        if isinstance(records := group.get("events"), h5py.Dataset):
            return _fields(records, path)
        found = {part: [key for key in group if f"{key}".lower() in NAMES[part]] for part in NAMES}
        if all(len(keys) == 1 for keys in found.values()):
            return {part: _read(group[key], path) for part, (key,) in found.items()}
    reason = "it holds neither events/t, x, y and p nor CD/events: it is no recording of events"
    raise EventFormatError(str(path), None, reason)


def _fields(data: h5py.Dataset, path: Path) -> dict[str, np.ndarray]:
    names = data.dtype.names or ()
    found = {part: [name for name in names if name.lower() in NAMES[part]] for part in NAMES}
    if any(len(fields) != 1 for fields in found.values()):
        reason = f"{data.name} has fields {', '.join(names) or 'without names'}, not t, x, y, p"
        raise EventFormatError(str(path), None, reason)
    array = _read(data, path)
    return {part: array[name] for part, (name,) in found.items()}


def _read(data: h5py.Dataset, path: Path) -> np.ndarray:
    """All of a dataset (n,), after a look at whether the file can hold so much."""
    if not isinstance(data, h5py.Dataset) or data.ndim != 1 or data.dtype.hasobject:
        raise EventFormatError(str(path), None, f"{data.name} is no row of numbers")
    _check_filters(data, path)
    stored = min(data.id.get_storage_size(), path.stat().st_size)
    if data.size * data.dtype.itemsize > MOST_TIMES * stored:
        reason = f"{data.name} claims {data.size} values in {stored} bytes: the file is damaged"
        raise EventFormatError(str(path), None, reason)
    return data[()]


def _check_filters(data: h5py.Dataset, path: Path) -> None:
    """DataError if the dataset is compressed by what is not installed."""
    plist = data.id.get_create_plist()
    for i in range(plist.get_nfilters()):
        number = plist.get_filter(i)[0]
        if h5py.h5z.filter_avail(number):
            continue
        try:
            importlib.import_module("hdf5plugin")  # registers its filters
        except ImportError as error:
            if number in COMPRESSED:
                name = COMPRESSED[number]
                raise DataError(
                    f"reading {path} needs a package for {name}: pip install hdf5plugin"
                ) from error
        if h5py.h5z.filter_avail(number):
            continue
        if number == ECF:
            raise DataError(
                f"reading {path} needs Metavision's ECF codec: set HDF5_PLUGIN_PATH to its folder, "
                "or convert the file"
            )
        reason = f"{data.name} is compressed by the unknown filter {number}: convert or mend it"
        raise EventFormatError(str(path), None, reason)


def _whole(part: np.ndarray, name: str, path: Path) -> np.ndarray:
    """A column of integers as int64."""
    if part.dtype.kind not in "iub":
        reason = f"{name} holds {part.dtype}, expected integers, times in us"
        raise EventFormatError(str(path), None, reason)
    if part.dtype == np.uint64:
        part = np.minimum(part, np.uint64(2**62))  # too late all the same
    return part.astype(np.int64)
