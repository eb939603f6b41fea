"""A user's own recordings -> RecordingSet: a tree of class folders, or a table of files.

    recordings = open_folder("mine")      # <class>/<recording>, or train|test/<class>/<recording>
    recordings = open_table("mine.csv")   # file,label or file,label,split

Legend: n recordings; `size` is (height, width) of a sensor in pixels.
"""

import csv
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from ...errors import DataError, EventFormatError
from ..folders import class_files
from .formats import ENDINGS, read_events, sensor_size, size_seen
from .gestures import LISTS
from .sets import NMNIST, RecordingSet, on_disk, open_gesture_archive, open_nmnist

HALVES = ("train", "test")  # names of folders, and words of a table, in lower case
OTHER_HALVES = ("valid", "validation", "val", "dev")
TABLE = ("file", "label", "split")


def open_folder(path: str | Path, size: tuple[int, int] | None = None) -> RecordingSet:
    """Any folder of recordings: a tree <class>/<recording> of files that `read_events` reads, of
    one kind or mixed, or train|test/<class>/<recording> with the official halves, in any case;
    classes and files in order of name. Train|Test/<digit>/<id>.bin is N-MNIST, and a folder with
    trials_to_train.txt DVS128-Gesture's original archive.

    Identity "<class>/<recording>", with the half before it where both have the same name. `size`:
    (H, W) of the sensor; None: as the headers say, else from the largest row and column of all
    events, for which files are read once more.
    Errors: DataError if there is no recording, or class folders lie beside the halves;
    EventFormatError if a file is damaged.
    """
    path = Path(path).expanduser()
    if any((path / name).is_file() for name in LISTS):
        return open_gesture_archive(path)
    whole = _recordings(path)
    halves = _halves(path)
    parts = list(halves.values()) or [whole]
    if not any(parts):
        raise DataError(_nothing(path))
    if halves and _is_nmnist(halves):
        return open_nmnist(str(path), False)
    if halves and whole:
        other = whole[0].parent.name
        raise DataError(f"{path} has a class folder {other} beside {' and '.join(halves)}: move it")
    return _opened(str(path), path, parts, [file.parent.name for file in chain(*parts)], size)


def open_table(path: str | Path, size: tuple[int, int] | None = None) -> RecordingSet:
    """The recordings that a CSV file lists, with columns file (within its folder), label and
    perhaps split: train or test. Classes in order of name; identity "<label>/<file>", without its
    ending. `size` as `open_folder`. Errors: DataError that names the line."""
    path = Path(path).expanduser()
    rows = read_table(path)
    parts, labels = [], []
    for half in HALVES:
        own = [row for row in rows if row["split"] == half]
        parts.append([path.parent / row["file"] for row in own])
        labels += [row["label"] for row in own]
    parts = [part for part in parts if part]
    return _opened(str(path), path.parent, parts, labels, size)


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a table of files: file, label and split. Errors: as `open_table`."""
    return [_row(path, line, row) for line, row in enumerate(_table(path), 2)]


def _table(path: Path) -> list[dict[str, str | None]]:
    """The rows as they stand, some of them."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a CSV file ({error})") from error
    if not rows or not set(TABLE[:2]) <= rows[0].keys():
        raise DataError(f"{path} needs a first line `file,label` or `file,label,split`, and rows")
    return rows


def lists_recordings(path: str | Path) -> bool:
    """Whether a file is a table whose first file is a recording by its ending."""
    path = Path(path).expanduser()
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    try:
        first = (_table(path)[0].get("file") or "").strip()
    except DataError:  # no table of recordings; the reader of other tables says what is wrong
        return False
    return Path(first).suffix.lower() in ENDINGS


