"""Data sets of recordings: each is a function (root, download) -> RecordingSet and a row of
data/catalog.py, which opens them by name.

    recordings = open_nmnist("mine", False)     # Train|Test/<digit>/<id>.bin
    events, label, identity = recordings[0]    # read from its file now

Which image a recording shows is its identity: splits by identity keep a test image out of the
static images that train the network.

Legend: n recordings; size is (height, width) in pixels.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from ..cache import stamp
from ..download import fetch, finish_unpacking
from ..events import Events
from ..folders import below, class_files, numbered
from .atis import Packed, read_packed
from .formats import is_annotation, read_events, read_gesture
from .gestures import LISTS, read_trial, trials


@dataclass(frozen=True)
class RecordingSet:
    """Recordings of one data set, read when they are asked for.

    `labels` int64 (n,), index into `classes`. `identities`: which image each one shows, the same
    string as that image has among the static ones. `size`: (height, width) of the sensor. `names`:
    files under `folder`, None for a set that is not on disk. `read`: index -> events, perhaps as
    the file holds them. `in_test` bool (n,): the official test part, None if there is none.
    `time_unit`: in which `read` takes times to be, None: as `formats.read_events` finds it.
    `stated`: whether somebody said the size, so that `read` refuses files that say another.
    `said`: what a user should know of the files, a line each.
    """

    name: str
    labels: np.ndarray
    classes: list[str]
    identities: list[str]
    size: tuple[int, int]
    names: list[str]
    read: Callable[[int], Events | Packed]
    in_test: np.ndarray | None = None
    folder: Path | None = None
    time_unit: str | None = None
    stated: bool = False
    said: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Events, int, str]:
        """(events, label, identity) of recording `i`. Errors: EventFormatError, DataError."""
        i = range(len(self))[i]
        events = self.read(i)
        events = events.events() if isinstance(events, Packed) else events
        return events, int(self.labels[i]), self.identities[i]

    def called(self) -> list[str]:
        """What messages call each recording: its identity, and its file where two have the same."""
        count = Counter(self.identities)
        pairs = zip(self.identities, self.names, strict=True)
        return [name if count[identity] > 1 else identity for identity, name in pairs]

    def subset(self, index: np.ndarray) -> "RecordingSet":
        """The recordings at `index`, int64 (m,), in that order; all classes stay."""
        names, identities = ([all_of[i] for i in index] for all_of in (self.names, self.identities))
        in_test = None if self.in_test is None else self.in_test[index]
        read = partial(_read_kept, self.read, index)
        kept = {"labels": self.labels[index], "identities": identities, "names": names}
        return replace(self, **kept, read=read, in_test=in_test)

    def fingerprint(self) -> str:
        """Hash of all that the recordings depend on, without reading them: the name, the sensor,
        and of every file its name and `stamp`."""
        files = []
        if self.folder is not None:
            files = [stamp(os.path.join(self.folder, name)) for name in self.names]
        parts = [self.name, self.size, self.names, self.identities, self.labels.tolist(), files]
        parts += [self.time_unit] * (self.time_unit is not None) + ["stated"] * self.stated
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class _Source:
    """Where a named set lies: in one of `folders` of the root. `parts`: name of a sub-folder ->
    options with which `tonic_class` fetches it. Its files fit `pattern`, and where there are
    `numbers`, each is named by one of them."""

    title: str
    tonic_class: str
    url: str
    folders: tuple[str, ...]
    pattern: str
    parts: dict[str, dict]
    numbers: range | None = None


DIGITS = [str(digit) for digit in range(10)]
GESTURES = [
    *("hand clapping", "right hand wave", "left hand wave", "right arm cw", "right arm ccw"),
    *("left arm cw", "left arm ccw", "arm roll", "air drums", "air guitar", "other gestures"),
]
NMNIST = _Source(
    title="N-MNIST",
    tonic_class="NMNIST",
    url="https://www.garrickorchard.com/datasets/n-mnist",
    folders=("", "NMNIST", "N-MNIST", "nmnist"),
    pattern="[0-9]/*.bin",
    parts={"Train": {"train": True}, "Test": {"train": False}},
    numbers=range(1, 70_001),
)
NCALTECH101 = _Source(
    title="N-Caltech101",
    tonic_class="NCALTECH101",
    url="https://www.garrickorchard.com/datasets/n-caltech101",
    folders=tuple(
        outer + inner
        for outer in ("", "NCALTECH101/", "N-Caltech101/", "ncaltech101/")
        for inner in ("Caltech101", "")
    ),
    pattern="*/*.bin",
    parts={"": {}},
)
CIFAR10DVS = _Source(
    title="CIFAR10-DVS",
    tonic_class="CIFAR10DVS",
    url="https://figshare.com/ndownloader/files/38023437",
    folders=("", "CIFAR10DVS", "CIFAR10-DVS", "cifar10dvs"),
    pattern="*/*.aedat4",
    parts={"": {}},
)
GESTURE = _Source(
    title="DVS128-Gesture",
    tonic_class="DVSGesture",
    url="https://figshare.com/ndownloader/files/38022171 and .../38020584",
    folders=("", "DVSGesture", "DVS-Gesture", "dvsgesture"),
    pattern="user*_*/*.npy",
    parts={"ibmGestureTrain": {"train": True}, "ibmGestureTest": {"train": False}},
    numbers=range(len(GESTURES)),
)


def open_dvs(root: str, download: bool, seed: int = 0) -> RecordingSet:
    """The scanned digits of scikit-learn as simulated recordings, one of each, nothing to download.
    `seed`: of the sensor's noise. Identity "digits:<index>", that of the image."""
    from . import scanned_digits as digits  # brings numba, so only here

    images = digits.digit_images()
    names, read = digits.recording_names(seed), partial(digits.digit_recording, seed=seed)
    return RecordingSet(
        "dvs", images.labels, images.classes, images.identities, digits.SIZE, names, read
    )


