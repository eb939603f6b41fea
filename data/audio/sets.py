"""Data sets by name or by file, and their split into training, validation and test clips.

A data set is any object with len(), `[i] -> (Events, label int, identity str)`, `labels` int64
(n,), `classes` list of names, `speakers` int64 (n,) or None, and `n_units`. To add one, write a
function (root, split, download) -> Recordings and list it in DATASETS.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...errors import DataError
from ..download import fetch
from ..events import Clips, Events
from .shd import N_UNITS, ShdFile

URL = "https://zenkelab.org/datasets/"
HDF5_ENDINGS = (".h5", ".hdf5")
FOLDERS = ("", "SHD", "SSC", "hdspikes")  # where tonic and others leave the files, under root


class Dataset(Protocol):
    """What the loader and the trainer need of a data set; see the head of this file."""

    labels: np.ndarray
    classes: list[str]
    speakers: np.ndarray | None
    n_units: int

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> tuple[Events, int, str]: ...

    def before_fork(self) -> None: ...


@dataclass(frozen=True)
class Recordings:
    """A data set over `source`, a ShdFile or Clips. `labels`, `speakers`: int64 (n,)."""

    name: str
    source: ShdFile | Clips
    labels: np.ndarray
    classes: list[str]
    speakers: np.ndarray | None
    n_units: int = N_UNITS

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Events, int, str]:
        return self.source.events(i), int(self.labels[i]), f"{self.name}:{i}"

    def before_fork(self) -> None:
        """Call once before worker processes start."""
        self.source.before_fork()


@dataclass(frozen=True)
class Subset:
    """The clips of `dataset` at `indices` int64 (n,), in that order; itself a data set."""

    dataset: Recordings
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> tuple[Events, int, str]:
        return self.dataset[int(self.indices[i])]

    @property
    def labels(self) -> np.ndarray:
        return self.dataset.labels[self.indices]

    @property
    def classes(self) -> list[str]:
        return self.dataset.classes

    @property
    def speakers(self) -> np.ndarray | None:
        speakers = self.dataset.speakers
        return None if speakers is None else speakers[self.indices]

    @property
    def n_units(self) -> int:
        return self.dataset.n_units

    def before_fork(self) -> None:
        """Call once before worker processes start."""
        self.dataset.before_fork()


def open_file(path: str | Path) -> Recordings:
    """A file in SHD's layout as a data set. Errors: DataError naming similar files if there is
    none; EventFormatError if it is damaged."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise DataError(f"there is no file {path}{_similar_files(path)}")
    file = ShdFile(path)
    return Recordings(str(path), file, file.labels, file.classes, file.speakers, file.n_units)


def open_spoken_digits(root: str, split: str, download: bool) -> Recordings:
    """The synthetic digits inside this package; splits train and test, nothing to download."""
    if split == "valid":
        raise DataError("spoken-digits has no validation file: take a part of its training clips")
    from .spoken_digits import load

    part = load(split)
    clips = Clips(part.t_us, part.unit, part.offsets)
    return Recordings(f"spoken-digits {split}", clips, part.labels, part.classes, part.speakers)


def open_shd(root: str, split: str, download: bool) -> Recordings:
    """Spiking Heidelberg Digits, 20 classes; splits train and test (arXiv 1910.07407)."""
    if split == "valid":
        raise DataError("SHD has no validation file: take a part of its training clips")
    options = {"train": split == "train"}
    return open_file(_find(root, f"shd_{split}.h5", "SHD", options, download))


def open_ssc(root: str, split: str, download: bool) -> Recordings:
    """Spiking Speech Commands, 35 classes; splits train, valid and test (arXiv 1910.07407)."""
    return open_file(_find(root, f"ssc_{split}.h5", "SSC", {"split": split}, download))


DATASETS: dict[str, Callable[[str, str, bool], Recordings]] = {
    "spoken-digits": open_spoken_digits,
    "shd": open_shd,
    "ssc": open_ssc,
}
OWN_VALIDATION = ("ssc",)  # data sets with a validation file of their own


