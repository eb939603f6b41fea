"""Trees of class folders, <class>/<file>: what is a class in them and what is not.

    for label, path in class_files("words", (".wav", ".flac"), deep=True): ...

Names that begin with "." belong to the system or to tools, as lost+found does, and folders that
begin with "_" are no class either (_background_noise_ of Speech Commands, __MACOSX);
BACKGROUND_Google of Caltech101 is one. Links are followed, and no folder is entered twice for one
class, so that loops end.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import DataError


def class_files(
    folder: str | Path, endings: Sequence[str], *, deep: bool = False
) -> list[tuple[str, Path]]:
    """(class, file) of every file under `folder` with one of `endings`, lower case with the dot:
    in order of class, then of path; a class without such files is not there. `deep`: files of
    sub-folders belong to the class as well.

    Errors: DataError if there is no such folder, if one cannot be read, or a link leads nowhere.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    root, found = _identity(str(folder)), []
    for place in _entries(str(folder)):
        if _is_folder(place) and not place.name.startswith("_"):
            for file in _files(place.path, deep, {root}):
                if os.path.splitext(file.name)[1].lower() in endings:
                    found.append((place.name, Path(file.path)))
    return sorted(found, key=lambda file: (file[0], file[1].as_posix()))


def _files(folder: str, deep: bool, entered: set[tuple[int, int]]) -> Iterator[os.DirEntry[str]]:
    """Files of a folder that is none of those `entered`, and `deep` ones of its sub-folders."""
    if (identity := _identity(folder)) in entered:
        return
    entered.add(identity)
    for entry in _entries(folder):
        if not _is_folder(entry):
            yield entry
        elif deep and not entry.name.startswith("_"):
            yield from _files(entry.path, deep, entered)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What a folder holds, sorted, without hidden names. The system says with the names what is a
    folder: a call for each of 70,000 files would take seconds."""
    try:
        with os.scandir(folder) as found:
            entries = [e for e in found if not e.name.startswith(".") and e.name != "lost+found"]
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be read ({error.strerror})") from error
    for entry in entries:
        if entry.is_symlink() and not os.path.exists(entry.path):
            raise DataError(f"the link {entry.path} leads nowhere: mend it or take it away")
    return sorted(entries, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        raise DataError(f"{entry.path} cannot be read ({error.strerror})") from error


def _identity(folder: str) -> tuple[int, int]:
    state = os.stat(folder)
    return state.st_dev, state.st_ino