def open_nmnist(root: str, download: bool) -> RecordingSet:
    """N-MNIST, 10 digits, 34 x 34: Train|Test/<digit>/<id>.bin, all or some of them.

    Identity "mnist:<index>", the test images of MNIST from 60000 on: index is id - 1, and
    60000 + id - 1 in Test, unless its ids go on from 60001 (Orchard et al. 2015)."""
    train, test = _parts(root, NMNIST, download)
    ids = [int(path.stem) for path in train] + [int(path.stem) for path in test]
    starts = [0] * len(train) + [60_000 if i <= 10_000 else 0 for i in ids[len(train) :]]
    identities = [f"mnist:{start + i - 1}" for start, i in zip(starts, ids, strict=True)]
    labels = [int(path.parent.name) for path in train + test]
    read = partial(read_packed, size=(34, 34))
    return on_disk("nmnist", root, [train, test], DIGITS, labels, identities, (34, 34), read)


def open_ncaltech101(root: str, download: bool) -> RecordingSet:
    """N-Caltech101, 101 classes, 180 x 240: Caltech101/<class>/image_NNNN.bin. Identity
    "<class>/image_NNNN", as the image has in Caltech101 (Orchard et al. 2015)."""
    (files,) = _parts(root, NCALTECH101, download)
    read = partial(read_packed, size=(180, 240))
    return _tree("ncaltech101", root, files, (180, 240), read)


def open_cifar10dvs(root: str, download: bool) -> RecordingSet:
    """CIFAR10-DVS, 10 classes, 128 x 128: <class>/<recording>.aedat4, no official split. Identity
    "<class>/<recording>" (Li et al. 2017)."""
    (files,) = _parts(root, CIFAR10DVS, download)
    return _tree("cifar10dvs", root, files, (128, 128), partial(read_events, size=(128, 128)))


def open_dvsgesture(root: str, download: bool) -> RecordingSet:
    """DVS128-Gesture, 11 classes, 128 x 128: ibmGestureTrain|ibmGestureTest/<user>/<label>.npy as
    tonic cuts it, or the original archive as `open_gesture_archive` reads it. Identity
    "<user>/<label>"; Test holds users of its own (Amir et al. 2017)."""
    places = (Path(root).expanduser() / name for name in (*GESTURE.folders, "DvsGesture"))
    for place in places:
        if (place / LISTS[0]).is_file():
            return open_gesture_archive(place)
    parts = _parts(root, GESTURE, download)
    files = [path for part in parts for path in part]
    labels = [int(path.stem) for path in files]
    identities = [f"{path.parent.name}/{path.stem}" for path in files]
    size = (128, 128)
    return on_disk("dvsgesture", root, parts, GESTURES, labels, identities, size, read_gesture)


