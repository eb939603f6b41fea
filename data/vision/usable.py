"""Recordings and images that can be used, for runs that leave out bad ones and say how many."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...errors import DataError, EventFormatError
from ..cache import cached_frames
from .images import StaticImages
from .loader import Framing, framed
from .sets import RecordingSet


def usable_recordings(
    recordings: RecordingSet, framing: Framing, folder: str | Path | None
) -> tuple[RecordingSet, list[str]]:
    """(the recordings whose files can be read and of which frames hold something, a line that says
    how many are left out, if any are). All files are read, once where `folder` keeps what was
    found. Errors: DataError if none is left."""

    def try_it(i: int) -> None:
        framed(recordings[i][0], recordings.size, framing, recordings.identities[i])

    key = framing._asdict() | {"of": "usable recordings", "source": recordings.fingerprint()}
    good, said = _good(try_it, len(recordings), key, folder, "recordings")
    return (recordings.subset(good) if said else recordings), said


def usable_images(
    images: StaticImages, folder: str | Path | None
) -> tuple[StaticImages, list[str]]:
    """The same of images."""
    key = {"of": "usable images", "source": images.fingerprint()}
    good, said = _good(images.pixels, len(images), key, folder, "images")
    return (images.subset(good) if said else images), said


def _good(
    try_it: Callable[[int], object], n: int, key: dict, folder: str | Path | None, what: str
) -> tuple[np.ndarray, list[str]]:
    """Which of `n` samples `try_it` does not complain about, int64 (m,), and what it says."""

    def why(i: int) -> str:
        try:
            try_it(i)
        except (DataError, EventFormatError) as error:
            return str(error)
        return ""

    works_n1 = cached_frames(key, lambda i: np.array([not why(i)], np.uint8), n, folder)
    good, bad = (np.flatnonzero(works_n1[:, 0] == works) for works in (1, 0))
    if not len(bad):
        return good, []
    reason = why(int(bad[0]))
    if not len(good):
        raise DataError(f"none of the {n} {what} can be used, the first because of this: {reason}")
    return good, [f"left out {len(bad)} of {n} {what} that cannot be used; the first: {reason}"]
