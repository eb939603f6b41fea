"""SHD's HDF5 layout <-> events (Cramer et al. 2020, arXiv 1910.07407).

spikes/times   (clips,) vlen float seconds         labels         (clips,) integer
spikes/units   (clips,) vlen uint16, 0..699        extra/keys     (classes,) names, bytes
                                                   extra/speaker  (clips,) integer, optional

Labels and speakers may be text, and names of classes may be missing: the values that occur are the
classes then.

SHD's own times are float16, in steps of 1 ms after a second and of 31 ms after 32; any width is
read, and float32 is written.
"""

import os
import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from ...errors import DataError, EventFormatError
from ..coverage import WAY_OUT
from ..events import Clips, Events
from ..heaps import open_file, references, sequences
from ..names import as_bytes, as_name, same_name
from .labels import classes_of, is_file_name, labels_file, numbers_of, read_labels
from .timing import changed

UNITS_US = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}  # microseconds of each unit of time
LAST_US = 1e15  # of a time: 30 years, which no clip lasts
NEGATIVE = "a spike time is negative or not finite"
N_UNITS = 700  # channels of the published cochlea
IN_MEMORY_BYTES = 512 * 2**20  # larger files are read clip by clip
BLOCK = 500  # clips read at once
MOST_TIMES = 1100  # how many times its bytes a compressed dataset can hold
LONGEST_S = 1000  # of a clip that is written: float32 seconds are right to 0.03 ms then

# What h5py raises on a damaged file; MemoryError: a damaged size field asks for too much.
_BROKEN = (
    *(OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError),
    *(MemoryError, OverflowError, struct.error),
)


class Reading(NamedTuple):
    """How a file is read. `time_unit`: of its times, one of UNITS_US. `time_zero`: "file", where
    its clock starts, or "first-event", for each clip. `skip_bad`: clips that cannot be read have
    no events, and `ShdFile.bad` says why, where they else are an error. `spikes_per_unit`,
    `reverse`: see `timing.changed`. `n_units`: length of the unit axis, None: N_UNITS. `label_key`:
    which of the file's data are the classes, integers or names; or a file beside it, see `labels`.
    `labelled`: false: a file may lack labels; they are -1 then, and it has no classes."""

    time_unit: str = "s"
    time_zero: str = "file"
    skip_bad: bool = False
    spikes_per_unit: int | None = None
    reverse: bool = False
    n_units: int | None = None
    label_key: str = "labels"
    labelled: bool = True


AS_STORED = Reading()


