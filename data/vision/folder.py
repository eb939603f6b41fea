"""A user's own recordings -> RecordingSet: a tree of class folders, or a table of files.

    recordings = open_folder("mine")      # <class>/<recording>, or train|test/<class>/<recording>
    recordings = open_table("mine.csv")   # file,label or file,label,split

Legend: n recordings; `size` is (height, width) of a sensor in pixels.
"""

import os
import re
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import DataError, EventFormatError
from ..events import pixels
from ..folders import Files, class_files, entries, is_hidden, numbered, split_files, walk
from ..tables import first_file, paths_of, read_table
from .formats import (
    ENDINGS,
    check_sensor,
    is_annotation,
    read_of_sensor,
    read_recording,
    sensor_size,
    size_seen,
)
from .gestures import LISTS
from .sets import DIGITS, NMNIST, RecordingSet, on_disk, open_gesture_archive, open_nmnist


def open_folder(
    path: str | Path, size: tuple[int, int] | None = None, time_unit: str | None = None
) -> RecordingSet:
    """Any folder of recordings: a tree <class>/<recording> of files that `read_events` reads, of
    one kind or mixed, or train|test/<class>/<recording> with the halves that `split_files`
    knows; classes and files in order of name. Train|Test/<digit>/<id>.bin is N-MNIST, and a folder
    with trials_to_train.txt DVS128-Gesture's original archive.

    Identity "<class>/<recording>", with the half before it where both have the same name. `size`:
    (H, W) of the sensor, with which every file must agree; None: as the headers say, else from the
    largest row and column of all events, for which files are read once more. `time_unit`: as
    `read_events` takes it. Errors: DataError if there is no recording, class folders lie beside the
    halves, or there is a third part; EventFormatError if a file is damaged.
    """
    path = Path(path).expanduser()
    if any((path / name).is_file() for name in LISTS):
        return _known(open_gesture_archive(path), size)
    files = class_files(path, ENDINGS, halves=True)
    files = [(label, file) for label, file in files if not is_annotation(file)]
    if not files:
        raise DataError(_nothing(path))
    splits = split_files(path, files)
    if _is_nmnist(path, files):
        return _known(open_nmnist(str(path), False), size)
    made = _opened(path, path, splits, size, time_unit)
    if deeper := _deeper(path, {file for _, file in files}):
        left_out = (
            f"warning: left out {_files(len(deeper))} named as recordings are, deeper than "
            f"<class>/<recording>, the first: {deeper[0]}: move them up, or list all in a table"
        )
        made = replace(made, said=(*made.said, left_out))
    return made


def _known(recordings: RecordingSet, size: tuple[int, int] | None) -> RecordingSet:
    """A set whose sensor is known. Errors: DataError if another one was stated."""
    if size is not None:
        check_sensor(recordings.name, size, recordings.size)
    return recordings


def open_table(
    path: str | Path, size: tuple[int, int] | None = None, time_unit: str | None = None
) -> RecordingSet:
    """The recordings that a table lists, as `read_table` reads it. Classes in order of name;
    identity "<label>/<file>", without its ending. `size`, `time_unit` as `open_folder`. Errors:
    DataError that names the line, or if there is a third part."""
    path, splits = Path(path).expanduser(), {}
    rows = read_table(path)
    for row, file in zip(rows, paths_of(path.parent, rows), strict=True):
        splits.setdefault(row.split, []).append((row.label, file))
    return _opened(path, path.parent, splits, size, time_unit)


def lists_recordings(path: str | Path) -> bool:
    """Whether a file is a table whose first file is a recording by its ending."""
    path = Path(path).expanduser()
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    return Path(first_file(path)).suffix.lower() in ENDINGS


def _is_nmnist(folder: Path, files: Files) -> bool:
    """Whether a folder is N-MNIST's: its parts, digits in them, and files that are numbers."""
    names = [file.parts[len(folder.parts) :] for _, file in files]
    digits = all(len(n) == 3 and n[0] in NMNIST.parts and n[1] in DIGITS for n in names)
    return digits and any(re.fullmatch(r"[0-9]+\.bin", n[2]) for n in names)


