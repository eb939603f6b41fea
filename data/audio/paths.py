"""Clips at a path, whatever they lie in: the readers of files and folders of this wing.

form_of("words")                  # "waves", by the files that are in it
open_path("words", "test")        # a WaveSet or a ClipSet
"""

import os
from collections import Counter
from pathlib import Path

from ...errors import DataError, alternatives
from ..text import is_number
from .sets import HDF5_ENDINGS, ClipSet, open_file
from .shd import AS_STORED, Reading
from .spike_files import NPZ_ENDING, TEXT_ENDINGS, open_npz, open_text
from .wave_files import ENDINGS, parts_of
from .waves import WaveSet, open_waves

FILE_ENDINGS = (*HDF5_ENDINGS, NPZ_ENDING, ".csv")  # of a path that is no folder
# of recordings in class folders, which are of the other wing
RECORDINGS = (".bin", ".npy", ".npz", ".aedat", ".aedat4", ".raw", ".dat", ".h5", ".hdf5")
CSV = "a .csv with a first line `file,label`"
LOOKED_AT = 20  # text files of a folder, of which the first ones may be notes or damaged
SPIKE_WORDS = 2  # on a line of a text file; one of a recording has four: t x y p


def form_of(path: str | Path) -> str | None:
    """What clips lie at `path`: "file" (HDF5), "npz", "csv" (a list of audio files), or of a folder
    "waves" or "text"; None where it holds none, or is none. Errors: DataError for a folder of audio
    files and recordings alike, for no run is on both."""
    path = Path(path).expanduser()
    ending = path.suffix.lower()
    if not path.is_dir():
        if ending in ENDINGS and path.is_file():
            raise DataError(f"{path} is one audio file: give a folder of class folders, or {CSV}")
        names = {".csv": "csv", NPZ_ENDING: "npz", **dict.fromkeys(HDF5_ENDINGS, "file")}
        return names.get(ending)
    count, example = _counted(path)
    if not count and (alone := _audio_in(path)):
        raise DataError(
            f"{path} holds {alone} but no class folders: put files into <class>/, or {CSV}"
        )
    waves = [ending for ending in ENDINGS if count[ending]]
    others = [ending for ending in RECORDINGS if count[ending]]
    if waves and others:
        (a, b), n = (example[part[0]][0] for part in (waves, others)), [waves, others]
        n_waves, n_others = (sum(count[ending] for ending in part) for part in n)
        raise DataError(
            f"{path} holds {n_waves} audio files ({a}) and {n_others} recordings ({b}): put them "
            "into two folders, for no run is on both"
        )
    if waves:
        return "waves"
    texts = [ending for ending in TEXT_ENDINGS if count[ending]]
    files = [] if others else [path / name for ending in texts for name in example[ending]]
    return "text" if any(_is_spikes(file) for file in files) else None


def splits_at(path: str | Path) -> set[str]:
    """The splits that the clips at `path` have of their own: "train" at least."""
    path, form = Path(path).expanduser(), form_of(path)
    if form in ("csv", "waves"):
        return set(open_waves(path))
    return {split for _, split in parts_of(path)} if form == "text" else {"train"}


def open_path(
    path: str | Path, split: str = "train", reading: Reading = AS_STORED
) -> ClipSet | WaveSet:
    """The clips of a split at a path; a file of HDF5 or npz is one split, whatever its name.
    `reading`: how files of spikes are read. Errors: DataError, EventFormatError."""
    path, form = Path(path).expanduser(), form_of(path)
    if form in (None, "file"):
        return open_file(path, reading)  # says what is missing
    if form == "npz":
        if not path.is_file():
            raise DataError(f"there is no file {path}")
        return open_npz(path, reading)
    if form == "text":
        return open_text(path, split, reading)
    label = reading.label_key
    sets = open_waves(path, "label" if label == AS_STORED.label_key else label)
    if split not in sets:
        raise DataError(f"{path} has no {split} split but {alternatives(sorted(sets))}")
    return sets[split].read_as(reading)


def _counted(folder: Path) -> tuple[Counter[str], dict[str, list[str]]]:
    """How many files of each ending lie in the folders of `folder`, and some of each."""
    count: Counter[str] = Counter()
    example: dict[str, list[str]] = {}
    for place, folders, files in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        if Path(place) == folder:
            continue  # lists and notes
        for name in sorted(name for name in files if not name.startswith(".")):
            ending = os.path.splitext(name)[1].lower()
            count[ending] += 1
            if count[ending] <= LOOKED_AT:
                name = os.path.relpath(os.path.join(place, name), folder)
                example.setdefault(ending, []).append(name)
    return count, example


def _audio_in(folder: Path) -> str | None:
    """The first audio file of the folder itself."""
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    return next((name for name in names if Path(name).suffix.lower() in ENDINGS), None)


def _is_spikes(path: Path) -> bool:
    """Whether the first line of a text file that says something is `seconds unit`."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            for line in file:
                words = line.partition("#")[0].replace(",", " ").split()
                if words:
                    return len(words) == SPIKE_WORDS and is_number(words[0])
    except OSError:
        return False
    return False