class ShdFile:
    """A file in SHD's layout. Labels, classes and speakers are read at once; spikes at first use:
    up to `in_memory_bytes` of file all of them into memory, else clip by clip.

    `labels` int64 (n,), `classes` list of names, `speakers` int64 (n,) or None, `n_units`.
    It pickles as its path, and each process opens the file for itself.
    Errors: DataError if there is no such file, EventFormatError(path, clip, reason) if it is
    damaged or foreign, or breaks the layout.
    """

    def __init__(
        self,
        path: str | Path,
        n_units: int = N_UNITS,
        in_memory_bytes: int = IN_MEMORY_BYTES,
        reading: Reading = AS_STORED,
    ):
        self.path, self.in_memory_bytes = str(path), in_memory_bytes
        self.reading, self.bad, self.n_units = reading, {}, reading.n_units or n_units
        self._clips: Clips | None = None
        self._file: h5py.File | None = None
        self._pid = 0
        self._references: dict[str, np.ndarray] = {}
        if not os.path.isfile(self.path):
            raise DataError(f"there is no file {self.path}")
        self._size = os.path.getsize(self.path)
        with self._open(h5=open_file) as file:  # which looks at it first
            try:
                self._read_head(file)
            except (DataError, EventFormatError):
                raise
            except _BROKEN as error:
                raise self._damaged(error) from error

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n(self) -> int:
        """Number of clips."""
        return len(self)

    def read_as(self, reading: Reading) -> "ShdFile":
        """This file, of which nothing was read yet, read in another way."""
        return ShdFile(self.path, self.n_units, self.in_memory_bytes, reading)

    def events(self, i: int) -> Events:
        """Events of clip `i`: t_us int64, x uint16, as stored (times need not be sorted)."""
        i = range(len(self))[i]
        if self._clips is not None or self._size <= self.in_memory_bytes:
            return self.whole().events(i)
        if self._file is None or self._pid != os.getpid():
            self._file, self._pid = self._open(), os.getpid()
        return self._read(self._file, i, i + 1).events(0)

    def whole(self) -> Clips:
        """All clips, in memory; those of a large file are not kept there."""
        if self._clips is not None:
            return self._clips
        clips = self._between(0, len(self))
        if self._size <= self.in_memory_bytes:
            self._clips = clips
        return clips

    def between(self, start: int, stop: int) -> Clips:
        """The clips start..stop - 1."""
        if self._clips is not None or self._size <= self.in_memory_bytes:
            return self.whole().between(start, stop)
        return self._between(start, stop)

    @property
    def most_events(self) -> int:
        """Number of events that the file can hold: of two bytes or more each."""
        spikes = self.reading.spikes_per_unit
        return self._size // 2 if spikes is None else len(self) * self.n_units * spikes

    def before_fork(self) -> None:
        """Call before worker processes start: loads a small file, so that they share its memory;
        closes a large one, because an HDF5 handle must not cross a fork."""
        if self._size <= self.in_memory_bytes and len(self):
            self.events(0)
        self._file = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_clips": None, "_file": None}

    def _damaged(self, error: BaseException, clip: int | None = None) -> EventFormatError:
        text = " ".join(str(error).split()) or type(error).__name__
        return EventFormatError(self.path, clip, f"not a whole HDF5 file ({text})")

    def _read_head(self, file: h5py.File) -> None:
        key = self.reading.label_key
        beside = is_file_name(key)
        needed = ("spikes/times", "spikes/units", *([] if beside else ["labels"]))
        missing = [name for name in needed if not isinstance(file.get(name), h5py.Dataset)]
        if missing and (self.reading.labelled or {*needed[:2]} & {*missing}):
            reason = f"not in SHD's layout: it lacks {', '.join(missing)}"
            if not {*needed[:2]} & {*missing}:
                reason += ": for labels in a file of their own see --label-key"
            raise EventFormatError(self.path, None, reason)
        named = not missing and not beside
        if named and not isinstance(file.get(key), h5py.Dataset):
            raise EventFormatError(self.path, None, f"it has no {key!r}: change --label-key")
        sizes = {name: file[name].shape for name in (*needed[:2], *([key] if named else []))}
        if len(set(sizes.values())) > 1 or len(sizes["spikes/times"]) != 1:
            raise EventFormatError(self.path, None, f"lengths differ: {sizes}")
        for name, kinds in (("spikes/times", "fiu"), ("spikes/units", "iu")):
            base = h5py.check_vlen_dtype(file[name].dtype)
            if getattr(base, "kind", "none") not in kinds:
                reason = f"{name} has type {base or file[name].dtype}, not SHD's"
                raise EventFormatError(self.path, None, reason)
            self._references[file[name].name] = self._checked_references(file[name], base.itemsize)
        n = len(file["spikes/times"])
        if beside and (self.reading.labelled or labels_file(self.path, key).is_file()):
            self.labels, self.classes = read_labels(self.path, key, n)
        elif not named:
            self.labels, self.classes = np.full(n, -1), []
        else:
            self.labels, self.classes = self._classes(file, key)
        if named and self.reading.labelled and (why := same_name(self.classes)):
            raise EventFormatError(self.path, None, why)
        has_speakers = isinstance(file.get("extra/speaker"), h5py.Dataset)
        self.speakers = numbers_of(self._values(file, "extra/speaker")) if has_speakers else None
        if self.speakers is not None and len(self.speakers) != len(self.labels):
            reason = f"{len(self.speakers)} speakers for {len(self.labels)} clips"
            raise EventFormatError(self.path, None, reason)
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= len(self.classes)))
        if named and len(wrong):
            reason = f"label {self.labels[wrong[0]]} lies outside the {len(self.classes)} classes"
            raise EventFormatError(self.path, int(wrong[0]), reason)

    def _classes(self, file: h5py.File, key: str) -> tuple[np.ndarray, list[str]]:
        """(labels, names of the classes): `extra/keys` where it is about these labels, else the
        values that occur, of a speaker say."""
        values, keys = self._values(file, key), file.get("extra/keys")
        numbers = key == AS_STORED.label_key and values.dtype == np.int64
        if numbers and isinstance(keys, h5py.Dataset):
            return values, self._strings(keys)
        return classes_of(values)

    def _values(self, file: h5py.File, name: str) -> np.ndarray:
        """int64 (n,), or str (n,)."""
        if file[name].ndim == 1 and h5py.check_string_dtype(file[name].dtype):
            return np.array(self._strings(file[name]), np.str_)
        return self._integers(file, name)

    def _checked_references(self, data: h5py.Dataset, itemsize: int) -> np.ndarray:
        """Where sequences lie. Refuses lengths that the file cannot hold: HDF5 would first allocate
        all they ask for."""
        held, found = len(data), np.empty(0)
        if held <= self._size:
            found = references(data)
            held += int(found["length"].sum(dtype=np.int64)) * itemsize
        if held > self._size:
            raise self._claims(data, held)
        return found

    def _claims(self, data: h5py.Dataset, held: int) -> EventFormatError:
        reason = f"{data.name} claims {held} bytes in a file of {self._size}"
        return EventFormatError(self.path, None, f"not a whole HDF5 file ({reason})")

    def _whole(self, data: h5py.Dataset) -> np.ndarray:
        """All of a dataset of numbers or of text of one length, which the file can hold."""
        stored, held = data.id.get_storage_size(), data.size * data.dtype.itemsize
        if held > max(MOST_TIMES * min(stored, self._size), self._size):
            raise self._claims(data, held)
        return data[()]

    def _strings(self, data: h5py.Dataset) -> list[str]:
        text = h5py.check_string_dtype(data.dtype)
        if text is None:
            raise EventFormatError(self.path, None, f"{data.name} has type {data.dtype}, not text")
        if text.length is None:  # of any length, so on a heap
            where = self._checked_references(data, itemsize=1)
            joined = sequences(self.path, where, np.dtype(np.uint8), data.file.userblock_size)
            ends = np.cumsum(where["length"], dtype=np.int64)
            keys = [part.tobytes() for part in np.split(joined, ends[:-1])] if len(ends) else []
        else:
            keys = np.atleast_1d(self._whole(data)).tolist()
        # not asstr(): it takes fixed-length bytes for ASCII, but SHD's names are UTF-8
        return [as_name(key) for key in keys]

    def _integers(self, file: h5py.File, name: str) -> np.ndarray:
        data = file[name]
        if data.dtype.kind not in "iu" or data.ndim != 1:
            has = f"type {data.dtype} and shape {data.shape}"
            reason = f"{name} has {has}, expected (n,) integers or names"
            raise EventFormatError(self.path, None, reason)
        return self._whole(data).astype(np.int64)

    def _between(self, first: int, last: int) -> Clips:
        parts = []
        with self._open() as file:
            for start in range(first, last, BLOCK):  # in blocks, to keep the peak of memory low
                part = self._block(file, start, min(start + BLOCK, last))
                # int32 microseconds (35 minutes) halve the memory wherever they suffice
                small = not len(part.t_us) or part.t_us.max() < 2**31
                parts.append((part.t_us.astype(np.int32) if small else part.t_us, part.x, part))
        t_us, x = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
        lengths = np.concatenate([np.diff(part.offsets) for *_, part in parts])
        return Clips(t_us, x, np.concatenate([[0], np.cumsum(lengths)]))

    def _block(self, file: h5py.File, start: int, stop: int) -> Clips:
        """`_read`, or with `skip_bad` what can be read, clip by clip where one is bad."""
        try:
            return self._read(file, start, stop)
        except EventFormatError as error:
            if not self.reading.skip_bad:
                mended = error.offset is None or "give --" in error.reason  # by other means
                reason = error.reason + ("" if mended else WAY_OUT)
                raise EventFormatError(self.path, error.offset, reason) from error
            if stop == start + 1:
                self.bad[start] = error.reason
                return Clips(np.empty(0, np.int64), np.empty(0, np.uint16), np.zeros(2, np.int64))
        # halves, so that few bad clips among many cost little
        middle = (start + stop) // 2
        one, other = self._block(file, start, middle), self._block(file, middle, stop)
        t_us, x = (
            np.concatenate([getattr(part, name) for part in (one, other)]) for name in ("t_us", "x")
        )
        return Clips(t_us, x, np.append(one.offsets, other.offsets[1:] + one.offsets[-1]))

    def _open(self, h5: Callable[..., h5py.File] = h5py.File) -> h5py.File:
        try:
            return h5(self.path)
        except (OSError, ValueError) as error:
            raise self._damaged(error) from error

    def _sequences(self, data: h5py.Dataset, start: int, stop: int) -> tuple[np.ndarray, ...]:
        """Clips start..stop-1 of a vlen data set: all elements, joined, and each clip's number."""
        where, base = self._references[data.name][start:stop], data.file.userblock_size
        dtype = h5py.check_vlen_dtype(data.dtype)
        return sequences(self.path, where, dtype, base), where["length"].astype(np.int64)

    def _read(self, file: h5py.File, start: int, stop: int) -> Clips:
        """The checked clips start..stop-1: t_us int64, x uint16."""
        try:
            (t, n_times), (x, n_units) = (
                self._sequences(file[name], start, stop)
                for name in ("spikes/times", "spikes/units")
            )
        except _BROKEN as error:
            raise self._damaged(error, start if stop == start + 1 else None) from error
        wrong = np.flatnonzero(n_times != n_units)
        if len(wrong):
            reason = f"{n_times[wrong[0]]} times but {n_units[wrong[0]]} units"
            raise EventFormatError(self.path, start + int(wrong[0]), reason)
        offsets = np.concatenate([[0], np.cumsum(n_times)])
        t_us = self._microseconds(t, offsets, start)
        wrong_x = (x < 0) | (x >= self.n_units)
        reason = f"a unit lies outside 0..{self.n_units - 1}, see --n-units"
        self._refuse(wrong_x, offsets, start, reason)
        clips = Clips(np.rint(t_us).astype(np.int64), x.astype(np.uint16), offsets)
        reading = self.reading
        return changed(clips, reading.spikes_per_unit, reading.reverse, self.n_units)

    def _microseconds(self, t: np.ndarray, offsets: np.ndarray, start: int) -> np.ndarray:
        """Times `t` of the clips start.. as `reading` says, float64 and not rounded."""
        if t.dtype.kind != "f" and self.reading.time_unit == "s":
            reason = "its times are whole numbers, no seconds: give --time-unit ms or us"
            raise EventFormatError(self.path, start, reason)
        with np.errstate(invalid="ignore"):  # of what is no number, which is found below
            t_us = t.astype(np.float64) * UNITS_US[self.reading.time_unit]  # 1e6 overflows float16
        self._refuse(~np.isfinite(t_us), offsets, start, NEGATIVE)
        if self.reading.time_zero == "first-event" and len(t_us):
            size = np.diff(offsets)
            first = np.minimum.reduceat(t_us, offsets[:-1][size > 0])
            t_us = t_us - np.repeat(first, size[size > 0])
        self._refuse(t_us < 0, offsets, start, NEGATIVE)
        late = "a spike time is over 30 years: give --time-zero first-event if it is a date"
        self._refuse(t_us >= LAST_US, offsets, start, late)
        return t_us

    def _refuse(self, wrong_n: np.ndarray, offsets: np.ndarray, start: int, reason: str) -> None:
        """EventFormatError naming the first clip, counted from `start`, with a wrong event."""
        if wrong_n.any():
            clip = int(np.searchsorted(offsets, wrong_n.argmax(), side="right")) - 1
            raise EventFormatError(self.path, start + clip, reason)


