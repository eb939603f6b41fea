"""Samples as somebody has them: one file, or a folder of files at any depth, labelled or not.

What reads a recording is said in `vision.formats`.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import DataError
from .audio.sets import HDF5_ENDINGS, ClipSet, open_file
from .audio.shd import Reading
from .audio.spike_files import TEXT_ENDINGS
from .audio.wave_files import ENDINGS as WAVE_ENDINGS
from .events import Clips, Events
from .text import CLIP, parse_text
from .vision.formats import ENDINGS, read_events, sensor_size
from .vision.sets import RecordingSet

CLIP_ENDINGS = (*HDF5_ENDINGS, *TEXT_ENDINGS)


def find_recordings(path: str | Path, size: tuple[int, int]) -> tuple[RecordingSet, list[str]]:
    """(all recordings of a folder, or that of a file, in order of path; which files are left out).
    The class of each is called as the folder it lies in, whatever that is. `size`: (height, width)
    of their sensor. Errors: DataError if there is none."""
    folder, files, said = find_files(path, ENDINGS, "recording")
    labels = [file.parent.name for file in files]
    classes = sorted(set(labels))
    index = np.array([classes.index(label) for label in labels], np.int64)
    names = [file.relative_to(folder).as_posix() for file in files]
    read = partial(_read, files, size)
    return RecordingSet(str(path), index, classes, names, size, names, read, folder=folder), said


def find_clips(
    path: str | Path, reading: Reading, n_units: int
) -> tuple[list[tuple[str, Callable[[], ClipSet]]], list[str]]:
    """([(name, opener)] of the files of clips in a folder, or of one file; which files are left
    out). What is damaged is found when it is opened. `n_units`: of clips in text. Errors: DataError
    if there is none."""
    folder, files, said = find_files(path, CLIP_ENDINGS, "clip")
    names = [file.relative_to(folder).as_posix() for file in files]
    openers = [partial(_open, file, reading, n_units) for file in files]
    return [*zip(names, openers, strict=True)], said


def find_waves(path: str | Path) -> tuple[list[tuple[str, str, Path]], list[str]]:
    """([(name, name of the folder it lies in, path)] of the audio files in a folder, or of one;
    which files are left out). Errors: DataError if there is none."""
    folder, files, said = find_files(path, WAVE_ENDINGS, "audio file")
    return [(f.relative_to(folder).as_posix(), f.parent.name, f) for f in files], said


def one_clip(name: str, events: Events, reading: Reading, n_units: int) -> ClipSet:
    """A set of one clip, of no class, read as `reading` says but for the unit of its times."""
    if reading.time_zero == "first-event" and len(events):
        events = Events(events.t_us - events.t_us.min(), events.x)
    clips = Clips(events.t_us, events.x, np.array([0, len(events)]))
    made = ClipSet(name, clips, np.array([-1]), [], None, n_units)
    return made.read_as(reading._replace(time_unit="s", time_zero="file"))


def find_files(
    path: str | Path, endings: Collection[str], what: str
) -> tuple[Path, list[Path], list[str]]:
    """(folder, files with one of `endings` in it at any depth, or the one file; which are left
    out). Names that begin with "." or "_" and annotations are passed over; no folder is entered
    twice. Errors: DataError if there is none; `what`: the name of a sample."""
    path = Path(path).expanduser()
    wanted = ", ".join(endings)
    if not path.is_dir():
        if not path.exists():
            raise DataError(f"there is no file, folder or data set {path}")
        if path.suffix.lower() not in endings:
            raise DataError(f"{path} is no {what} by its ending: give a file of {wanted}")
        return path.parent, [path], []
    files, others = [], Counter()
    for file in _below(path):
        if file.suffix.lower() in endings and not file.name.startswith("annotation"):
            files.append(file)
        else:
            others[file.suffix.lower() or "no ending"] += 1
    if not files:
        raise DataError(f"{path} and its folders hold no {what}: no file ends in {wanted}")
    n, kinds = sum(others.values()), ", ".join(f"{k} {n}" for k, n in others.most_common(5))
    said = [f"passed over {n} files that are no {what} by their names ({kinds})"] if n else []
    return path, files, said


def _below(folder: Path) -> list[Path]:
    """All files at any depth, in order of path; a link that leads nowhere is one."""
    found, entered = [], set()

    def refuse(error: OSError) -> None:
        what = f"the folder {error.filename} cannot be read ({error.strerror})"
        raise DataError(what) from error

    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        state = os.stat(place)
        if (state.st_dev, state.st_ino) in entered:
            folders.clear()
            continue
        entered.add((state.st_dev, state.st_ino))
        folders[:] = sorted(n for n in folders if n[0] not in "._" and n != "lost+found")
        found += [Path(place, name) for name in names if name[0] not in "._"]
    return sorted(found)


def _read(files: list[Path], size: tuple[int, int], i: int) -> Events:
    path = files[i]
    if not path.is_file():  # a reader of a pipe would wait for ever
        raise DataError(f"{path} is no file that can be read")
    if (own := sensor_size(path)) not in (None, size):
        (rows, columns), (H, W) = own, size
        raise DataError(
            f"{path} is of a sensor of {rows} x {columns} pixels, not of {H} x {W}: give --sensor "
            f"{rows} {columns} for such files"
        )
    return read_events(path)


def _open(path: Path, reading: Reading, n_units: int) -> ClipSet:
    if path.suffix.lower() in HDF5_ENDINGS:
        if not path.is_file():  # HDF5 would wait for a pipe
            raise DataError(f"{path} is no file that can be read")
        return open_file(path, reading._replace(labelled=False))
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    events = parse_text(raw, str(path), CLIP, reading.time_unit)
    return one_clip(str(path), events, reading, n_units)
