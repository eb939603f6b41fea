"""Clips at a path, whatever they lie in: the readers of files and folders of this wing.

form_of("words")                # "waves", by the files that are in it
open_path("words")["test"]()    # a WaveSet or a ClipSet
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ...errors import DataError
from ..folders import Files, class_files, entries
from ..one_file import one_sample
from ..text import CLIP, holds_rows
from ..vision.formats import ENDINGS as OF_RECORDINGS
from .sets import HDF5_ENDINGS, ClipSet, open_file
from .shd import AS_STORED, Reading
from .spike_files import NPZ_ENDING, TEXT_ENDINGS, open_npz, text_splits
from .wave_files import ENDINGS
from .waves import WaveSet, open_waves

FILE_ENDINGS = (*HDF5_ENDINGS, NPZ_ENDING, ".csv")  # of a path that is no folder
RECORDINGS = tuple(ending for ending in OF_RECORDINGS if ending not in (".txt", ".csv"))
CSV = "a .csv with a first line `file,label`"
LOOKED_AT = 20  # text files of a folder, of which the first ones may be notes or damaged
Openers = dict[str, Callable[[], ClipSet | WaveSet]]  # split -> what opens its clips


def form_of(path: str | Path) -> str | None:
    """What clips lie at `path`: "file" (HDF5), "npz", "csv" (a list of audio files), or of a folder
    "waves" or "text"; None where it holds none, or is none. Errors: DataError for a folder of audio
    files and recordings alike, for no run is on both, one that cannot be read, or one sample."""
    return _looked_at(Path(path).expanduser())[0]


def open_path(path: str | Path, reading: Reading = AS_STORED) -> Openers:
    """The splits that the clips at a path have of their own, "train" at least, read when they are
    asked for; a file of HDF5 or npz is one split, whatever its name; without any if there are no
    clips. `reading`: how they are read. Errors: DataError, EventFormatError."""
    path = Path(path).expanduser()
    form, files = _looked_at(path)
    if form in ("csv", "waves"):
        label = "label" if reading.label_key == AS_STORED.label_key else reading.label_key
        sets = open_waves(path, label, files)
        return {split: partial(waves.read_as, reading) for split, waves in sets.items()}
    if form == "text":
        return {**text_splits(path, files, reading)}
    if form == "npz":
        return {"train": partial(open_npz, path, reading)}
    return {"train": partial(open_file, path, reading)} if form else {}


def _looked_at(path: Path) -> tuple[str | None, Files]:
    """(form of the clips at `path`, the files of a folder that they lie in)."""
    if not path.is_dir():
        ending = path.suffix.lower()
        if what := one_sample(path):
            raise DataError(f"{path} is one {what}: give a folder of class folders, or {CSV}")
        names = {".csv": "csv", NPZ_ENDING: "npz", **dict.fromkeys(HDF5_ENDINGS, "file")}
        return names.get(ending), []
    every = (*ENDINGS, *RECORDINGS, *TEXT_ENDINGS)
    files = class_files(path, every, deep=True, halves=True)
    waves, others, texts = (
        [file for file in files if file[1].suffix.lower() in endings]
        for endings in (ENDINGS, RECORDINGS, TEXT_ENDINGS)
    )
    if waves and others:
        a, b = (part[0][1].relative_to(path) for part in (waves, others))
        raise DataError(
            f"{path} holds {len(waves)} audio files ({a}) and {len(others)} recordings ({b}): put "
            "them into two folders, for no run is on both"
        )
    if waves:
        return "waves", waves
    if not others and any(holds_rows(file, CLIP) for _, file in texts[:LOOKED_AT]):
        return "text", texts
    names = [] if files else [entry.name for entry in entries(path)]
    if alone := next((name for name in names if Path(name).suffix.lower() in ENDINGS), None):
        raise DataError(
            f"{path} holds {alone} but no class folders: put files into <class>/, or {CSV}"
        )
    return None, []
