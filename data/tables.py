"""Tables of files and labels: CSV files with a first line `file,label[,speaker][,split]`, in upper
or lower case, the columns in any order, apart by commas, semicolons or tabs.

    for row in read_table(Path("mine.csv")): ...
"""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError, nearest
from .folders import WORDS


class Listed(NamedTuple):
    """One file of a set: `path` within its folder, with "/"; `speaker` None where unknown; `split`:
    "train", "valid" or "test"."""

    path: str
    label: str
    speaker: str | None = None
    split: str = "train"


def read_table(path: Path, folder: Path | None = None, label: str = "label") -> list[Listed]:
    """The files that a table lists, in its order, within `folder`, None: that of the table.
    `label`: what the column of the classes is called. Errors: DataError naming the row if a column,
    a field or a file is missing."""
    folder, listed, lost = path.parent if folder is None else folder, [], []
    for line, row in _rows(path, label):
        wanted = ["file", label, *({"speaker"} & row.keys())]
        found = {name: (row[name] or "").strip() for name in wanted}
        word = (row.get("split") or "train").strip().lower() or "train"
        if not all(found.values()):
            raise DataError(f"{path}, row {line}: a field is empty")
        if not os.path.isfile(folder / found["file"]):  # also where no file can be called so
            lost.append(f"{path}, row {line}: there is no file {folder / found['file']}")
        if word not in WORDS:
            raise DataError(f"{path}, row {line}: no split {word!r}: {nearest(word, WORDS)}")
        name = Path(found["file"]).as_posix()
        listed.append(Listed(name, found[label], found.get("speaker"), WORDS[word]))
    if lost:
        raise DataError(lost[0] + (f" ({len(lost)} such rows in all)" if len(lost) > 1 else ""))
    return listed


def paths_of(folder: Path, rows: Sequence[Listed]) -> list[Path]:
    """The files of rows within a folder; where one is absolute, all are."""
    if any(os.path.isabs(row.path) for row in rows):
        folder = folder.absolute()
    return [folder / row.path for row in rows]


def first_file(path: Path) -> str:
    """The first file that a table lists, "" if it is no table of files."""
    try:
        return (_rows(path)[0][1]["file"] or "").strip()
    except DataError:
        return ""


def _column(name: str) -> str:
    """The name of a column, ours in lower case."""
    return name.lower() if name.lower() in ("file", "label", "speaker", "split") else name


def _rows(path: Path, label: str = "label") -> list[tuple[int, dict[str, str | None]]]:
    """(number of the line, the row as it stands) of all, some of them."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            mark = max(",;\t", key=header.count)  # spreadsheets write semicolons in some countries
            file.seek(0)
            reader = csv.DictReader(file, delimiter=mark, skipinitialspace=True)
            reader.fieldnames = [_column(name) for name in reader.fieldnames or ()]
            rows = [(reader.line_num, row) for row in reader]
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a CSV file ({error})") from error
    if not rows or not {"file", label} <= rows[0][1].keys():
        columns = f"`file,{label}`, perhaps with `speaker` and `split`"
        raise DataError(f"{path} needs a first line {columns}, and rows")
    return rows
