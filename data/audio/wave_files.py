"""Audio files as they lie on disk: class folders or a CSV file -> what is listed, and one file's
waveform.

    folder/yes/*.wav  folder/no/*.flac       one folder per class, its name is the class; or such
    folder/train/yes/*.wav  folder/test/...  trees in train, test and perhaps valid; or
    file,label[,speaker][,split]             a CSV file with these columns, in any order

Whatever libsndfile reads, by the endings of ENDINGS.
"""

import csv as csv_files
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from ...errors import DataError, alternatives, nearest
from ..folders import class_files

ENDINGS = (".wav", ".flac", ".ogg", ".mp3")
KINDS = alternatives([ending[1:] for ending in ENDINGS])
SPLITS = {
    **{"train": "train", "training": "train", "valid": "valid", "validation": "valid"},
    **{"val": "valid", "test": "test", "testing": "test"},
}
RATES_HZ = (1000, 400_000)  # another sampling rate is a damaged number
NAMED = 5  # bad files that a sentence names
LONGEST_MS = 24 * 3.6e6  # of a file that is cut into windows: more is a damaged header


class Clip(NamedTuple):
    """One audio file: `path` within the folder, with "/"; `speaker` None where unknown; `split`:
    "train", "valid" or "test"."""

    path: str
    label: str
    speaker: str | None = None
    split: str = "train"


def find_clips(folder: Path) -> list[Clip]:
    """The audio files of a folder, as `class_files` finds them; where its folders are train and
    test, those of each. Errors: DataError if there are none."""
    clips = []
    for part, split in parts_of(folder):
        for label, path in class_files(part, ENDINGS, deep=True):
            clips.append(Clip(path.relative_to(folder).as_posix(), label, None, split))
    if not clips:
        raise DataError(f"{folder} holds no class folders with {KINDS} files: see --csv")
    return clips


def parts_of(folder: Path) -> list[tuple[Path, str]]:
    """(folder of class folders, its split): its train, valid and test if it has no other folders,
    else itself as train."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    try:
        names = sorted(place.name for place in os.scandir(folder) if place.is_dir())
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be read ({error.strerror})") from error
    names = [name for name in names if not name.startswith((".", "_"))]
    splits = [SPLITS.get(name.lower()) for name in names]
    if "train" not in splits or None in splits:
        return [(folder, "train")]
    return [(folder / name, split) for name, split in zip(names, splits, strict=True) if split]


def read_csv(folder: Path, path: Path, label: str = "label") -> list[Clip]:
    """The audio files listed in a CSV file with the columns file, the one called `label`, and
    perhaps speaker and split. Errors: DataError naming the row if a column or a file is missing."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            mark = max(",;\t", key=header.count)  # spreadsheets write semicolons in some countries
            file.seek(0)
            rows = list(csv_files.DictReader(file, delimiter=mark))
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError, csv_files.Error) as error:
        raise DataError(f"{path} cannot be read as a CSV file ({error})") from error
    if not rows or not {"file", label} <= rows[0].keys():
        columns = f"`file,{label}` or `file,{label},speaker`"
        raise DataError(f"{path} needs a first line {columns}, and rows")
    clips = []
    for line, row in enumerate(rows, start=2):
        wanted = ["file", label, *({"speaker", "split"} & row.keys())]
        found = {key: (row[key] or "").strip() for key in wanted}
        if not all(found.values()):
            raise DataError(f"{path}, row {line}: a field is empty")
        if not (folder / found["file"]).is_file():
            raise DataError(f"{path}, row {line}: there is no file {folder / found['file']}")
        split = SPLITS.get(word := found.get("split", "train").lower())
        if split is None:
            raise DataError(f"{path}, row {line}: no split {word!r}: {nearest(word, SPLITS)}")
        name = Path(found["file"]).as_posix()
        clips.append(Clip(name, found[label], found.get("speaker"), split))
    return clips


def speaker_numbers(clips: Iterable[Clip]) -> list[int] | None:
    """A number for every clip's speaker, its own where all are numbers; None if one is unknown."""
    found = [clip.speaker for clip in clips]
    names = [name for name in found if name is not None]
    if len(names) < len(found):
        return None
    if all(name.isascii() and name.isdigit() and int(name) < 2**16 for name in names):
        return [int(name) for name in names]
    number = {name: k for k, name in enumerate(sorted(set(names)))}
    return [number[name] for name in names]


def also(names: Sequence[str]) -> str:
    """The second half of a sentence on a bad file: which others are bad too."""
    if not names:
        return ""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"; likewise {', '.join(names[:NAMED])}{more}"


def duration_ms(path: Path) -> float:
    """How long an audio file says it lasts. Errors: DataError naming it."""
    with _opened(path) as file:
        length_ms = 1000 * file.frames / file.samplerate
    if length_ms > LONGEST_MS:
        raise DataError(f"{path} says that it lasts {length_ms / 3.6e6:.0f} hours: cut it")
    return length_ms


def read_wave(path: Path, start_ms: float, length_ms: float) -> tuple[np.ndarray, int, bool]:
    """(samples float64 (n,), rate in Hz, whether the file goes on) of at most `length_ms` from
    `start_ms` on, channels averaged. Errors: DataError naming the file."""
    with _opened(path) as file:
        rate = file.samplerate
        start, n = round(start_ms * rate / 1000), round(length_ms * rate / 1000)
        try:
            file.seek(min(start, file.frames))
            wave = file.read(n, dtype="float64", always_2d=True).mean(axis=1)
        except (soundfile.LibsndfileError, ValueError, MemoryError, OSError) as error:
            raise _unreadable(path, error) from error
        if not len(wave) and n:
            raise DataError(f"{path} holds no samples: it is empty or cut off")
        if not np.isfinite(wave).all():
            raise DataError(f"{path} holds samples that are not finite")
        return wave, rate, file.frames > start + n


def _opened(path: Path) -> soundfile.SoundFile:
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, ValueError, TypeError, OSError) as error:
        raise _unreadable(path, error) from error
    if RATES_HZ[0] <= file.samplerate <= RATES_HZ[1]:
        return file
    rate = file.samplerate
    file.close()
    raise DataError(f"{path} says that its rate is {rate} Hz: its header is damaged")


def _unreadable(path: Path, error: BaseException) -> DataError:
    reason = " ".join(str(getattr(error, "error_string", error)).split())
    return DataError(f"{path} cannot be read as audio ({reason})")