def write_shd(
    path: str | Path,
    events: Iterable[Events],
    labels: Sequence[int],
    classes: Sequence[str],
    speakers: Sequence[int] | None = None,
    n_units: int = N_UNITS,
) -> None:
    """Writes clips in SHD's layout: one `Events` per entry of `labels`; times become float32
    seconds, right to 0.05 ms. The file appears under its name only when it is complete. Errors:
    DataError if counts differ, events break the layout or a clip lasts over LONGEST_S."""
    if speakers is not None and len(speakers) != len(labels):
        raise DataError(f"{len(speakers)} speakers for {len(labels)} clips of {path}")
    part = Path(f"{path}.part")
    try:
        with h5py.File(part, "w") as file:
            shape = (len(labels),)
            times = file.create_dataset("spikes/times", shape, h5py.vlen_dtype(np.float32))
            units = file.create_dataset("spikes/units", shape, h5py.vlen_dtype(np.uint16))
            file["labels"] = np.asarray(labels, np.uint16)
            file["extra/keys"] = np.array([as_bytes(name) for name in classes], dtype="S")
            if speakers is not None:
                file["extra/speaker"] = np.asarray(speakers, np.uint16)
            written = -1
            for written, clip in enumerate(events):
                if written == len(labels):
                    raise DataError(f"more clips than the {len(labels)} labels of {path}")
                clip.validate(n_units)
                if len(clip) and clip.t_us.max() > 1e6 * LONGEST_S:
                    raise DataError(f"clip {written} of {path} lasts over {LONGEST_S} s: cut it")
                times[written] = (clip.t_us / 1e6).astype(np.float32)
                units[written] = clip.x.astype(np.uint16)
            if written + 1 != len(labels):
                raise DataError(f"{written + 1} clips for {len(labels)} labels of {path}")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
