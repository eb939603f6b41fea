"""Samples as somebody has them: one file, or a folder of files at any depth, labelled or not.

What reads a recording is said in `vision.formats`.
"""

from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from ..errors import DataError
from .audio.sets import HDF5_ENDINGS, ClipSet, open_file
from .audio.shd import Reading
from .audio.spike_files import NPZ_ENDING, TEXT_ENDINGS, open_npz, read_bytes, text_clip
from .audio.wave_files import ENDINGS as WAVE_ENDINGS
from .folders import Files, below, numbered, walk
from .tables import first_file, paths_of, read_table
from .vision.formats import ENDINGS, is_annotation, read_of_sensor
from .vision.sets import RecordingSet

CLIP_ENDINGS = (*HDF5_ENDINGS, NPZ_ENDING, *TEXT_ENDINGS)


def find_recordings(
    path: str | Path, size: tuple[int, int], time_unit: str | None = None
) -> tuple[RecordingSet, list[str]]:
    """(all recordings of a folder, in order of path, those that a table lists, or that of a file;
    which files are left out). The class of each is what the table says, else called as the folder
    it lies in, whatever that is. `size`: (height, width) of their sensor, `time_unit`: as
    `read_of_sensor` takes them. Errors: DataError if there is none."""
    folder, found, said = _labelled(path, ENDINGS, "recording")
    files = [file for _, file in found]
    classes, index = numbered([label for label, _ in found])
    names = [below(folder, file) for file in files]
    return RecordingSet(
        str(path), index, classes, names, size, names,
        lambda i: read_of_sensor(files[i], size, time_unit), folder=folder,
    ), said  # fmt: skip


def find_clips(
    path: str | Path, reading: Reading, n_units: int
) -> tuple[list[tuple[str, Callable[[], ClipSet]]], list[str]]:
    """([(name, opener)] of the files of clips in a folder, or of one file; which files are left
    out). What is damaged is found when it is opened. `n_units`: of clips in text, whose class is
    called as their folder. Errors: DataError if there is none."""
    folder, files, said = find_files(path, CLIP_ENDINGS, "clip")
    names = [file.relative_to(folder).as_posix() for file in files]
    openers = [partial(_open, file, reading, n_units) for file in files]
    return [*zip(names, openers, strict=True)], said


def find_waves(path: str | Path) -> tuple[list[tuple[str, str, Path]], list[str]]:
    """([(name, class, path)] of the audio files in a folder, of a table or of one; which files are
    left out), with classes as of recordings. Errors: DataError if there is none."""
    folder, found, said = _labelled(path, WAVE_ENDINGS, "audio file")
    return [(below(folder, file), label, file) for label, file in found], said


def _labelled(
    path: str | Path, endings: Collection[str], what: str
) -> tuple[Path, Files, list[str]]:
    """As `find_files`, with classes, and of a table the files that it lists."""
    path = Path(path).expanduser()
    if path.suffix.lower() == ".csv" and path.is_file() and first_file(path):
        rows = read_table(path)
        labels = [row.label for row in rows]
        return path.parent, [*zip(labels, paths_of(path.parent, rows), strict=True)], []
    folder, files, said = find_files(path, endings, what)
    return folder, [(file.parent.name, file) for file in files], said


def find_files(
    path: str | Path, endings: Collection[str], what: str
) -> tuple[Path, list[Path], list[str]]:
    """(folder, files with one of `endings` in it at any depth, or the one file; which are left
    out), as `walk` finds them, without annotations. Errors: DataError if there is none; `what`:
    the name of a sample."""
    path = Path(path).expanduser()
    wanted = ", ".join(endings)
    if not path.is_dir():
        if not path.exists():
            raise DataError(f"there is no file, folder or data set {path}")
        if path.suffix.lower() not in endings:
            raise DataError(f"{path} is no {what} by its ending: give a file of {wanted}")
        return path.parent, [path], []
    files, others = [], Counter()
    for file in sorted(Path(entry.path) for entry in walk(path)):
        if file.suffix.lower() in endings and not is_annotation(file):
            files.append(file)
        else:
            others[file.suffix.lower() or "no ending"] += 1
    if not files:
        raise DataError(f"{path} and its folders hold no {what}: no file ends in {wanted}")
    n, kinds = sum(others.values()), ", ".join(f"{k} {n}" for k, n in others.most_common(5))
    said = [f"passed over {n} files that are no {what} by their names ({kinds})"] if n else []
    return path, files, said


def _open(path: Path, reading: Reading, n_units: int) -> ClipSet:
    if not path.is_file():  # HDF5 would wait for a pipe
        raise DataError(f"{path} is no file that can be read")
    if path.suffix.lower() in TEXT_ENDINGS:
        reading = reading._replace(n_units=n_units)
        return text_clip(read_bytes(path), str(path), reading, path.parent.name)
    opened = open_npz if path.suffix.lower() == NPZ_ENDING else open_file
    return opened(path, reading._replace(labelled=False))
