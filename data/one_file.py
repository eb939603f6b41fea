"""What one file holds, where its ending does not say it: a set has classes, one sample has none.

one_sample("drive.h5")  # "recording"; of a file of clips ""
"""

import zipfile
from collections.abc import Iterable
from pathlib import Path

from .audio.sets import HDF5_ENDINGS
from .audio.spike_files import NPZ_ENDING, TEXT_ENDINGS
from .audio.wave_files import ENDINGS as WAVES
from .heaps import open_file
from .text import CLIP, RECORDING, holds_rows
from .vision.formats import ENDINGS as RECORDINGS


def one_sample(path: str | Path) -> str:
    """What the file at `path` is the only sample of: "recording", "clip" or "audio file"; "" if it
    is a set or a table, is not there, or cannot be read, which its reader will say."""
    path = Path(path).expanduser()
    ending = path.suffix.lower()
    if not path.is_file():
        return ""
    if ending in WAVES:
        return "audio file"
    if ending in TEXT_ENDINGS and holds_rows(path, CLIP):
        return "clip"
    looks = {NPZ_ENDING: _npz, ".csv": _csv, **dict.fromkeys(HDF5_ENDINGS, _hdf5)}
    if ending in RECORDINGS and (ending not in looks or looks[ending](path)):
        return "recording"
    return ""


def _csv(path: Path) -> bool:
    return holds_rows(path, RECORDING)


def _npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
    except Exception:  # zipfile has no common error for what is damaged
        return False
    return len(names) == 1 or _has_events(name.removesuffix(".npy") for name in names)


def _hdf5(path: Path) -> bool:
    try:
        with open_file(str(path)) as file:
            names = [*file]
    except Exception:  # nor has h5py
        return False
    return "spikes" not in names and (bool({"events", "CD"} & {*names}) or _has_events(names))


def _has_events(names: Iterable[str]) -> bool:
    """Whether names are those of the columns of events, perhaps among others."""
    lower = [name.lower() for name in names]
    return all(sum(name in known for name in lower) == 1 for known in RECORDING.values())