def _row(path: Path, line: int, row: dict) -> dict[str, str]:
    file, label, split = ((row.get(name) or "").strip() for name in TABLE)
    split = (split or HALVES[0]).lower()
    if not (file and label):
        raise DataError(f"{path}, row {line}: a field is empty")
    if split not in HALVES:
        raise DataError(f"{path}, row {line}: split is {split!r}, expected train or test")
    if not (path.parent / file).is_file():
        raise DataError(f"{path}, row {line}: there is no file {path.parent / file}")
    return {"file": Path(file).as_posix(), "label": label, "split": split}


def _halves(path: Path) -> dict[str, list[Path]]:
    """The folders train and test of a tree, training first, and the recordings in them; only those
    that hold class folders, so that a class may be called train. Errors: DataError if there is one
    more."""
    found, others = {}, []
    for name in sorted(place.name for place in path.iterdir() if place.is_dir()):
        if name.lower() in HALVES + OTHER_HALVES and (files := _recordings(path / name)):
            found[name] = files
            others += [name] if name.lower() in OTHER_HALVES else []
    own = [name for half in HALVES for name in found if name.lower() == half]
    if len({name.lower() for name in own}) < len(own):
        raise DataError(f"{path} has {' and '.join(own)}: keep one folder of each half")
    if own and others:
        raise DataError(
            f"{path} has a third part, {others[0]}: put its recordings into {own[0]}, from which "
            "--valid-fraction takes its own"
        )
    return {name: found[name] for name in own}


def _recordings(folder: Path) -> list[Path]:
    """Files of the class folders that can be recordings. N-Caltech101 has annotations as .bin."""
    found = class_files(folder, ENDINGS)
    return [path for _, path in found if not path.name.startswith("annotation")]


def _is_nmnist(halves: dict[str, list[Path]]) -> bool:
    """Whether the halves are those of N-MNIST: digits, and files that are numbers."""
    files = list(chain(*halves.values()))
    digits = all(len(file.parent.name) == 1 and file.parent.name.isdecimal() for file in files)
    numbers = any(file.suffix == ".bin" and file.stem.isdecimal() for file in files)
    return set(halves) <= set(NMNIST.parts) and digits and numbers


def _nothing(path: Path) -> str:
    """What to say of a folder without recordings in class folders."""
    if any(place.suffix.lower() in ENDINGS for place in path.iterdir()):
        return (
            f"the recordings in {path} lie in no class folders: give the folder above if they are "
            "one class, or a table: FILE.csv with file,label"
        )
    endings = " ".join(ENDINGS)
    return f"{path} holds no recordings in class folders, <class>/<recording> with one of {endings}"


def _opened(
    name: str,
    folder: Path,
    parts: list[list[Path]],
    labels: list[str],
    size: tuple[int, int] | None,
) -> RecordingSet:
    """The set of the files of all parts, whose classes are called `labels`."""
    files = list(chain(*parts))
    own = [f"{label}/{file.stem}" for label, file in zip(labels, files, strict=True)]
    if len(parts) > 1 and {*own[: len(parts[0])]} & {*own[len(parts[0]) :]}:
        halves = [half for half, part in zip(HALVES, parts, strict=True) for _ in part]
        own = [f"{half}/{identity}" for half, identity in zip(halves, own, strict=True)]
    classes = sorted(set(labels))
    size = size or _size_of(files)
    numbers = [classes.index(label) for label in labels]
    read = partial(read_events, size=size)
    return on_disk(name, str(folder), parts, classes, numbers, own, size, read)


def _size_of(files: list[Path]) -> tuple[int, int]:
    """As headers say, else from the events of recordings that can be read: the others are found
    when they are framed."""
    largest, damaged = np.array([0, 0]), None
    for path in files:
        try:
            size = sensor_size(path) or size_seen(path)
        except (DataError, EventFormatError) as error:
            if isinstance(error.__cause__, ImportError):  # of all of them, and easily mended
                raise
            damaged = damaged or error
            continue
        largest = np.maximum(largest, size)
    if not largest.all() and damaged is not None:
        raise damaged
    if not largest.all():
        raise DataError(f"the recordings in {files[0].parent.parent} are empty: give their size")
    return int(largest[0]), int(largest[1])
