"""Audio files as they lie on disk: class folders -> what is listed, and one file's waveform.

    folder/yes/*.wav  folder/no/*.flac       one folder per class, its name is the class; or such
    folder/train/yes/*.wav  folder/test/...  trees in train, test and perhaps valid

Whatever libsndfile reads, by the endings of ENDINGS.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import soundfile

from ...errors import DataError, alternatives
from ..folders import Files, class_files, split_files
from ..tables import Listed

ENDINGS = (".wav", ".flac", ".ogg", ".mp3")
KINDS = alternatives([ending[1:] for ending in ENDINGS])
RATES_HZ = (1000, 400_000)  # another sampling rate is a damaged number
NAMED = 5  # bad files that a sentence names
LONGEST_MS = 24 * 3.6e6  # of a file that is cut into windows: more is a damaged header


def find_clips(folder: Path, files: Files | None = None) -> list[Listed]:
    """The audio files of a folder, by their splits. `files`: what `class_files` found there, with
    halves. Errors: DataError if there are none."""
    if files is None:
        files = class_files(folder, ENDINGS, deep=True, halves=True)
    if not files:
        raise DataError(f"{folder} holds no class folders with {KINDS} files: see --csv")
    return [
        Listed(path.relative_to(folder).as_posix(), label, None, split)
        for split, part in split_files(folder, files, deep=True).items()
        for label, path in part
    ]


def speaker_numbers(clips: Iterable[Listed]) -> list[int] | None:
    """A number for every clip's speaker, its own where all are numbers; None if one is unknown."""
    found = [clip.speaker for clip in clips]
    names = [name for name in found if name is not None]
    if len(names) < len(found):
        return None
    short = all(name.isascii() and name.isdigit() and len(name) < 9 for name in names)
    if short and all(int(name) < 2**16 for name in names):
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
        # its own way from a name to bytes refuses names that are no UTF-8
        file = soundfile.SoundFile(path if os.name == "nt" else os.fsencode(path))
    except (soundfile.LibsndfileError, ValueError, TypeError, OSError) as error:
        raise _unreadable(path, error) from error
    if (lost := _lost_bytes(path)) > 1:  # some leave out the byte that makes a chunk even
        file.close()
        raise DataError(f"{path} is cut off: {lost} bytes of it are missing")
    if RATES_HZ[0] <= file.samplerate <= RATES_HZ[1]:
        return file
    rate = file.samplerate
    file.close()
    raise DataError(f"{path} says that its rate is {rate} Hz: its header is damaged")


def _lost_bytes(path: Path) -> int:
    """How many bytes a wav file lacks of those that it says it has; libsndfile reads what is there.
    What is written to a pipe says nearly 2^31 or 2^32."""
    with open(path, "rb") as file:
        head = file.read(8)
    says = int.from_bytes(head[4:], "little")
    known = head[:4] == b"RIFF" and says < 2**31 - 2**16
    return 8 + says - os.path.getsize(path) if known else 0


def _unreadable(path: Path, error: BaseException) -> DataError:
    reason = " ".join(str(getattr(error, "error_string", error)).split())
    return DataError(f"{path} cannot be read as audio ({reason})")
