"""Event data of any size, the same at every run, in the layouts of SHD, N-MNIST and N-Caltech101.

Coordinates are uniform noise, times sorted: what loaders do does not depend on what is seen.
Legend: n events.
"""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

CLIP_US, RECORDING_US = 1_000_000, 300_000
RECORDINGS, EVENTS = 8709, 114_800  # of N-Caltech101: how many, and in each on average
CLASSES = 101


def write_clips(path: Path, n_clips: int, n: int) -> int:
    """A file in SHD's layout with its own types, `n` events in each clip. Returns all events."""
    rng = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        times = file.create_dataset("spikes/times", (n_clips,), h5py.vlen_dtype(np.float16))
        units = file.create_dataset("spikes/units", (n_clips,), h5py.vlen_dtype(np.uint16))
        for i in range(n_clips):
            times[i] = np.sort(rng.random(n) * (CLIP_US / 1e6 - 0.001)).astype(np.float16)
            units[i] = rng.integers(0, 700, n).astype(np.uint16)
        file["labels"] = np.arange(n_clips, dtype=np.uint16) % 20
        file["extra/keys"] = np.array([f"word {i}".encode() for i in range(20)])
        file["extra/speaker"] = np.arange(n_clips, dtype=np.uint16) % 10
    return n_clips * n


def write_nmnist(folder: Path, recordings: int, n: int) -> int:
    """Train/<digit>/<id>.bin, 34 x 34, `n` events in each. Returns all events."""
    made = _recordings([n] * recordings, (34, 34))
    for i, raw in enumerate(made):
        _write(folder / "Train" / str(i % 10) / f"{i + 1:05d}.bin", raw)
    return recordings * n


def write_ncaltech101(folder: Path, recordings: int) -> int:
    """Caltech101/<class>/image_NNNN.bin, 180 x 240, EVENTS in each on average, as unequal as there.
    Returns all events."""
    spread = 0.4  # of the logarithm
    draws = np.random.default_rng(1).standard_normal(recordings)
    sizes = (EVENTS * np.exp(spread * draws - spread**2 / 2)).astype(np.int64)
    for i, raw in enumerate(_recordings(sizes.tolist(), (180, 240))):
        name = f"image_{i // CLASSES + 1:04d}.bin"
        _write(folder / "Caltech101" / f"class {i % CLASSES:03d}" / name, raw)
    return int(sizes.sum())


def _write(path: Path, raw: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)


def _recordings(sizes: list[int], sensor: tuple[int, int]) -> Iterator[bytes]:
    """Files of 5-byte records. The first and the last pixel fire first: tonic moves the smallest x
    and y of a recording to 0."""
    rng = np.random.default_rng(2)
    H, W = sensor
    pool = np.stack([rng.integers(0, end, 2**21) for end in (W, H, 2)], 1)
    for n in sizes:
        start = int(rng.integers(0, len(pool) - n))
        t_us = np.cumsum(rng.integers(0, 16, n))
        t_us = t_us * (RECORDING_US - 1) // max(int(t_us[-1]), 1)
        record = np.empty((n, 5), np.uint8)
        x, y, p = pool[start : start + n].T
        record[:, 0], record[:, 1], record[:, 2] = x, y, p << 7 | t_us >> 16
        record[:, 3], record[:, 4] = t_us >> 8 & 255, t_us & 255
        record[:2, :2] = [[0, 0], [W - 1, H - 1]]
        yield record.tobytes()
