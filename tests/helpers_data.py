"""Small files in SHD's exact layout, written with h5py alone (not with our own writer)."""

from pathlib import Path

import h5py
import numpy as np

CLASSES = ["null", "eins", "fünf"]


def clips_s(n_clips: int, seed: int = 0, longest_s: float = 0.5) -> tuple[list, list]:
    """Sorted float16 seconds and uint16 units of clips with 20 to 59 events."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(20, 60, n_clips)
    times = [np.sort(rng.uniform(0, longest_s, n)).astype(np.float16) for n in sizes]
    return times, [rng.integers(0, 700, n).astype(np.uint16) for n in sizes]


def write_file(path: Path, times, units, labels=None, speakers=None, classes=CLASSES, **layout):
    """Writes the HDF5 file; `layout` goes to create_dataset (chunks, compression, ...)."""
    n = len(times)
    with h5py.File(path, "w") as file:
        for name, rows, dtype in (("times", times, np.float16), ("units", units, np.uint16)):
            kind = h5py.vlen_dtype(dtype)
            data = file.create_dataset(f"spikes/{name}", (n,), kind, **layout)
            for i, row in enumerate(rows):
                data[i] = row
        file["labels"] = np.asarray(np.arange(n) % 3 if labels is None else labels, np.uint16)
        file["extra/keys"] = np.array([name.encode() for name in classes])
        if speakers is not None:
            file["extra/speaker"] = np.asarray(speakers, np.uint16)
    return path


def small_file(path: Path, n_clips: int = 12, seed: int = 0, **rest) -> Path:
    """A valid file of random clips."""
    return write_file(path, *clips_s(n_clips, seed), **rest)