def _deeper(folder: Path, used: set[Path]) -> list[str]:
    """Files in the folders of class folders, named as recordings are and not `used`."""
    found, n = [], len(folder.parts)
    depth = os.fspath(folder / "class" / "file").count(os.sep)
    for entry in walk(folder, failed=lambda *_: None):
        if entry.path.count(os.sep) <= depth:  # most of them: a path takes longer than its listing
            continue
        path = Path(entry.path)
        inner = path.parts[n:]
        hidden = any(is_hidden(name) or name.startswith("_") for name in inner)
        if path.suffix.lower() in ENDINGS and len(inner) > 2 and not hidden:
            found += ["/".join(inner)] * (path not in used and not is_annotation(path))
    return sorted(found)


def _nothing(path: Path) -> str:
    """What to say of a folder without recordings in class folders."""
    if any(Path(entry.name).suffix.lower() in ENDINGS for entry in entries(path)):
        return (
            f"the recordings in {path} lie in no class folders: give the folder above if they are "
            "one class, or a table: FILE.csv with file,label"
        )
    if deeper := _deeper(path, set()):
        return (
            f"the recordings in {path} lie deeper than <class>/<recording>, the first: "
            f"{deeper[0]}: give the folder that holds the classes, move them up, or list them in a "
            "table"
        )
    endings = " ".join(ENDINGS)
    return f"{path} holds no recordings in class folders, <class>/<recording> with one of {endings}"


def _opened(
    path: Path,
    folder: Path,
    splits: dict[str, Files],
    size: tuple[int, int] | None,
    time_unit: str | None,
) -> RecordingSet:
    """The set at `path` of the files of its splits, within `folder`."""
    if "valid" in splits:
        raise DataError(
            f"{path} has a third part, valid: put its recordings into train, from which "
            "--valid-fraction takes its own"
        )
    halves = [half for half in ("train", "test") if half in splits]
    parts = [[file for _, file in splits[half]] for half in halves]
    rows = [(half, *row) for half in halves for row in splits[half]]
    identities, n = [f"{label}/{file.stem}" for _, label, file in rows], len(parts[0])
    if {*identities[:n]} & {*identities[n:]}:
        identities = [f"{half}/{label}/{file.stem}" for half, label, file in rows]
    classes, numbers = numbered([label for _, label, _ in rows])
    stated, reader, said = size is not None, read_of_sensor, []
    if size is None:
        (size, said), reader = _size_of([file for *_, file in rows], time_unit), read_recording
    read = partial(reader, size=size, time_unit=time_unit)
    made = on_disk(str(path), str(folder), parts, classes, numbers, identities, size, read)
    return replace(made, time_unit=time_unit, stated=stated, said=tuple(said))


def _size_of(files: list[Path], time_unit: str | None) -> tuple[tuple[int, int], list[str]]:
    """(the size as headers say it, else from the events of recordings that can be read, a warning
    if headers differ): those that cannot be read are found when they are framed."""
    largest, damaged, headers = np.array([0, 0]), None, Counter()
    for path in files:
        try:
            header = sensor_size(path)
            size = header or size_seen(path, time_unit)
        except (DataError, EventFormatError) as error:
            if isinstance(error.__cause__, ImportError):  # of all of them, and easily mended
                raise
            damaged = damaged or error
            continue
        largest = np.maximum(largest, size)
        headers[header] += 1
    if not largest.all() and damaged is not None:
        raise damaged
    if not largest.all():
        folder = files[0].parent.parent
        raise DataError(f"the recordings in {folder} are empty: give --sensor HEIGHT WIDTH")
    size = int(largest[0]), int(largest[1])
    return size, _mixed(headers, size)


def _files(n: int) -> str:
    return f"{n} file{'s' * (n > 1)}"


def _mixed(headers: Counter, size: tuple[int, int]) -> list[str]:
    """A warning if headers, of so many files each, name several sensors."""
    sizes = {header: n for header, n in headers.items() if header is not None}
    if len(sizes) < 2:
        return []
    told = ", ".join(f"{H} x {W} in {_files(n)}" for (H, W), n in sorted(sizes.items()))
    return [
        f"warning: the headers name different sensors, {told}: all are framed in the upper left "
        f"corner of {pixels(size)}, where a network may learn the camera: keep those of one"
    ]
