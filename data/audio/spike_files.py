"""Spikes in files other than HDF5 -> clips: `.npz` of numpy, and folders of text.

mine.npz   times     float seconds: all clips' times, one after the other; with
           units     integers, as long, and
           offsets   n + 1 integers: clip i has the elements offsets[i] to offsets[i + 1]; or
           times, units   object arrays (n,) of one array each, without offsets
           labels    n integers or names; names of the classes in `keys` (text), else the values
           speaker   n integers or names, optional

folder/<class>/<clip>.txt    one spike a line, `seconds unit`, as `data.text` reads it; folders
                             train and test may hold such folders each

`Reading` says how times are meant, as for HDF5.
"""

import io
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import DataError, EventFormatError
from ..coverage import WAY_OUT
from ..events import Clips
from ..folders import Files, numbered, split_files
from ..names import as_name, same_name
from ..text import CLIP, read_rows
from .labels import classes_of, is_file_name, labels_file, numbers_of, read_labels
from .object_arrays import load
from .sets import ClipSet
from .shd import AS_STORED, LAST_US, N_UNITS, NEGATIVE, UNITS_US, Reading
from .timing import changed

TEXT_ENDINGS = (".txt",)
NPZ_ENDING = ".npz"
MOST_TIMES = 1100  # how many times its bytes an array of an archive can hold


def open_npz(path: str | Path, reading: Reading = AS_STORED) -> ClipSet:
    """An `.npz` file as a set. Errors: DataError if there is none, EventFormatError naming file,
    clip and what is wrong."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    arrays, key = _arrays(path), reading.label_key
    beside = is_file_name(key) and (reading.labelled or labels_file(path, key).is_file())
    for name in ("times", "units", *[key] * (reading.labelled and not beside)):
        if name not in arrays:
            has = ", ".join(arrays) or "nothing"
            raise EventFormatError(str(path), None, f"it has no array {name!r} but {has}")
    times, units, offsets = _flat(path, arrays)
    n, n_units = len(offsets) - 1, reading.n_units or N_UNITS
    labels, classes = _classes(path, arrays, key, n) if key in arrays else (np.full(n, -1), [])
    if beside:
        labels, classes = read_labels(path, key, n)
    if reading.labelled and (why := same_name(classes)):
        raise EventFormatError(str(path), None, why)
    speaker = arrays.get("speaker")
    speakers = None if speaker is None else numbers_of(_values(path, speaker, "speaker", n))
    clips = clips_of(str(path), times, units, offsets, reading)
    return ClipSet(str(path), clips, labels, classes, speakers, n_units)


def text_splits(folder: Path, files: Files, reading: Reading) -> dict[str, Callable[[], ClipSet]]:
    """The splits of the text `files` that `class_files` found, with halves, in a folder, each with
    its own classes, read when they are asked for. Errors then: EventFormatError naming file, line
    and what is wrong."""
    splits = split_files(folder, files, deep=True)
    return {
        split: partial(_open_text, f"{folder} {split}", part, reading)
        for split, part in splits.items()
    }


def _open_text(name: str, files: Files, reading: Reading) -> ClipSet:
    classes, labels = numbered([label for label, _ in files])
    n_units, clips = reading.n_units or N_UNITS, _read_text(files, reading)
    return ClipSet(
        name, clips, labels, classes, None, n_units, names=[str(path) for _, path in files]
    )


def clips_of(
    name: str,
    times: np.ndarray,
    units: np.ndarray,
    offsets: np.ndarray,
    reading: Reading,
    line: Callable[[int], int] | None = None,
) -> Clips:
    """Clips of times in the unit of `reading` and units, all checked: a bad clip has no events and
    stands in `bad` if it is to be skipped. Errors: EventFormatError for the first bad one, or where
    `line` of an event is known, for its line."""
    n_units, size = reading.n_units or N_UNITS, np.diff(offsets)
    if times.dtype.kind != "f" and reading.time_unit == "s" and len(times):
        reason = "its times are whole numbers, no seconds: give --time-unit ms or us"
        raise EventFormatError(name, None, reason)
    with np.errstate(invalid="ignore"):  # of what is no number, which is found below
        t_us = times.astype(np.float64) * UNITS_US[reading.time_unit]
    owner = np.repeat(np.arange(len(size)), size)
    if reading.time_zero == "first-event" and len(t_us):
        first = np.full(len(size), np.inf)
        np.minimum.at(first, owner, t_us)
        with np.errstate(invalid="ignore"):  # infinite times are found below
            t_us = t_us - first[owner]
    with np.errstate(invalid="ignore"):
        late = t_us >= LAST_US
    wrong_unit = (units < 0) | (units >= n_units)
    faults = (
        (~np.isfinite(t_us) | (t_us < 0), NEGATIVE),
        (late, "a spike time is over 30 years: give --time-zero first-event if it is a date"),
        (wrong_unit, f"a unit lies outside 0..{n_units - 1}, see --n-units"),
    )
    bad: dict[int, str] = {}
    for wrong, reason in faults:
        if line and wrong.any():
            raise EventFormatError(name, line(int(wrong.argmax())), reason, "line")
        for clip in np.unique(owner[wrong]).tolist():
            bad.setdefault(clip, reason)
    if bad and not reading.skip_bad:
        first = min(bad)
        hint = "" if "give --" in bad[first] else WAY_OUT
        raise EventFormatError(name, first, bad[first] + hint)
    keep = ~np.isin(owner, list(bad)) if bad else np.ones(len(owner), bool)
    size = np.bincount(owner[keep], minlength=len(size))
    clips = Clips(
        np.rint(t_us[keep]).astype(np.int64),
        units[keep].astype(np.uint16),
        np.concatenate([[0], np.cumsum(size)]).astype(np.int64),
    )
    clips = changed(clips, reading.spikes_per_unit, reading.reverse, n_units)
    return Clips(clips.t_us, clips.x, clips.offsets, bad)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file, read whole: the archive's checksums come before any parsing."""
    try:
        with zipfile.ZipFile(path) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's, about headers of Python 2
            size = path.stat().st_size
            for info in archive.infolist():
                if info.file_size > MOST_TIMES * size:
                    raise ValueError(f"{info.filename} claims {info.file_size} bytes")
            return {
                name.removesuffix(".npy"): _array(archive.read(name))
                for name in archive.namelist()
                if name.endswith(".npy")
            }
    except Exception as error:  # a damaged zip, header or pickle raises nearly anything
        text = " ".join(str(error).split()) or type(error).__name__
        raise EventFormatError(str(path), None, f"not a whole .npz file ({text})") from error


