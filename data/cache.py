"""Frames made once and kept on disk: one .npy file per set of parameters, mapped into memory.

The file is numpy's own format with counts behind it, and the CRC-32 of all before.
Whatever does not match it is made again, so nothing waits for the disk when it is written: what a
crash of the machine loses is noticed. A file gets its name only when it is whole, so several
processes may make the same one at once: the last to finish replaces what is equal. What a killed
run leaves in a folder .making-* is removed by the next.
Shapes: n samples of frames [T, P, H, W]. Source of the format: numpy.lib.format, version 1.0.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from tqdm import tqdm

from ..errors import DataError
from .making import making, remove_abandoned

DTYPES = (np.uint8, np.float16, np.float32)  # the first that holds every frame exactly is taken
CHUNK = 1 << 22  # bytes read at once for the checksum
BUFFER = 1 << 18  # bytes written at once, if single frames are smaller
CRC = 4  # bytes
COUNTS = 2  # numbers that are kept with the frames, int64, if nothing else is asked


def stamp(path: str | Path) -> tuple[int, int, int]:
    """What of a file changes with its content, without reading it: bytes, time of change, and the
    time at which the system noted one, which `cp -p`, rsync and tar cannot keep. So of a copied
    data set frames are made anew."""
    state = os.stat(path)
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns


def cached_frames(
    key: dict,
    make: Callable[[int], np.ndarray],
    n: int,
    folder: str | Path | None,
    progress: str | None = None,
    counts: np.ndarray | None = None,
) -> np.ndarray:
    """Frames of `n` samples, [n, T, P, H, W], read-only: uint8 if all are whole numbers up to 255,
    else float16 if that is exact, else float32.

    `key`: every parameter the frames depend on, in JSON's types. `make(i)`: frames of sample i, the
    same shape for all and the same at every call. `folder`: where the file is kept (made if
    missing), None: in memory only. `progress`: words beside a progress bar, None: no bar. `counts`:
    int64 (m,), to which `make` adds what it likes; kept with the frames, and read with them.
    Errors: DataError if n is 0, shapes differ, or the disk fails; whatever `make` raises.
    """
    if n < 1:
        raise DataError("there is no sample to make frames of")
    counts = np.zeros(COUNTS, np.int64) if counts is None else counts
    samples = tqdm(range(n), desc=progress, disable=progress is None, leave=False)
    if folder is None:
        return _in_memory(make, samples)
    text = json.dumps(key, sort_keys=True, separators=(",", ":"))
    path = Path(folder) / f"{hashlib.sha256(text.encode()).hexdigest()}.npy"
    if (frames := _opened(path, n, counts)) is not None:
        remove_abandoned(folder)
        return frames
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with making(folder) as place:
            os.replace(_written(place / "frames", make, samples, counts), path)
        return np.load(path, mmap_mode="r")
    except OSError as error:
        raise DataError(
            f"cannot keep the frames in {folder} ({error}): make room, or give --cache false"
        ) from error


def _in_memory(make: Callable[[int], np.ndarray], samples: tqdm) -> np.ndarray:
    """The frames of all samples, never on disk."""
    parts = []
    for i in samples:
        frames = np.asarray(make(i))
        _check_shape(frames, parts[0].shape if parts else frames.shape, i)
        parts.append(next(part for d in DTYPES if (part := _as(frames, d)) is not None))
    whole = np.stack(parts)
    whole.flags.writeable = False
    return whole


def _check_shape(frames: np.ndarray, shape: tuple, i: int) -> None:
    """DataError unless the frames of sample `i` have this shape."""
    if frames.shape != shape:
        raise DataError(f"frames of sample {i} have shape {frames.shape}, those before {shape}")


def _as(frames: np.ndarray, dtype: type) -> np.ndarray | None:
    """The frames in `dtype`; None if it does not hold them exactly (float32 is always taken)."""
    if frames.dtype == dtype:
        return frames
    if dtype is np.uint8 and frames.dtype == np.float32:
        from .narrow import as_bytes  # brings numba, so only here

        return as_bytes(frames)
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is found below
        narrow = frames.astype(dtype)
    return narrow if dtype is DTYPES[-1] or np.array_equal(narrow, frames) else None


def _opened(path: Path, n: int, counts: np.ndarray) -> np.ndarray | None:
    """The mapped frames of `n` samples, and their `counts`; None if there is no whole file."""
    try:
        with open(path, "rb") as file:
            crc = _crc(file, path.stat().st_size - CRC)
            if file.read() != crc:
                return None
            file.seek(-CRC - counts.nbytes, os.SEEK_END)
            kept = np.frombuffer(file.read(counts.nbytes), np.int64)
        frames = np.load(path, mmap_mode="r")
    except (OSError, ValueError):
        return None
    if len(frames) != n:
        return None
    counts[:] = kept
    return frames


def _crc(file: BinaryIO, length: int) -> bytes:
    """CRC-32 of the next `length` bytes of the file."""
    crc = 0
    while length > 0 and (piece := file.read(min(CHUNK, length))):
        crc, length = zlib.crc32(piece, crc), length - len(piece)
    return crc.to_bytes(CRC, "little")


def _written(
    path: Path, make: Callable[[int], np.ndarray], samples: tqdm, counts: np.ndarray
) -> Path:
    """`path`, after the whole file is there. A dtype that turns out too small costs a new start:
    nearly always at the first sample."""
    for dtype in DTYPES:
        counts[:] = 0
        with open(path, "wb", BUFFER) as file:
            summed = _Summed(file)
            if not _fill(summed, make, samples, dtype):
                continue
            summed.write(counts.tobytes())
            file.write(summed.crc.to_bytes(CRC, "little"))
            break
    return path


class _Summed:
    """A file for writing that knows the CRC-32 of all that was written."""

    def __init__(self, file: BinaryIO):
        self.file, self.crc = file, 0

    def write(self, data: bytes | memoryview) -> int:
        self.crc = zlib.crc32(data, self.crc)
        return self.file.write(data)


def _fill(file: _Summed, make: Callable[[int], np.ndarray], samples: tqdm, dtype: type) -> bool:
    """Whether all frames fit `dtype`; then they are in the file. Plain writing: on a full disk it
    raises, where a memory map would kill the process."""
    shape: tuple = ()
    for i in samples:
        frames = np.asarray(make(i))
        shape = shape or frames.shape
        _check_shape(frames, shape, i)
        if (narrow := _as(frames, dtype)) is None:
            return False
        if i == 0:
            header = np.lib.format.header_data_from_array_1_0(narrow)
            header["shape"], header["fortran_order"] = (len(samples), *shape), False
            np.lib.format.write_array_header_1_0(file, header)  # type: ignore
        file.write(np.ascontiguousarray(narrow).data)
    return True
