"""Any recordings or clips -> files that others read.

    convert("drive.raw", "drive.npz")     # t (us), x, y, p, as SpikingJelly and tonic read them
    convert("nmnist", "OUT")              # OUT/train|test/<class>/<recording>.npz
    convert("FOLDER", "OUT.h5")           # one file in SHD's layout, of one split; so are clips

Nothing is written over, and what is made gets its name only when it is whole.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ..errors import DataError, EventFormatError, nearest
from . import catalog
from .audio.paths import form_of
from .audio.sets import HDF5_ENDINGS, ClipSet
from .audio.shd import AS_STORED, LONGEST_S, UNITS_US, Reading, write_shd
from .coverage import ZEROS
from .events import Events
from .folders import one_split
from .making import making
from .one_file import one_sample
from .vision.formats import read_events, sensor_size
from .vision.sets import RecordingSet

MOST_UNITS = 1 << 16  # SHD's layout holds units as 16 bits


class Asked(NamedTuple):
    """Which samples are to be converted and how they are read, as `convert` says it."""

    root: str
    split: str | None
    download: bool
    time_unit: str | None
    time_zero: str
    n_units: int | None
    label_key: str | None


def convert(
    source: str,
    out: str | Path,
    *,
    root: str = catalog.ROOT,
    split: str | None = None,
    skip_bad: bool = False,
    download: bool = False,
    time_unit: str | None = None,
    time_zero: str = ZEROS[0],
    n_units: int | None = None,
    label_key: str | None = None,
    progress: bool = False,
) -> dict[str, str | int | list[str]]:
    """Writes what `source` holds, a recording, folder, table, .h5 file or name of a data set.

    `out`: a name that ends in .npz for one recording; in .h5 or .hdf5 for SHD's layout, where unit
    (p * H + y) * W + x stands for a pixel of a recording; else the folder of a class tree of .npz.
    `split`: "train", "valid" or "test" part only, which one file of a set with several needs; None:
    all of it.
    `skip_bad` leaves out what cannot be read. `time_unit`: of the times in files that do not say
    it, None: s of clips, us of recordings (s in text with a fraction). `time_zero`: "file", where
    its clock starts, or "first-event" of each sample. `n_units`, `label_key`: of clips, as in
    `Reading`; None: all units that SHD's layout can hold, and the file's labels. Returns {"out",
    "samples", "events", "skipped"}, the last one sentences. Errors: DataError if `out` is there,
    cannot be written or cannot hold it; as `open_recordings` and `open_clips`; EventFormatError if
    a file is damaged.
    """
    out = Path(out).expanduser()
    asked = Asked(root, split, download, time_unit, time_zero, n_units, label_key)
    if time_unit not in (None, *UNITS_US):
        raise DataError(f"unknown unit of time {time_unit!r}: {nearest(time_unit, UNITS_US)}")
    if time_zero not in ZEROS:
        raise DataError(f"unknown time zero {time_zero!r}: {nearest(time_zero, ZEROS)}")
    if n_units is not None and not 1 <= n_units <= MOST_UNITS:
        raise DataError(f"--n-units is {n_units}: give 1 to {MOST_UNITS}, as SHD's layout holds")
    if out.exists():
        raise DataError(f"{out} exists already: delete it or choose another name")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with making(out.parent) as place:
            made = place / out.name
            if out.suffix.lower() == ".npz":
                done = _one(source, made, asked)
            else:
                one_file = out.suffix.lower() in HDF5_ENDINGS
                data = _opened(source, one_file, asked)
                samples = _Samples(data, skip_bad, progress, time_zero)
                write = _shd if one_file else _tree
                write(data, samples, made)
                done = {"samples": samples.n, "events": samples.events, "skipped": samples.skipped}
            os.replace(made, out)
    except OSError as error:
        raise DataError(f"cannot write {out} ({error.strerror or error})") from error
    return {"out": str(out), **done}


class _Samples:
    """The samples of a set in order, and what was seen on the way."""

    def __init__(
        self, data: RecordingSet | ClipSet, skip_bad: bool, progress: bool, time_zero: str
    ):
        self.data, self.skip_bad, self.progress = data, skip_bad, progress
        self.time_zero = time_zero
        self.n = self.events = 0
        self.skipped: list[str] = []

    def __iter__(self) -> Iterator[tuple[int, Events]]:
        for i in tqdm(range(len(self.data)), desc="converting", disable=not self.progress):
            try:
                events = _started(self.data[i][0], self.time_zero)
            except (DataError, EventFormatError) as error:
                if not self.skip_bad or isinstance(error.__cause__, ImportError):
                    raise
                self.skipped.append(str(error))
                continue
            self.n, self.events = self.n + 1, self.events + len(events)
            yield i, events
        if not self.n:
            raise DataError(f"{self.data.name} holds nothing that can be converted")


def _opened(source: str, one_file: bool, asked: Asked) -> RecordingSet | ClipSet:
    """The set that `source` names, or one split of it, of which `one_file` takes no more."""
    if one_sample(source) == "recording":
        raise DataError(f"{source} is one recording: give an output that ends in .npz")
    kind = catalog.kind_of(source)
    if kind == "audio":
        if not one_file:
            raise DataError("clips go into one file: give an output that ends in .h5")
        return _clips(source, asked)
    if kind != "vision":
        raise DataError(f"{source} is a task of kind {kind}: there are no files to convert")
    for name in ("n_units", "label_key"):
        if getattr(asked, name) is not None:
            raise DataError(f"{source} are recordings: leave out --{name.replace('_', '-')}")
    data = catalog.open_recordings(source, asked.root, asked.download, time_unit=asked.time_unit)
    has, split = ["train"] if data.in_test is None else ["train", "test"], asked.split
    if one_file or split:
        split = one_split(split, has, source, "convert")
    if data.in_test is None or split is None:
        return data
    return data.subset(np.flatnonzero(data.in_test == (split == "test")))


def _clips(source: str, asked: Asked) -> ClipSet:
    """The clips of one split."""
    entry = catalog.DATASETS.get(source)
    waves = entry.is_folder if entry else form_of(source) in ("waves", "csv")
    if not waves:
        units = None if entry else MOST_UNITS  # those of a named set are known
        reading = Reading(
            time_unit=asked.time_unit or AS_STORED.time_unit,
            time_zero=asked.time_zero,
            n_units=units if asked.n_units is None else asked.n_units,
            label_key=AS_STORED.label_key if asked.label_key is None else asked.label_key,
        )
        splits = catalog.open_splits(source, asked.root, asked.download, reading)
        clips = splits[one_split(asked.split, [*splits], source, "convert")]()
        if isinstance(clips, ClipSet):
            return clips
    raise DataError(f"{source} are audio files: see snndelay encode audio")


def _started(events: Events, time_zero: str) -> Events:
    """The events of a sample with its clock where it is asked for."""
    if time_zero == "file" or not len(events):
        return events
    return replace(events, t_us=events.t_us - events.t_us.min())


def _one(source: str, made: Path, asked: Asked) -> dict:
    path = Path(source).expanduser()
    if path.suffix and not path.exists():
        raise DataError(f"there is no file {source}")
    if one_sample(path) != "recording":
        clips = catalog.kind_of(source) == "audio"
        other = "an output that ends in .h5" if clips else "a folder as output"
        raise DataError(f"{source} is no recording, and an .npz holds one: give {other}")
    events = _started(read_events(path, sensor_size(path), asked.time_unit), asked.time_zero)
    _write_npz(made, events)
    return {"samples": 1, "events": len(events), "skipped": []}


def _write_npz(path: Path, events: Events) -> None:
    np.savez(path, t=events.t_us, x=events.x, y=np.asarray(events.y), p=np.asarray(events.p))


def _tree(data: RecordingSet | ClipSet, samples: _Samples, made: Path) -> None:
    names = _names(data)
    for i, events in samples:
        path = made / names[i]
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_npz(path, events)


def _names(data: RecordingSet) -> list[str]:
    """Where each recording goes, in its class and half."""
    halves = [""] * len(data)
    if data.in_test is not None:
        halves = ["test/" if test else "train/" for test in data.in_test]
    folders = [
        f"{half}{data.classes[label].replace('/', '_')}"
        for half, label in zip(halves, data.labels, strict=True)
    ]
    found = zip(data.names, data.identities, strict=True)
    ways = [(Path(n).stem, identity, Path(n).name, n) for n, identity in found]
    names = [f"{folder}/{way[0]}" for folder, way in zip(folders, ways, strict=True)]
    for k in range(1, 4):  # other names for those that are not told apart yet
        count = Counter(names)
        names = [
            name if count[name] == 1 else f"{folder}/{way[k].replace('/', '_')}"
            for name, folder, way in zip(names, folders, ways, strict=True)
        ]
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise DataError(f"{data.name} has two recordings called {twice[0]}: rename one of them")
    return [f"{name}.npz" for name in names]


def _shd(data: RecordingSet | ClipSet, samples: _Samples, made: Path) -> None:
    """Clips as they are, recordings with a unit for each pixel and polarity."""
    n_units = 2 * data.size[0] * data.size[1] if isinstance(data, RecordingSet) else data.n_units
    if n_units > MOST_UNITS:
        raise DataError(
            f"{data.name} has {n_units} units, and SHD's layout holds {MOST_UNITS}: convert it to "
            "a folder of .npz"
        )
    if samples.skip_bad:  # the labels stand before the events, so what is good is found first
        data = data.subset(np.array([i for i, _ in samples]))
        samples.data, samples.n, samples.events = data, 0, 0
    speakers = data.speakers if isinstance(data, ClipSet) else None
    events = (_flat(events, data, i) for i, events in samples)
    write_shd(made, events, data.labels.tolist(), data.classes, speakers, n_units)


def _flat(events: Events, data: RecordingSet | ClipSet, i: int) -> Events:
    """Sample `i` as SHD's layout holds it. Errors: DataError for a time that it cannot hold."""
    if len(events) and events.t_us.max() > 1e6 * LONGEST_S:
        name = data.identity(i) if isinstance(data, ClipSet) else data.names[i]
        short = np.ptp(events.t_us) <= 1e6 * LONGEST_S
        cure = "give --time-zero first-event" if short else "cut it, or see --time-unit"
        last = f"its last event comes at {events.t_us.max() / 1e6:g} s"
        raise DataError(f"{name}: {last}, and SHD's layout is exact to {LONGEST_S} s: {cure}")
    if not isinstance(data, RecordingSet):
        return events
    H, W = data.size
    x, y, p = (np.asarray(part, np.int64) for part in (events.x, events.y, events.p))
    return Events(events.t_us, (p * H + y) * W + x)
