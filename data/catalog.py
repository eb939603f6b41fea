"""Every data set by name: the only file that knows all readers.

To add one, write its function in `audio/sets.py` or `vision/sets.py` and its row here.
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError, alternatives, nearest
from .archives import SPEECH_COMMANDS
from .audio import sets as audio
from .audio import speech_commands as gsc
from .audio.paths import FILE_ENDINGS, Openers, form_of, open_path
from .audio.sets import ClipSet
from .audio.shd import AS_STORED, Reading
from .audio.waves import WaveSet
from .folders import SPLITS
from .tasks import memory
from .tasks.al import open_al
from .tasks.drift import open_drift
from .tasks.localisation import open_localisation
from .tasks.memory import MemoryTask
from .tasks.polychrony import open_polychrony
from .vision import folder as vision_folder
from .vision import sets as vision
from .vision.formats import ENDINGS as RECORDINGS
from .vision.images import StaticImages, find_images
from .vision.sets import RecordingSet

ROOT = "~/.cache/snndelay"  # where data sets lie unless the caller says otherwise


class Entry(NamedTuple):
    """One data set. `kind`: "audio", "vision" or "memory". `open`: (root, split, download) ->
    ClipSet, (root, download) -> RecordingSet, () -> MemoryTask, or (root, download) -> the folder
    that `audio.paths` opens, where `is_folder`. `size`: of the download, roughly. `classes`: how
    many. `layout`: its files under the root, or what makes it. `protocol`: what trains and what
    tests. `archives`: its folder among those of ARCHIVES. `options`: those without which it does
    not train. `has_valid`: whether a validation file is in it. `angles`: whether the classes are
    directions, named in degrees."""

    kind: str
    open: Callable[..., Any]
    title: str
    licence: str
    size: str
    url: str
    classes: int = 0
    layout: str = ""
    protocol: str = ""
    archives: str = ""
    options: str = ""
    has_valid: bool = False
    angles: bool = False
    is_folder: bool = False

    def command(self, name: str) -> str:
        """The line that trains on this set, whose name is `name`."""
        words = ["python train.py", name, self.options, "--download" * bool(self.archives)]
        return " ".join(word for word in words if word)


DATASETS = {
    "spoken-digits": Entry(
        "audio", audio.open_spoken_digits, "synthetic spoken digits, 20 classes",
        "Apache-2.0", "no download", "https://github.com/espeak-ng/espeak-ng",
        20, "inside the package",
        "voices of the test clips train nothing; valid: whole voices",
    ),
    "shd": Entry(
        "audio", audio.open_shd, "Spiking Heidelberg Digits, 20 classes",
        "CC BY 4.0", "0.2 GB", audio.URL,
        20, "SHD/shd_{train,test}.h5",
        "official parts; valid: whole speakers of training", archives="SHD",
    ),
    "ssc": Entry(
        "audio", audio.open_ssc, "Spiking Speech Commands, 35 classes",
        "CC BY 4.0", "1.2 GB", audio.URL,
        35, "SSC/ssc_{train,valid,test}.h5",
        "official parts", archives="SSC", has_valid=True,
    ),
    "gsc": Entry(
        "audio", gsc.find_archive, "Google Speech Commands v2, 35 words, log-mel frames",
        "CC BY 4.0", "2.3 GB", gsc.URL,
        35, "speech_commands_v0.02/<word>/<speaker>_nohash_<n>.wav",
        "official lists", archives=SPEECH_COMMANDS, is_folder=True,
    ),
    "dvs": Entry(
        "vision", vision.open_dvs, "scanned digits, recordings simulated",
        "CC BY 4.0", "no download", "https://doi.org/10.24432/C50P49",
        10, "simulated from scikit-learn's scanned digits",
        "by image: 30 % test, 20 recordings train",
    ),
    "nmnist": Entry(
        "vision", vision.open_nmnist, "N-MNIST, 10 digits, 34 x 34",
        "CC BY-SA 4.0", "1.2 GB", vision.NMNIST.url,
        10, "NMNIST/{Train,Test}/<digit>/<id>.bin",
        "official parts, by image", archives="NMNIST",
        options="--static IMAGES",
    ),
    "ncaltech101": Entry(
        "vision", vision.open_ncaltech101, "N-Caltech101, 101 classes, 180 x 240",
        "see its page", "4 GB", vision.NCALTECH101.url,
        101, "NCALTECH101/Caltech101/<class>/image_NNNN.bin",
        "10 % of each class test, by image", archives="NCALTECH101",
        options="--static IMAGES",
    ),
    "cifar10dvs": Entry(
        "vision", vision.open_cifar10dvs, "CIFAR10-DVS, 10 classes, 128 x 128",
        "see its page", "7 GB", vision.CIFAR10DVS.url,
        10, "CIFAR10DVS/<class>/<recording>.aedat4",
        "the last 10 % of each class test, in file order", archives="CIFAR10DVS",
    ),
    "dvsgesture": Entry(
        "vision", vision.open_dvsgesture, "DVS128-Gesture, 11 classes, 128 x 128",
        "CC BY 4.0", "3 GB", vision.GESTURE.url,
        11, "DVSGesture/ibmGesture{Train,Test}/user*_*/<label>.npy",
        "official parts, users of their own", archives="DVSGesture",
    ),
    "polychrony": Entry(
        "audio", open_polychrony, "generated: the order of firing, 10 classes",
        "Apache-2.0", "no download", "https://doi.org/10.1162/089976606775093882",
        10, "generated",
        "800 clips train, 800 others test",
    ),
    "localisation": Entry(
        "audio", open_localisation, "generated: directions of a tone, 12 classes",
        "Apache-2.0", "no download", "https://doi.org/10.1037/h0061495",
        12, "generated",
        "1,200 clips train, 600 others test", angles=True,
    ),
    "al": Entry(
        "audio", open_al, "generated: which ear was hit first, 2 classes",
        "Apache-2.0", "no download", "https://doi.org/10.1037/h0061495",
        2, "generated",
        "1,000 clips train, 500 others test",
    ),
    "drift": Entry(
        "vision", open_drift, "generated: moving digits, 16 motions, 34 x 34",
        "CC BY 4.0", "no download", "https://doi.org/10.24432/C50P49",
        16, "generated",
        "by image: a quarter tests",
    ),
    "n-parity": Entry(
        "memory", memory.open_n_parity, "parity of the last N bits",
        "Apache-2.0", "no download", memory.URL,
        2, "drawn for every batch",
        "bits of streams of their own test",
    ),
    "n-dms": Entry(
        "memory", memory.open_n_dms, "is the N-th last bit as the last",
        "Apache-2.0", "no download", memory.URL,
        2, "drawn for every batch",
        "bits of streams of their own test",
    ),
}  # fmt: skip


def kind_of(dataset: str) -> str:
    """What a run on `dataset` is about: the kind of that name; else "audio" for a file of clips or
    a folder of audio files or of text files of spikes, and "vision" for another folder. Errors:
    DataError with the nearest name, if a folder holds both, or for a file of one sample."""
    if dataset in DATASETS:
        return DATASETS[dataset].kind
    if vision_folder.lists_recordings(dataset):
        return "vision"
    if form_of(dataset):
        return "audio"
    path = Path(dataset).expanduser()
    if path.is_dir():
        return "vision"
    raise _unknown(dataset, f"data set, folder or file ({', '.join(FILE_ENDINGS)})", DATASETS)


def open_clips(
    name_or_path: str,
    root: str = ROOT,
    split: str = "train",
    download: bool = False,
    test_file: str | None = None,
    reading: Reading = AS_STORED,
) -> ClipSet | WaveSet:
    """The clips of one split, "train", "valid" or "test". `name_or_path`: a name of kind audio,
    looked for under `root`, or a file or folder as `audio.paths` reads it, whose test split is
    `test_file` if it has none. `reading`: how files are read. Errors: DataError (unknown name,
    missing file or split), EventFormatError (damaged file)."""
    if split not in SPLITS:
        raise DataError(f"there is no split {split!r}: use train, valid or test")
    if split == "test" and test_file is not None:
        splits = _splits_at(test_file, reading)
        return splits.get(split, next(iter(splits.values())))()
    splits = open_splits(name_or_path, root, download, reading)
    if split not in splits:
        hint = "; give test_file" * (split == "test")
        raise DataError(f"{name_or_path} has no {split} split but {alternatives([*splits])}{hint}")
    return splits[split]()


def open_splits(
    name_or_path: str, root: str = ROOT, download: bool = False, reading: Reading = AS_STORED
) -> Openers:
    """The splits that a data set of clips has of its own, each opened when it is asked for; what is
    said of `open_clips` is true of them. A folder is walked once for all."""
    if (entry := _names("audio").get(name_or_path)) is None:
        return _splits_at(name_or_path, reading)
    if entry.is_folder:
        return _splits_at(entry.open(root, download), reading)
    splits = [split for split in SPLITS if split != "valid" or entry.has_valid]
    return {split: partial(_named, entry, root, split, download, reading) for split in splits}


def _named(entry: Entry, root: str, split: str, download: bool, reading: Reading) -> ClipSet:
    return entry.open(root, split, download).read_as(reading)


def _splits_at(path: str | Path, reading: Reading) -> Openers:
    if splits := open_path(path, reading):
        return splits
    raise _unknown(str(path), "data set of clips, .h5 file or folder of clips", _names("audio"))


def open_recordings(
    name_or_path: str,
    root: str = ROOT,
    download: bool = False,
    size: tuple[int, int] | None = None,
    time_unit: str | None = None,
) -> RecordingSet:
    """All recordings of a set. `name_or_path`: a name of kind vision, looked for under `root`, or
    any folder as `vision.folder.open_folder` reads it, or CSV file as `open_table` there, with
    `size`: (height, width) of its sensor, and `time_unit`: of times of which no format says it.
    Errors: DataError that says what was looked for and where; EventFormatError if a file is
    damaged."""
    if name_or_path in (names := _names("vision")):
        if time_unit is not None:
            raise DataError(f"{name_or_path} has its unit of time: leave out --time-unit")
        if size is not None:
            raise DataError(f"{name_or_path} has its sensor: leave out --sensor")
        return names[name_or_path].open(root, download)
    path = Path(name_or_path).expanduser()
    if vision_folder.lists_recordings(path):
        return vision_folder.open_table(path, size, time_unit)
    if not path.is_dir():
        raise _unknown(name_or_path, "data set or folder of recordings", names)
    return vision_folder.open_folder(path, size, time_unit)


def open_task(name: str) -> MemoryTask:
    """A task by its name, one of kind memory. Errors: DataError with the nearest name."""
    if name not in (names := _names("memory")):
        raise _unknown(name, "memory task", names)
    return names[name].open()


def open_images(name_or_path: str | Path, channel: str = "v") -> StaticImages:
    """The static images of a set: "digits" (the scanned digits that `dvs` shows, nothing to
    download), or the folder or file at a path as `vision.images.find_images` reads it. `channel`:
    as in StaticImages. Errors: DataError saying what is missing or damaged."""
    if name_or_path == "digits":
        from .vision.scanned_digits import digit_images  # brings numba, so only here

        return digit_images()
    return find_images(name_or_path, channel)


def listing() -> list[str]:
    """Data sets and what else can be opened, one line each."""
    lines = ["data sets"]
    for name, entry in DATASETS.items():
        lines.append(f"  {name:15s}{entry.kind:8s}{entry.title} ({entry.licence}, {entry.size})")
    return [
        *lines,
        "  FILE.h5        audio   any file in SHD's layout (see snndelay encode audio), or .npz",
        "  FOLDER         audio   wav, flac, ogg or mp3 in class folders, or a .csv of them",
        "  FOLDER         audio   spikes <class>/<clip>.txt, a line `seconds unit` each",
        "  FOLDER         vision  recordings <class>/<recording>, in train and test or without",
        "  FILE.csv       vision  a table of recordings: file,label or file,label,split",
        f"                 recordings: {' '.join(RECORDINGS)}",
    ]


def _names(kind: str) -> dict[str, Entry]:
    return {name: entry for name, entry in DATASETS.items() if entry.kind == kind}


def _unknown(name: str, what: str, names: Iterable[str]) -> DataError:
    return DataError(f"there is no {what} {name!r}: {nearest(name.lower(), names)}")
