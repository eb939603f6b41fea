"""Trees of class folders, <class>/<file>: what is a class in them, what is not, and their halves.

    for label, path in class_files("words", (".wav", ".flac"), deep=True): ...

Names that begin with "." belong to the system or to tools, as lost+found does, and folders that
begin with "_" are no class either (_background_noise_ of Speech Commands, __MACOSX);
BACKGROUND_Google of Caltech101 is one. Links are followed, and no folder is entered twice for one
class, so that loops end.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from ..errors import DataError, alternatives

SPLITS = ("train", "valid", "test")
WORDS = {  # what folders and tables call the parts of a set, in lower case -> its split
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}
Files = list[tuple[str, Path]]  # class and file


def class_files(
    folder: str | Path, endings: Sequence[str], *, deep: bool = False, halves: bool = False
) -> Files:
    """(class, file) of every file under `folder` with one of `endings`, lower case with the dot:
    in order of class, then of path; a class without such files is not there. `deep`: files of
    sub-folders belong to the class as well. `halves`: so do those in the folders of one that is
    called as in WORDS, whose classes `split_files` knows.

    Errors: DataError if there is no such folder, if one cannot be read, a link of a class or a file
    leads nowhere, or what is called like a file is none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    root, found = _identity(folder), []
    for place in entries(folder):
        _check(place)
        if _is_folder(place) and not place.name.startswith("_"):
            half = halves and place.name.lower() in WORDS
            for file in walk(place.path, deep=deep, half=half, entered={root}):
                if os.path.splitext(file.name)[1].lower() in endings:
                    _check(file)
                    if not file.is_file():  # a reader of a pipe would wait for ever
                        raise DataError(f"{file.path} is no file that can be read: take it away")
                    found.append((place.name, file.path.replace(os.sep, "/")))
    return [(label, Path(path)) for label, path in sorted(found)]


def split_files(folder: Path, files: Files, *, deep: bool = False) -> dict[str, Files]:
    """split -> (class, file) of `files` that `class_files` found, with `halves`, in `folder`: its
    folders are the halves, train, valid and test, where these hold class folders; else all is
    "train", as what lies in one half alone is. `deep`: as it was there. Errors: DataError if class
    folders lie beside halves, or two halves are one split."""
    inner, n = {}, len(folder.parts)
    for top, path in files:
        if top.lower() in WORDS and len(path.parts) > n + 2:
            inner.setdefault(top, []).append((path.parts[n + 1], path))
    beside = next((top for top, _ in files if top not in inner), None)
    if not inner or (beside and deep and len(inner) == 1):  # a class may be called train
        return {"train": files}
    halves = sorted(inner, key=lambda name: SPLITS.index(WORDS[name.lower()]))
    if beside:
        names = " and ".join(halves)
        raise DataError(f"{folder} has a class folder {beside} beside {names}: move it")
    found: dict[str, Files] = {}
    for name in halves:
        split = WORDS[name.lower()]
        if split in found:
            names = " and ".join(half for half in halves if WORDS[half.lower()] == split)
            raise DataError(f"{folder} has {names}: keep one folder of each half")
        found[split] = inner[name]
    return found if len(found) > 1 else {"train": inner[halves[0]]}


def one_split(split: str | None, has: Sequence[str], where: str | Path, verb: str) -> str:
    """The one of the splits that a set `has` that is asked for, None: the only one. `where`: its
    name; `verb`: what is done with one. Errors: DataError if there is none, or several and none is
    named."""
    if split is None and len(has) > 1:
        raise DataError(f"{where} has splits, {', '.join(has)}: {verb} each with --split")
    if split not in (None, *has):
        raise DataError(f"{where} has no split {split!r} but {alternatives([*has])}")
    return split or has[0]


def numbered(labels: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """(the classes, in order of name; the number of each label among them, int64 (n,))."""
    classes = sorted({*labels})
    number = {label: k for k, label in enumerate(classes)}
    return classes, np.array([number[label] for label in labels], np.int64)


def walk(
    folder: str | Path,
    *,
    deep: bool = True,
    half: bool = False,
    entered: set[tuple[int, int]] | None = None,
    failed: Callable[[str, OSError], object] | None = None,
) -> Iterator[os.DirEntry[str]]:
    """The files of a folder and, where `deep`, of its folders, in order of name; a link that leads
    nowhere is one. `half`: its folders are classes. `entered`: folders to keep out of. `failed`:
    called with a folder that cannot be read, which else is a DataError; with it nothing is passed
    over, hidden or not."""
    entered = set() if entered is None else entered
    try:
        if (identity := _identity(folder)) in entered:
            return
        entered.add(identity)
        found = _listed(folder, hidden=failed is not None)
    except OSError as error:
        (failed or _refuse)(os.fspath(folder), error)
        return
    for entry in found:
        if not _is_folder(entry):
            yield entry
        elif failed or ((deep or half) and not entry.name.startswith("_")):
            known = {*entered} if half else entered
            yield from walk(entry.path, deep=deep, entered=known, failed=failed)


def entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """What a folder holds, sorted, without hidden names. Errors: DataError if it cannot be read."""
    try:
        return _listed(folder)
    except OSError as error:
        _refuse(os.fspath(folder), error)


def below(folder: Path, path: Path) -> str:
    """A file's path from a folder on, with "/"; the whole of one that lies elsewhere."""
    try:
        return path.relative_to(folder).as_posix()
    except ValueError:
        return path.absolute().as_posix()


def is_hidden(name: str) -> bool:
    """Whether a file or folder belongs to the system or to tools."""
    return name.startswith(".") or name == "lost+found"


def _listed(folder: str | Path, hidden: bool = False) -> list[os.DirEntry[str]]:
    """The system says with the names what is a folder: a call for each of 70,000 files would take
    seconds."""
    with os.scandir(folder) as found:
        kept = [entry for entry in found if hidden or not is_hidden(entry.name)]
    return sorted(kept, key=lambda entry: entry.name)


def _refuse(folder: str, error: OSError) -> NoReturn:
    raise DataError(f"the folder {folder} cannot be read ({error.strerror})") from error


def _check(entry: os.DirEntry[str]) -> None:
    """DataError for a link that leads nowhere."""
    if entry.is_symlink() and not os.path.exists(entry.path):
        raise DataError(f"the link {entry.path} leads nowhere: mend it or take it away")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _identity(folder: str | Path) -> tuple[int, int]:
    state = os.stat(folder)
    return state.st_dev, state.st_ino
