"""Trees of class folders, <class>/<file>: what is a class in them and what is not.

    for label, path in class_files("words", (".wav", ".flac"), deep=True): ...

Names that begin with "." belong to the system or to tools, as lost+found does, and folders that
begin with "_" are no class either (_background_noise_ of Speech Commands, __MACOSX);
BACKGROUND_Google of Caltech101 is one. Links are followed, and no folder is entered twice for one
class, so that loops end.
"""

import os
import stat
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
    root, found = _identity(folder), []
    for place in _entries(folder):
        if _is_folder(place) and not place.name.startswith("_"):
            files = _files(place, deep, {root})
            found += [(place.name, path) for path in files if path.suffix.lower() in endings]
    return sorted(found, key=lambda file: (file[0], file[1].as_posix()))


def _files(folder: Path, deep: bool, entered: set[tuple[int, int]]) -> Iterator[Path]:
    """Files of a folder that is none of those `entered`, and `deep` ones of its sub-folders."""
    if (identity := _identity(folder)) in entered:
        return
    entered.add(identity)
    for place in _entries(folder):
        if not _is_folder(place):
            yield place
        elif deep and not place.name.startswith("_"):
            yield from _files(place, deep, entered)


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, sorted, without hidden names."""
    try:
        names = sorted(set(os.listdir(folder)) - {"lost+found"})
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be read ({error.strerror})") from error
    names = [name for name in names if not name.startswith(".")]
    for name in names:
        if not os.path.exists(folder / name) and os.path.islink(folder / name):
            raise DataError(f"the link {folder / name} leads nowhere: mend it or take it away")
    return [folder / name for name in names]


def _is_folder(place: Path) -> bool:
    try:
        return stat.S_ISDIR(place.stat().st_mode)
    except OSError as error:
        raise DataError(f"{place} cannot be read ({error.strerror})") from error


def _identity(folder: Path) -> tuple[int, int]:
    state = folder.stat()
    return state.st_dev, state.st_ino
