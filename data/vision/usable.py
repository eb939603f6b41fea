"""Recordings and images that can be used, for runs that leave out bad ones and say how many."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...errors import DataError, EventFormatError
from ..cache import cached_frames
from ..coverage import left_out, none_left
from .framing import Framing, framed
from .images import StaticImages
from .loader import VERSION
from .sets import RecordingSet


def usable_recordings(
    recordings: RecordingSet, framing: Framing, folder: str | Path | None
) -> tuple[RecordingSet, list[str]]:
    """(the recordings whose files can be read and of which frames hold something, a line that says
    how many are left out, if any are). All files are read, once where `folder` keeps what was
    found. Errors: DataError if none is left."""

    def try_it(i: int) -> None:
        framed(recordings.read(i), recordings.size, framing, recordings.identities[i])

    key = framing._asdict() | {"of": "usable recordings", "sensor": list(recordings.size)}
    good, said = _good(try_it, recordings, key, folder, "recordings")
    return (recordings.subset(good) if said else recordings), said


def usable_images(
    images: StaticImages, folder: str | Path | None
) -> tuple[StaticImages, list[str]]:
    """The same of images."""
    good, said = _good(images.pixels, images, {"of": "usable images"}, folder, "images")
    return (images.subset(good) if said else images), said


def _good(
    try_it: Callable[[int], object],
    samples: RecordingSet | StaticImages,
    key: dict,
    folder: str | Path | None,
    what: str,
) -> tuple[np.ndarray, list[str]]:
    """Which of the samples `try_it` does not complain about, int64 (m,), and what it says."""
    n, labels, classes = len(samples), samples.labels, samples.classes
    key |= {"source": samples.fingerprint(), "version": VERSION}

    def why(i: int) -> str:
        try:
            try_it(i)
        except (DataError, EventFormatError) as error:
            if isinstance(error.__cause__, ImportError):  # of all of them, and easily mended
                raise
            return str(error)
        return ""

    tried: dict[int, str] = {}

    def works(i: int) -> np.ndarray:
        tried[i] = why(i)
        return np.array([not tried[i]], np.uint8)

    # what was good stays so; what was bad in an earlier run is tried again: a disk or a package may
    # have been mended
    works_n1 = cached_frames(key, works, n, folder)
    failed = np.flatnonzero(works_n1[:, 0] == 0).tolist()
    bad = {i: text for i in failed if (text := tried[i] if i in tried else why(i))}
    good = np.setdiff1d(np.arange(n), list(bad))
    if not bad:
        return good, []
    reason = next(iter(bad.values()))
    if not len(good):
        raise DataError(none_left(n, what, reason))
    said = [left_out(len(bad), n, what, reason)]
    for label in np.setdiff1d(labels, labels[good]).tolist():
        said.append(f"no usable sample of class {classes[label]} is left")
    return good, said
