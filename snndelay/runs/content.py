"""What the files of a run's data hold, as one hash, wherever they lie."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..data.folders import below, walk
from ..data.found import sha256_of
from ..errors import DataError
from .session import Job

LARGE, PIECE = 1 << 16, 1 << 14  # bytes; of large files among many, three pieces are read


def content_of(job: Job) -> str:
    """SHA-256 of the files that a job's samples come from, hexadecimal: of a single file all of it,
    of many their names below their folder, sizes and, of those above LARGE bytes, beginning, middle
    and end. Errors: DataError if one cannot be read."""
    whole = hashlib.sha256()
    try:
        for folder, paths in _sources(job):
            for path in paths:
                alone = path == folder
                name = "" if alone else below(folder, path)
                whole.update(f"{name} {path.stat().st_size}".encode())
                whole.update(bytes.fromhex(sha256_of(path)) if alone else _sample(path))
    except OSError as error:
        raise DataError(f"cannot read {error.filename} ({error.strerror})") from None
    return whole.hexdigest()


def _sources(job: Any) -> Iterator[tuple[Path, Iterable[Path]]]:
    """(folder, files in it), or (file, it alone)."""
    frames, data = getattr(job.settings, "frames", None), job.settings.data
    transfer = getattr(job.settings, "transfer", None)
    named = (data.dataset, getattr(frames, "test_file", None), getattr(transfer, "static", None))
    for name in named:
        path = Path(name).expanduser() if name else Path()
        if name and path.is_file():
            yield path, [path]
        elif name and path.is_dir():
            yield path, [Path(entry.path) for entry in walk(path)]
    recordings = getattr(job, "recordings", None)  # of a named set, below --root
    if recordings is not None and recordings.folder and not os.path.exists(data.dataset):
        folder = Path(recordings.folder)
        yield folder, [folder / file for file in recordings.names]
    sources = (getattr(job, part, None) for part in ("train", "valid", "test"))
    files = {getattr(getattr(part, "source", None), "path", None) for part in sources}
    for file in sorted(files - {None, *(str(Path(n).expanduser()) for n in named if n)}):
        yield Path(file), [Path(file)]


def _sample(path: Path) -> bytes:
    size = path.stat().st_size
    if size <= LARGE:
        return hashlib.sha256(path.read_bytes()).digest()
    with path.open("rb", buffering=0) as file:
        parts = []
        for at in np.linspace(0, size - PIECE, 3).astype(int).tolist():
            file.seek(at)
            parts.append(file.read(PIECE))
    return hashlib.sha256(b"".join(parts)).digest()