def open_gesture_archive(folder: Path) -> RecordingSet:
    """DVS128-Gesture as its authors packed it: recordings of several gestures in .aedat files,
    which lists name for training or testing, cut by the tables beside them. Time 0 is the beginning
    of a gesture. Errors: DataError if a list, a table or a recording is missing or makes no sense.
    """
    found, size = trials(folder), (128, 128)
    labels = np.array([trial.label for trial in found], np.int64)
    if len(labels) and labels.max() >= len(GESTURES):
        raise DataError(f"{folder} has a class {labels.max() + 1}, and there are {len(GESTURES)}")
    names = [trial.path.relative_to(folder).as_posix() for trial in found]
    identities = [trial.identity for trial in found]
    in_test = np.array([trial.in_test for trial in found])
    read = partial(_read_nth, partial(read_trial, size=size), found)
    part = in_test if in_test.any() and not in_test.all() else None
    return RecordingSet("dvsgesture", labels, GESTURES, identities, size, names, read, part, folder)


def _files(folder: Path, pattern: str) -> list[Path]:
    """Recordings that fit <class>/<file>, in order of class and name; none if there is no such
    folder."""
    if not folder.is_dir():
        return []
    name, file = pattern.split("/")
    found = class_files(folder, (Path(file).suffix,))
    return [path for label, path in found if fnmatchcase(label, name) and not is_annotation(path)]


def _any(folder: Path, pattern: str) -> bool:
    """Whether a file fits <class>/<file>; what cannot be read does not."""
    name, file = pattern.split("/")
    paths = (path for path in folder.glob(f"{name}/*"))
    return any(path.suffix.lower() == Path(file).suffix and os.path.isfile(path) for path in paths)


def _parts(root: str, source: _Source, download: bool) -> list[list[Path]]:
    """The files of every part of `source`, each part from the first folder that has some."""
    folder = Path(root).expanduser()

    def search(part: str) -> list[Path]:
        places = (folder / name / part for name in source.folders)
        # a root may hold much else, also what nobody can read: look closely only where they lie
        places = (_files(place, source.pattern) for place in places if _any(place, source.pattern))
        files = next((files for files in places if files), [])
        return [path for path in files if source.numbers is None or _number(path) in source.numbers]

    finish_unpacking(folder, source.tonic_class)
    found = {part: search(part) for part in source.parts}
    for part, options in source.parts.items():
        if download and not found[part]:
            fetch(folder, source.tonic_class, options, source.url)
            found[part] = search(part)
    if not any(found.values()):
        state = "is still missing after the download" if download else "is missing"
        wanted = " or ".join(f"{part}/{source.pattern}".lstrip("/") for part in source.parts)
        raise DataError(
            f"{source.title} {state}: there is no {wanted} in {folder} "
            f"or its folders {', '.join(name for name in source.folders if name)}; "
            f"fetch it from {source.url} or give --download"
        )
    return list(found.values())


def _number(path: Path) -> int | None:
    return int(path.stem) if path.stem.isdecimal() else None


def _tree(
    name: str,
    root: str,
    files: list[Path],
    size: tuple[int, int],
    read: Callable[[Path], Events | Packed],
) -> RecordingSet:
    """The set of `files` <class>/<recording>, in order of class."""
    classes, labels = numbered([path.parent.name for path in files])
    identities = [f"{path.parent.name}/{path.stem}" for path in files]
    return on_disk(name, root, [files], classes, labels, identities, size, read)


def on_disk(
    name: str,
    root: str,
    parts: list[list[Path]],
    classes: list[str],
    labels: Sequence[int] | np.ndarray,
    identities: list[str],
    size: tuple[int, int],
    read: Callable[[Path], Events | Packed],
) -> RecordingSet:
    """The files of all `parts`; if there are two with files in both, the second is the test."""
    folder = Path(root).expanduser()
    files = [path for part in parts for path in part]
    return RecordingSet(
        name=name,
        labels=np.array(labels, np.int64),
        classes=classes,
        identities=identities,
        size=size,
        names=[below(folder, path) for path in files],
        read=partial(_read_nth, read, files),
        in_test=np.arange(len(files)) >= len(parts[0]) if len(parts) > 1 and all(parts) else None,
        folder=folder,
    )


def _read_nth(read: Callable[[Any], Events | Packed], files: list, i: int) -> Events | Packed:
    return read(files[i])


def _read_kept(
    read: Callable[[int], Events | Packed], index: np.ndarray, i: int
) -> Events | Packed:
    return read(int(index[i]))