def _array(raw: bytes) -> np.ndarray:
    """One array of its .npy bytes; of pickled ones only arrays of arrays."""
    file = io.BytesIO(raw)
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
        version, np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(file)
    if not dtype.hasobject:
        if dtype.itemsize * int(np.prod(shape, dtype=np.float64)) > len(raw):
            raise ValueError("an array claims more than there is")
        return np.lib.format.read_array(io.BytesIO(raw), allow_pickle=False)
    return load(file)


def _flat(path: Path, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, units and offsets of all clips. Errors: EventFormatError if they do not fit."""
    times, units = arrays["times"], arrays["units"]
    if "offsets" in arrays:
        offsets = np.asarray(arrays["offsets"])
        if offsets.dtype.kind not in "iu" or offsets.ndim != 1 or not len(offsets):
            raise EventFormatError(str(path), None, "offsets are no list of whole numbers")
        offsets = offsets.astype(np.int64)
        if offsets[0] != 0 or offsets[-1] != len(times) or (np.diff(offsets) < 0).any():
            reason = f"offsets do not rise from 0 to the number of times, {len(times)}"
            raise EventFormatError(str(path), None, reason)
    else:
        times, units, offsets = _joined(path, times, units)
    for name, part, kinds in (("times", times, "fiu"), ("units", units, "iu")):
        if part.dtype.kind not in kinds or part.ndim != 1:
            reason = f"{name} have type {part.dtype} and shape {part.shape}, no list of numbers"
            raise EventFormatError(str(path), None, reason)
    if len(times) != len(units):
        raise EventFormatError(str(path), None, f"{len(times)} times but {len(units)} units")
    return times, units, offsets


def _joined(path: Path, times: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, ...]:
    """The same of one array for each clip; rows of a plain array are clips too."""
    if times.ndim < 1 or (times.ndim == 1 and times.dtype != object) or units.ndim < 1:
        reason = "times and units are flat, so it needs offsets, where each clip begins"
        raise EventFormatError(str(path), None, reason)
    if len(times) != len(units):
        raise EventFormatError(
            str(path), None, f"times of {len(times)} clips, units of {len(units)}"
        )
    rows: list[list[np.ndarray]] = [[], []]
    for i, pair in enumerate(zip(times, units, strict=True)):
        t, x = (np.asarray(part) for part in pair)
        x = x.astype(np.int64) if not x.size else x  # numpy makes an empty list float64
        if t.ndim != 1 or x.ndim != 1 or t.dtype.kind not in "fiu" or x.dtype.kind not in "iu":
            raise EventFormatError(str(path), i, "its times and units are no lists of numbers")
        if len(t) != len(x):
            raise EventFormatError(str(path), i, f"{len(t)} times but {len(x)} units")
        rows[0].append(t)
        rows[1].append(x)
    size = [len(row) for row in rows[0]]
    joined = [np.concatenate(part) if part else np.zeros(0, np.int64) for part in rows]
    return *joined, np.concatenate([[0], np.cumsum(size)]).astype(np.int64)


def _classes(
    path: Path, arrays: dict[str, np.ndarray], key: str, n: int
) -> tuple[np.ndarray, list[str]]:
    """(label of each of n clips, int64; names of the classes)."""
    labels = _values(path, arrays[key], key, n)
    numbers = key == AS_STORED.label_key and labels.dtype == np.int64
    if not (numbers and "keys" in arrays):
        return classes_of(labels)
    classes = [str(name) for name in np.atleast_1d(_text(path, arrays["keys"]))]
    if n and not 0 <= labels.min() <= labels.max() < len(classes):
        reason = f"labels {labels.min()}..{labels.max()} are not all in 0..{len(classes) - 1}"
        raise EventFormatError(str(path), None, reason)
    return labels, classes


def _values(path: Path, a: np.ndarray, name: str, n: int) -> np.ndarray:
    """`a` as int64 or str (n,)."""
    if a.dtype.kind not in "iuUS" or a.shape != (n,):
        has = f"type {a.dtype} and shape {a.shape}"
        reason = f"{name} have {has}, not whole numbers or names for {n} clips"
        raise EventFormatError(str(path), None, reason)
    return _text(path, a) if a.dtype.kind in "US" else a.astype(np.int64)


def _text(path: Path, keys: np.ndarray) -> np.ndarray:
    """Names as text, also where they are stored as bytes."""
    if keys.dtype.kind == "S":
        return np.array([as_name(key) for key in np.atleast_1d(keys)])
    if keys.dtype.kind != "U":
        raise EventFormatError(str(path), None, f"keys have type {keys.dtype}, not text")
    return keys


def _read_text(files: Files, reading: Reading) -> Clips:
    """The clips of text files, one each."""
    parts, bad = [], {}
    for i, (_, path) in enumerate(files):
        try:
            part = parse_clip(read_bytes(path), str(path), reading)
        except EventFormatError as error:
            if not reading.skip_bad:
                hint = "" if WAY_OUT in error.reason else WAY_OUT
                at = (error.offset, error.reason + hint, error.unit)
                raise EventFormatError(str(path), *at) from None
            bad[i], part = str(error.reason), Clips(*np.zeros((2, 0), np.int64), np.zeros(2, int))
        parts.append(part)
    t_us, x = (np.concatenate([getattr(part, name) for part in parts]) for name in ("t_us", "x"))
    size = [len(part.t_us) for part in parts]
    offsets = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    return Clips(t_us, x.astype(np.uint16), offsets, bad)


def text_clip(raw: bytes, name: str, reading: Reading, label: str | None = None) -> ClipSet:
    """A text as a set of one clip, of class `label`, None: of none. Errors: as `parse_clip`."""
    clips, n_units = parse_clip(raw, name, reading), reading.n_units or N_UNITS
    classes = [] if label is None else [label]
    return ClipSet(name, clips, np.array([len(classes) - 1]), classes, None, n_units)


def parse_clip(raw: bytes, path: str, reading: Reading) -> Clips:
    """The one clip of a text; `data.text` says how it is written. Errors: EventFormatError naming
    the line that is no event, or as `clips_of`."""
    rows = read_rows(raw, path, CLIP, reading.time_unit)
    offsets = np.array([0, rows.columns.shape[1]])
    return clips_of(path, *rows.columns, offsets, reading._replace(time_unit="us"), rows.line)


def read_bytes(path: Path) -> bytes:
    """All bytes of a file. Errors: EventFormatError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise EventFormatError(str(path), None, f"it cannot be read ({error.strerror})") from None
