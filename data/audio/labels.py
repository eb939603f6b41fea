"""Labels of clips: what their values say about classes, and those that lie in a file of their own,
beside the file of clips.

mine.h5  mine_labels.npy    n integers or names, one for each clip in order
mine.h5  mine_labels.csv    the same as lines, or a table with a column called label

    labels, classes = read_labels(path, "*_labels.csv", n)  # * is the name of `path`

Legend: n clips.
"""

import csv
from pathlib import Path

import numpy as np

from ...errors import DataError, EventFormatError

ENDINGS = (".npy", ".csv")  # of a key of labels that names a file
COLUMN = "label"


def classes_of(values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """(labels int64 (n,), the classes: the values that occur, numbers in their order) of integers
    or names (n,)."""
    found, labels = np.unique(values, return_inverse=True)
    return labels.astype(np.int64), [str(value) for value in found]


def numbers_of(values: np.ndarray) -> np.ndarray:
    """int64 (n,): integers as they stand, names numbered in their order."""
    return classes_of(values)[0] if values.dtype.kind == "U" else values


def is_file_name(key: str) -> bool:
    """Whether a key of labels names a file and no data of the file of clips."""
    return Path(key).suffix.lower() in ENDINGS


def labels_file(path: str | Path, key: str) -> Path:
    """The file that `key` names, beside that of the clips at `path`."""
    path = Path(path)
    return path.parent / key.replace("*", path.stem)


def read_labels(path: str | Path, key: str, n: int) -> tuple[np.ndarray, list[str]]:
    """As `classes_of`, of the clips at `path`. Errors: DataError if there is no such file,
    EventFormatError if it is damaged or is not about n clips."""
    file = labels_file(path, key)
    if not file.is_file():
        raise DataError(f"there is no file of labels {file}: change --label-key")
    try:
        values = _of_text(file) if file.suffix.lower() == ".csv" else _of_array(file)
        if all(value.removeprefix("-").isdecimal() for value in values.tolist()):
            values = values.astype(np.int64)
    except Exception as error:  # numpy has no common error for a damaged header
        reason = " ".join(f"it holds no labels ({error})".split())
        raise EventFormatError(str(file), None, reason) from error
    if len(values) != n:
        raise EventFormatError(str(file), None, f"{len(values)} labels for {n} clips of {path}")
    return classes_of(values)


def _of_array(file: Path) -> np.ndarray:
    found = np.load(file, mmap_mode="r")  # which sets nothing aside for what is not there
    if found.ndim != 1 or found.dtype.kind not in "iuUS":
        raise ValueError(f"{found.dtype} {found.shape}, expected n integers or names")
    return np.char.decode(found, "utf-8") if found.dtype.kind == "S" else found.astype(np.str_)


def _of_text(file: Path) -> np.ndarray:
    text = file.read_text(encoding="utf-8-sig")
    rows = list(csv.reader(text.splitlines(), skipinitialspace=True))
    rows = [[field.strip() for field in row] for row in rows if any(row)]
    names = [name.lower() for name in rows[0]] if rows else []
    at = names.index(COLUMN) if COLUMN in names else 0
    if COLUMN not in names and any(len(row) > 1 for row in rows):
        raise ValueError(f"it needs a column called {COLUMN}")
    values = [row[at] for row in rows[COLUMN in names :]]
    if not all(values):
        raise ValueError("a label is empty")
    return np.array(values, np.str_)
