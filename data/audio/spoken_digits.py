"""The embedded data set: synthetic spoken digits, SHD's small twin, so that everything runs
without a download.

20 classes ("zero" to "nine" in English, "null" to "neun" in German), spoken by espeak-ng and heard
by our cochlea (700 units); `make_spoken_digits.py` is how. It is synthetic speech: numbers on it
say that code works and which setting is better, not how well a network hears people.
"""

from __future__ import annotations

import io
import lzma
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import DataError

FILE = Path(__file__).with_name("spoken_digits.xz")
N_UNITS = 700
SPLITS = ("train", "test")
CLASSES = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("null", "eins", "zwei", "drei", "vier", "fuenf", "sechs", "sieben", "acht", "neun"),
]


class Split(NamedTuple):
    """One split. Clip i owns the spikes offsets[i] to offsets[i + 1], ascending in time."""

    t_us: np.ndarray
    """int64 (spikes,): microseconds from the clip's start, whole milliseconds."""
    unit: np.ndarray
    """uint16 (spikes,): 0..699, 0 is the highest frequency."""
    offsets: np.ndarray
    """int64 (clips + 1,)."""
    labels: np.ndarray
    """int64 (clips,)."""
    speakers: np.ndarray
    """int64 (clips,): number of the synthetic voice; no voice is in both splits."""
    classes: list[str]


def load(split: str) -> Split:
    """The clips of "train" or "test". Errors: DataError for another name or a damaged file."""
    if split not in SPLITS:
        raise DataError(f"spoken-digits has no split {split!r}: use {' or '.join(SPLITS)}")
    return _decoded()[split]


@lru_cache(maxsize=1)
def _decoded() -> dict[str, Split]:
    try:
        return unpack(FILE.read_bytes())
    except (OSError, EOFError, ValueError, KeyError, lzma.LZMAError) as error:
        raise DataError(f"{FILE} is missing or damaged ({error}): reinstall snndelay") from error


def pack(splits: dict[str, Split], note: str) -> bytes:
    """Both splits as one xz stream. Times are cut to whole milliseconds; within a clip spikes are
    ordered by unit, then time, and a spike is the time since the last one of its unit.
    `note` is stored as text: how the data came about."""
    arrays = {"note": np.frombuffer(note.encode(), np.uint8)}
    for name, part in splits.items():
        clip = np.repeat(np.arange(len(part.labels)), np.diff(part.offsets))
        order = np.lexsort((part.t_us, part.unit, clip))
        group = (clip * N_UNITS + part.unit)[order]  # one unit of one clip
        ms = (part.t_us // 1000)[order]
        dt_ms = np.where(np.diff(group, prepend=-1) == 0, np.diff(ms, prepend=0), ms)
        counts = np.bincount(group, minlength=len(part.labels) * N_UNITS)
        arrays |= {
            f"{name}_counts": _bytes_apart(counts),
            f"{name}_dt_ms": _bytes_apart(dt_ms),
            f"{name}_labels": part.labels.astype(np.uint8),
            f"{name}_speakers": part.speakers.astype(np.uint8),
        }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    how = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0}
    return lzma.compress(buffer.getvalue(), filters=[how])


def unpack(packed: bytes) -> dict[str, Split]:
    """The inverse of `pack`, except for the times' part below a millisecond."""
    arrays = np.load(io.BytesIO(lzma.decompress(packed)))
    return {name: _unpacked(arrays, name) for name in SPLITS}


def _unpacked(arrays: dict[str, np.ndarray], name: str) -> Split:
    labels, speakers = (arrays[f"{name}_{key}"].astype(np.int64) for key in ("labels", "speakers"))
    counts = _bytes_together(arrays[f"{name}_counts"]).astype(np.int64)
    dt_ms = _bytes_together(arrays[f"{name}_dt_ms"])
    sums = np.concatenate([[0], np.cumsum(dt_ms, dtype=np.int64)])
    starts = np.concatenate([[0], np.cumsum(counts)])
    t_ms = (sums[1:] - np.repeat(sums[starts[:-1]], counts)).astype(np.uint16)
    unit = np.repeat(np.tile(np.arange(N_UNITS, dtype=np.uint16), len(labels)), counts)
    offsets = starts[::N_UNITS].copy()
    for begin, end in pairwise(offsets):
        order = np.argsort(t_ms[begin:end], kind="stable")
        t_ms[begin:end], unit[begin:end] = t_ms[begin:end][order], unit[begin:end][order]
    return Split(t_ms * np.int64(1000), unit, offsets, labels, speakers, CLASSES)


def _bytes_apart(numbers: np.ndarray) -> np.ndarray:  # all high bytes, nearly all 0, come first
    return numbers.astype(">u2").view(np.uint8).reshape(-1, 2).T.copy()


def _bytes_together(planes: np.ndarray) -> np.ndarray:
    return planes.T.copy().view(">u2").ravel()
