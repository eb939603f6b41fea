"""Data sets of clips: each is a function (root, split, download) -> ClipSet and a row of
data/catalog.py, which opens them by name.

    clips = open_file("mine.h5")
    events, label, identity = clips[0]  # identity: "mine.h5:0"

Legend: n clips.
"""

import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...errors import DataError
from ..download import fetch, finish_unpacking
from ..events import Clips, Events
from .shd import AS_STORED, BLOCK, N_UNITS, Reading, ShdFile
from .timing import changed

URL = "https://zenkelab.org/datasets/"
HDF5_ENDINGS = (".h5", ".hdf5")
FOLDERS = ("", "SHD", "SSC", "hdspikes")  # where tonic and others leave the files, under root


@dataclass(frozen=True)
class ClipSet:
    """Clips of one data set, read from `source` when they are asked for.

    `labels` int64 (n,), index into `classes`. `speakers` int64 (n,), None where unknown. `n_units`:
    length of the unit axis. `index` int64 (n,): the clips in `source`, None for all of them.
    `names`: of the clips of the source in messages, None: their numbers.
    """

    name: str
    source: ShdFile | Clips
    labels: np.ndarray
    classes: list[str]
    speakers: np.ndarray | None
    n_units: int = N_UNITS
    index: np.ndarray | None = None
    names: list[str] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Events, int, str]:
        """(events, label, identity) of clip `i`. Errors: EventFormatError."""
        i = range(len(self))[i]
        return self.source.events(self._place(i)), int(self.labels[i]), self.identity(i)

    def identity(self, i: int) -> str:
        """Name of clip `i` in messages."""
        place = self._place(i)
        return f"{self.name}:{place}" if self.names is None else self.names[place]

    def whole(self) -> Clips:
        """All clips, in order, in memory. Errors: EventFormatError."""
        clips = self.source.whole()
        return clips if self.index is None else clips.take(self.index)

    def blocks(self) -> Iterator[tuple[np.ndarray, Clips]]:
        """All clips, a part of them at a time: their places in the set, int64, and events."""
        place = np.arange(len(self)) if self.index is None else self.index
        for start in range(0, len(self.source), BLOCK):
            stop = min(start + BLOCK, len(self.source))
            mine = np.flatnonzero((place >= start) & (place < stop))
            if len(mine):
                block = self.source.between(start, stop)
                yield mine, block if self.index is None else block.take(place[mine] - start)

    def why_bad(self, i: int) -> str | None:
        """Why clip `i`, without events, could not be read; None: it could."""
        return self.source.bad.get(self._place(i))

    def read_as(self, reading: Reading) -> "ClipSet":
        """This set, of which nothing was read yet, read in another way. Errors: DataError if there
        is none."""
        if isinstance(self.source, ShdFile):
            return _of_file(self.name, self.source.read_as(reading))
        spikes, reverse = reading.spikes_per_unit, reading.reverse
        for name in ("time_unit", "time_zero", "n_units", "label_key"):
            if getattr(reading, name) != getattr(AS_STORED, name):
                raise DataError(f"{self.name} is no file: leave out --{name.replace('_', '-')}")
        return replace(self, source=changed(self.source, spikes, reverse, self.n_units))

    def _place(self, i: int) -> int:
        return i if self.index is None else int(self.index[i])

    def subset(self, indices: np.ndarray) -> "ClipSet":
        """Those at `indices` int64 (m,), in that order."""
        index = indices if self.index is None else self.index[indices]
        speakers = None if self.speakers is None else self.speakers[indices]
        return replace(self, labels=self.labels[indices], speakers=speakers, index=index)

    def before_fork(self) -> None:
        """Call once before worker processes start."""
        self.source.before_fork()


def open_file(path: str | Path, reading: Reading = AS_STORED) -> ClipSet:
    """A file in SHD's layout as a data set. Errors: DataError naming similar files if there is
    none; EventFormatError if it is damaged."""
    path = Path(path).expanduser()
    if not os.path.isfile(path):
        raise DataError(f"there is no file {path}{_similar_files(path)}")
    return _of_file(str(path), ShdFile(path, reading=reading))


def _of_file(name: str, file: ShdFile) -> ClipSet:
    return ClipSet(name, file, file.labels, file.classes, file.speakers, file.n_units)


def open_spoken_digits(root: str, split: str, download: bool) -> ClipSet:
    """The synthetic digits inside this package; splits train and test, nothing to download."""
    from .spoken_digits import load

    part = load(split)
    clips = Clips(part.t_us, part.unit, part.offsets)
    return ClipSet(f"spoken-digits {split}", clips, part.labels, part.classes, part.speakers)


def open_shd(root: str, split: str, download: bool) -> ClipSet:
    """Spiking Heidelberg Digits, 20 classes; splits train and test (arXiv 1910.07407)."""
    options = {"train": split == "train"}
    return open_file(_find(root, f"shd_{split}.h5", "SHD", options, download))


def open_ssc(root: str, split: str, download: bool) -> ClipSet:
    """Spiking Speech Commands, 35 classes; splits train, valid and test (arXiv 1910.07407)."""
    return open_file(_find(root, f"ssc_{split}.h5", "SSC", {"split": split}, download))


def _find(root: str, name: str, tonic_class: str, options: dict, download: bool) -> Path:
    folder = Path(root).expanduser()
    finish_unpacking(folder, tonic_class)
    places = [folder / sub / name for sub in FOLDERS]
    found = next((place for place in places if place.is_file()), None)
    if found is None and download:
        fetch(folder, tonic_class, options, URL)
        found = next((place for place in places if place.is_file()), None)
    if found is None:
        state = "is still missing after the download" if download else "is missing"
        raise DataError(
            f"{name} {state}: looked in {folder} and its folders {', '.join(FOLDERS[1:])}; "
            f"fetch it from {URL} or give --download"
        )
    return found


def _similar_files(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f" and no folder {folder}"
    names = [file.name for file in folder.iterdir() if file.suffix.lower() in HDF5_ENDINGS]
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.3)
    return f"; that folder has {', '.join(near)}" if near else ""
