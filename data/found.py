"""What lies in a folder beside the files that a data set uses, and why it is not used; checksums.

lines = skipped(folder, used)  # reason -> how many, and the first
"""

import hashlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from .audio.sets import HDF5_ENDINGS
from .audio.wave_files import ENDINGS as WAVE_ENDINGS
from .folders import is_hidden, walk
from .names import as_bytes
from .vision.formats import ENDINGS, is_annotation
from .vision.images import ENDINGS as IMAGE_ENDINGS

FITS = "named as recordings are"


class Skipped(NamedTuple):
    """`n` files are not used for one `reason`; `first`: one of them, below the folder."""

    reason: str
    n: int
    first: str


def skipped(folder: Path, used: Collection[Path]) -> list[Skipped]:
    """Files under `folder` that are none of `used`, by reason; the most frequent first. Links to
    folders are followed once. Errors: none, what cannot be read is a reason."""
    known = {os.path.normpath(path) for path in used}
    suffixes = {path.suffix.lower() for path in used} or {*ENDINGS}
    rows: list[tuple[str, str]] = []  # path, and why it cannot be one of a data set

    def failed(place: str, error: OSError) -> None:
        rows.append((place, f"a folder that cannot be read ({error.strerror})"))

    for entry in walk(folder, failed=failed):
        lost = "a link to nowhere" if entry.is_symlink() else "no regular file"
        rows.append((entry.path, "" if os.path.isfile(entry.path) else lost))
    found: dict[str, tuple[int, str]] = {}
    for path, reason in rows:
        if os.path.normpath(path) in known:
            continue
        inner = Path(path).relative_to(folder)
        reason = reason or _why(inner, suffixes, not known)
        n, first = found.get(reason, (0, inner.as_posix()))
        found[reason] = n + 1, first
    kinds = [Skipped(reason, n, first) for reason, (n, first) in found.items()]
    return sorted(kinds, key=lambda row: (-row.n, row.reason))


def _why(inner: Path, suffixes: Collection[str], nothing: bool) -> str:
    """Why a file, named from the folder on, is not used by a set of files with `suffixes`;
    `nothing`: as no file is."""
    if any(map(is_hidden, inner.parts)):
        return "hidden"
    if any(name.startswith("_") for name in inner.parts[:-1]):
        return "in a folder that begins with _"
    if inner.suffix.lower() not in suffixes:
        return f"{inner.suffix.lower()} file" if inner.suffix else "name without an ending"
    if is_annotation(inner):
        return "an annotation"
    if len(inner.parts) == 1:
        return "in no class folder"
    return FITS if nothing else "too deep, or another name than the set's"


def advice(rows: list[Skipped]) -> str:
    """What to do with a folder of which nothing is used, by the endings of its files; ""
    if they say nothing."""
    endings = {row.reason.split()[0] for row in rows if row.reason.endswith(" file")}
    if endings & {*WAVE_ENDINGS}:
        return "sound files become data with: snndelay encode audio FOLDER OUT.h5"
    if endings & {*IMAGE_ENDINGS}:
        return "images become recordings with: snndelay encode images FOLDER OUT"
    if endings & {*HDF5_ENDINGS}:
        return "a file of clips is a set of its own: snndelay data FILE.h5"
    return ""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal, read piece by piece. Errors: OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_all(folder: Path, files: Collection[Path]) -> str:
    """One SHA-256 of many files: that of the lines which `sha256sum` prints for them in `folder`,
    in order of name. Errors: OSError."""
    whole = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.relative_to(folder).as_posix()):
        line = f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n"
        whole.update(as_bytes(line))
    return whole.hexdigest()
