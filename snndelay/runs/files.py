"""Run folders, that of frames, and small files: written whole or not at all, found by path or by
name.
"""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ..data.catalog import DATASETS
from ..errors import RunError
from .settings import AudioSettings, VisionSettings

SUMMARY = {"accuracy", "n", "test_accuracy", "n_test", "seed", "n_classes", "seconds"}
SUMMARY |= {"parameters", "folder"}  # what is read in the summary of a finished run


def frames_folder(settings: AudioSettings | VisionSettings) -> Path | None:
    """Where frames are kept; None: nowhere."""
    root = Path(settings.data.root).expanduser()
    return root / "frames" if settings.frames.cache else None


def new_run_folder(runs: str | Path, name: str) -> Path:
    """Make and return runs/name, or name-2, name-3 ... if taken. RunError if it cannot be made."""
    check_is_text(Path(runs) / name, "--runs or --run")
    for number in range(1, 10_000):
        folder = Path(runs).expanduser() / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if not folder.exists():  # a parent is a file
                raise RunError(f"{runs} is no folder: choose another with --runs") from None
        except OSError as error:
            text = f"cannot create {folder} ({error.strerror}): choose a writable --runs folder"
            raise RunError(text) from error
    raise RunError(f"too many runs called {name} in {runs}: choose another name with --run")


def check_is_text(folder: Path, option: str) -> None:
    """RunError for a name that is no UTF-8, which TensorBoard refuses. option: how it is given."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise RunError(f"{folder} is no UTF-8: choose another {option}") from None


def absolute_paths(flat: dict[str, Any]) -> dict[str, Any]:
    """Flat settings whose data can be found from any folder: a run is evaluated and resumed from
    others. Names of data sets stay, and so does ~, which is the same everywhere."""
    found = dict(flat)
    for name in {"dataset", "test_file", "static", "root"} & flat.keys():
        value = flat.get(name)
        value = found[name] = os.fspath(value) if isinstance(value, os.PathLike) else value
        if not isinstance(value, str) or value in (*DATASETS, "digits") or value[:1] == "~":
            continue  # what is no path at all has a sentence of its own
        if name == "root" or os.path.exists(value):
            found[name] = os.path.abspath(value)
    return found


def find_run(run: str | Path) -> Path:
    """Folder of an earlier run, given as a path or as a name under runs/. RunError if missing."""
    for folder in (Path(run).expanduser(), Path("runs") / run):
        if (folder / "config.json").is_file():
            return folder
    here = Path("runs").resolve()
    raise RunError(
        f"{run} is no run: looked for config.json in {Path(run).expanduser()} and {here / run}"
    )


def read_json(path: Path) -> dict:
    """Content of a JSON file; RunError if it cannot be read."""
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
        return content
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"cannot read {path}: {error}") from error


def read_summary(folder: Path) -> dict:
    """What summary.json of a finished run says. RunError if it is damaged."""
    path, way_out = folder / "summary.json", "delete it, and --resume writes it anew"
    try:
        summary = read_json(path)
    except RunError as error:
        raise RunError(f"{error}: {way_out}") from error
    if missing := SUMMARY - summary.keys():
        raise RunError(f"{path} lacks {', '.join(sorted(missing))}: {way_out}")
    return summary


def write_json(path: Path, content: dict) -> None:
    """Write JSON such that a reader sees the old file or the new one, never a part."""
    write_atomic(path, (json.dumps(content, indent=2) + "\n").encode())


def write_atomic(path: Path, content: bytes) -> None:
    """Replace the file at path by content, durably: old or new after a crash, never a part.

    Raises OSError; the temporary file is removed and the old content remains.
    """
    with written(path, "wb") as file:
        file.write(content)


@contextmanager
def written(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A file that is written piece by piece, text in UTF-8, and durably takes its name at the end.

    Raises OSError. After any error the temporary file is removed and the old content remains.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    try:
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # makes the new name itself survive a power cut
    finally:
        os.close(folder)
