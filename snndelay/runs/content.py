"""What the files of a run's data hold, as one hash, wherever they lie."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..data.catalog import DATASETS
from ..data.folders import below, walk
from ..data.found import sha256_of
from ..data.names import as_bytes
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
                whole.update(as_bytes(f"{name} {path.stat().st_size}"))
                whole.update(bytes.fromhex(sha256_of(path)) if alone else _sample(path))
    except OSError as error:
        raise DataError(f"cannot read {error.filename} ({error.strerror})") from None
    return whole.hexdigest()


def _sources(job: Any) -> Iterator[tuple[Path, Iterable[Path]]]:
    """(folder, files in it), or (file, it alone): of recordings and images those that are used, of
    clips what lies where the settings say."""
    frames, named = getattr(job.settings, "frames", None), []
    recordings, images = getattr(job, "recordings", None), getattr(job, "images", None)
    if recordings is None or recordings.folder is None:
        named += [job.settings.data.dataset, getattr(frames, "test_file", None)]
    else:
        folder = Path(recordings.folder)
        yield folder, [folder / name for name in recordings.names]
    if images is not None and isinstance(images.source, np.ndarray):
        named.append(job.settings.transfer.static)
    elif images is not None:
        folder = Path(os.path.commonpath(images.source))
        yield folder, images.source
    named = [name for name in named if name and name not in DATASETS]
    for path in (Path(name).expanduser() for name in named):
        if path.is_file():
            yield path, [path]
        elif path.is_dir():
            yield path, [Path(entry.path) for entry in walk(path)]
    parts = (getattr(job, part, None) for part in ("train", "valid", "test"))
    files = {getattr(getattr(part, "source", None), "path", None) for part in parts}
    for file in sorted(files - {None, *(str(Path(name).expanduser()) for name in named)}):
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
