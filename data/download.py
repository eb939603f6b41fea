"""Fetching a named data set, through tonic."""

import importlib
from pathlib import Path

from ..errors import DataError


def fetch(folder: Path, tonic_class: str, options: dict, url: str) -> None:
    """Fetches the set `tonic_class` of tonic.datasets, made with `options`, into a folder of that
    name under `folder`. `url`: where a user finds it. Errors: DataError with the reason."""
    tonic_sets = importlib.import_module("tonic.datasets")  # slow to import, so only here
    try:
        folder.mkdir(parents=True, exist_ok=True)
        getattr(tonic_sets, tonic_class)(save_to=str(folder), **options)
    except Exception as error:  # network, disk, checksum: tonic has no common error class
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"downloading {tonic_class} to {folder} failed ({reason}): "
            f"try again, or fetch it by hand from {url}"
        ) from error