def open_dataset(
    name_or_path: str,
    root: str = "~/.cache/snndelay",
    split: str = "train",
    download: bool = False,
    test_file: str | None = None,
) -> Recordings:
    """The clips of one split, "train", "valid" or "test". `name_or_path`: a name in DATASETS,
    looked for under `root`, or an HDF5 file in SHD's layout, whose test split is `test_file`.
    Errors: DataError (unknown name, missing file or split), EventFormatError (damaged file)."""
    if split not in ("train", "valid", "test"):
        raise DataError(f"there is no split {split!r}: use train, valid or test")
    if split == "test" and test_file is not None:
        return open_file(test_file)
    if name_or_path in DATASETS:
        return DATASETS[name_or_path](root, split, download)
    if not name_or_path.lower().endswith(HDF5_ENDINGS):
        near = difflib.get_close_matches(name_or_path.lower(), DATASETS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}, " if near else ""
        known = ", ".join(DATASETS)
        raise DataError(
            f"there is no data set {name_or_path!r}: {hint}one of {known}, or an .h5 file?"
        )
    if split != "train":
        raise DataError(f"{name_or_path} is one file without a {split} split: give test_file")
    return open_file(name_or_path)


def splits(
    config: Any, split_seed: int = 0
) -> tuple[Recordings | Subset, Recordings | Subset | None, Recordings | None]:
    """(train, valid or None, test or None) for a DataConfig.

    Protocol "clean": valid is the set's own validation file, else `valid_fraction` of the training
    clips: whole speakers where speakers are known, else the same part of every class; drawn with
    `split_seed`, never from test. "best-on-test": train is the whole file, valid None.
    test is None for a file without `test_file`. Errors: DataError, also if the classes differ.
    """
    where = (config.root, config.download, config.test_file)

    def opened(split: str) -> Recordings:
        root, download, test_file = where
        return open_dataset(config.dataset, root, split, download, test_file)

    train, valid, test = opened("train"), None, None
    if config.dataset in DATASETS or config.test_file is not None:
        test = opened("test")
    if config.protocol == "clean" and config.valid_fraction > 0:
        if config.dataset in OWN_VALIDATION:
            valid = opened("valid")
        else:
            in_valid = valid_mask(train.labels, train.speakers, config.valid_fraction, split_seed)
            valid = Subset(train, np.flatnonzero(in_valid))
            train = Subset(train, np.flatnonzero(~in_valid))
    for part, name in ((valid, "validation"), (test, "test")):
        if part is not None and part.classes != train.classes:
            raise DataError(
                f"the {name} clips have other classes than the training clips: "
                f"{_difference(part.classes, train.classes)}"
            )
    return train, valid, test


def valid_mask(
    labels: np.ndarray, speakers: np.ndarray | None, fraction: float, seed: int
) -> np.ndarray:
    """Which clips are held out, bool (n,). `labels`, `speakers`: int64 (n,). With two speakers or
    more: whole speakers in random order until `fraction` of the clips is reached, one at least
    stays in training; else `fraction` of every class."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(len(labels), bool)
    names = np.unique(speakers) if speakers is not None else []
    if len(names) > 1:
        for name in rng.permutation(names)[:-1]:
            mask |= speakers == name
            if mask.sum() >= fraction * len(labels):
                break
        return mask
    for label in np.unique(labels):
        clips = rng.permutation(np.flatnonzero(labels == label))
        mask[clips[: max(1, round(fraction * len(clips))) if len(clips) > 1 else 0]] = True
    return mask


def _find(root: str, name: str, tonic_class: str, options: dict, download: bool) -> Path:
    folder = Path(root).expanduser()
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


def _difference(one: list[str], other: list[str]) -> str:
    if len(one) != len(other):
        return f"{len(one)} instead of {len(other)}"
    first = next(i for i in range(len(one)) if one[i] != other[i])
    return f"class {first} is {one[first]!r} instead of {other[first]!r}"
