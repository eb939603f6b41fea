"""Fetching a named data set: resumed where a download stopped, verified, then unpacked.

    path = download(Archive("a.zip", "https://...", md5), folder)
    unpack(path, folder)

What has arrived lies in NAME.part, to which the next try adds (HTTP range, RFC 9110 section 14);
the file gets its name only when its size and its MD5 are right. Archives stay where they are, in
the folder and under the name that tonic uses: delete them when the set is unpacked.
"""

import hashlib
import os
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from tqdm import tqdm

from ..errors import DataError
from .archives import ARCHIVES, Archive
from .making import alone_in, finish_moves, made_whole, making, move_all

PIECE = 1 << 20  # bytes read at once
TRIES = 5  # connections that break one after the other and bring less than SLOWEST
TIMEOUT_S, WAIT_S = 60, 1.0  # for an answer; after a connection that brought hardly anything
SLOWEST = 10_000  # bytes in TIMEOUT_S, or the connection is taken for broken
UNPACKING = ".unpacking-"  # begins the names of folders in which archives are unpacked
NESTED = (".zip", ".tar.gz", ".tgz", ".tar")


def fetch(folder: Path, tonic_class: str, options: dict, url: str) -> None:
    """Fetches a part of a named set, the key of ARCHIVES that `tonic_class` and the value of
    `options` make, into the folder of that name under `folder`, and unpacks it. `url`: where a
    user finds it. Errors: DataError with the reason."""
    archive = ARCHIVES[tonic_class, next(iter(options.values()), None)]
    place = folder / tonic_class
    try:  # the disk and the network fail in many ways, all of them OSError
        place.mkdir(parents=True, exist_ok=True)
        with alone_in(place, "another process downloads it"):
            unpack(download(archive, place), place)
    except (OSError, DataError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"downloading {tonic_class} to {folder} failed ({reason}): "
            f"try again, or fetch it by hand from {url}"
        ) from error


def finish_unpacking(folder: Path, tonic_class: str) -> None:
    """Finishes what a process was unpacking for a named set under `folder` when it was killed, so
    that half an archive is never taken for all of it. Errors: DataError if that cannot be done, or
    another process is unpacking it right now."""
    finish_moves(folder / tonic_class, UNPACKING)


def download(archive: Archive, folder: Path) -> Path:
    """The file of `archive` in `folder`, fetched unless it is there and right. Errors: DataError
    for a file that is not the published one, which is removed, a server that refuses or breaks off
    (what has arrived stays), or too small a disk; OSError of the disk."""
    path, part = folder / archive.name, folder / f"{archive.name}.part"
    folder.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        if archive.md5 is None or md5_of(path) == archive.md5:
            return path
        path.rename(part) if not part.exists() else path.unlink()  # cut short, perhaps by others
    failed = 0  # connections that brought hardly anything
    while True:
        have = _size(part)
        try:
            _receive(archive, part)
            break
        except (HTTPException, urllib.error.URLError, TimeoutError, ConnectionError) as error:
            failed = 0 if _size(part) >= have + SLOWEST else failed + 1
            code = error.code if isinstance(error, urllib.error.HTTPError) else 0
            if failed == TRIES or 400 <= code < 500:
                raise DataError(_stopped(error, part)) from error
            time.sleep(WAIT_S * failed)
    if archive.md5 is not None and md5_of(part) != archive.md5:
        part.unlink()
        text = "is not the file that was published (another MD5) and was removed"
        raise DataError(f"{archive.name} {text}")
    os.replace(part, path)
    return path


def _stopped(error: Exception, part: Path) -> str:
    reason = getattr(error, "reason", None) or " ".join(str(error).split()) or type(error).__name__
    kept = f"; the next try goes on after {_size(part):,} bytes" if _size(part) else ""
    return f"{reason}{kept}"


def _receive(archive: Archive, part: Path) -> None:
    """One connection: adds to `part` what is missing. HTTPException if less than all arrives."""
    have, headers = _size(part), {"User-Agent": "snndelay"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(archive.url, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing lies beyond what is there
            raise
        total = error.headers.get("Content-Range", "").rpartition("/")[2]
        if total != str(have):
            part.unlink()
            raise HTTPException("the file at the server is shorter than its part here") from error
        return
    with answer:
        if answer.status != 206:  # a server without ranges sends all of it
            have = 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        _check_room(part.parent, total, have)
        _write(answer, part, have, total, archive.name)
    if total is not None and _size(part) < total:
        raise HTTPException(f"the connection broke at {_size(part):,} of {total:,} bytes")


def _write(answer: HTTPResponse, part: Path, have: int, total: int | None, name: str) -> None:
    bar = {"unit": "B", "unit_scale": True, "unit_divisor": 1000, "desc": name}
    with (
        open(part, "ab" if have else "wb") as file,
        tqdm(total=total, initial=have, disable=not sys.stderr.isatty(), **bar) as progress,
    ):
        begun, new = time.monotonic(), 0
        while piece := answer.read1(PIECE):
            file.write(piece)
            progress.update(len(piece))
            new += len(piece)
            if (took := time.monotonic() - begun) > TIMEOUT_S:
                if new < SLOWEST:
                    raise TimeoutError(f"only {new:,} bytes came in {took:.0f} s")
                begun, new = time.monotonic(), 0


def _check_room(folder: Path, total: int | None, have: int) -> None:
    free = shutil.disk_usage(folder).free
    if total is not None and total - have > free:
        needed, there = (total - have) / 1e9, free / 1e9
        raise DataError(f"{needed:.2f} GB are missing, and the disk has {there:.2f} GB left")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def md5_of(path: Path) -> str:
    """MD5 of a file in hexadecimal, read piece by piece. Errors: OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def unpack(path: Path, folder: Path) -> None:
    """Unpacks an archive into `folder`, and the archives within it there too. Nothing of it is in
    `folder` before all is unpacked, and what then is not moved there yet, `finish_unpacking` moves.
    Errors: DataError if it is damaged, holds a link or leads out of the folder; OSError of the
    disk."""
    with making(folder, UNPACKING) as place:
        _extract(path, place)
        while inner := next((p for p in place.rglob("*") if p.name.endswith(NESTED)), None):
            _extract(inner, place)
            inner.unlink()
        made_whole(place)
        move_all(place, folder)


def _extract(path: Path, folder: Path) -> None:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
        else:
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter=_without_links)
    except Exception as error:  # of zipfile, tarfile and what they unpack with
        if isinstance(error, OSError) and error.errno:
            raise
        text = " ".join(str(error).split())
        raise DataError(f"{path.name} cannot be unpacked ({text}): delete it") from error


def _without_links(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    """The member as Python's filter "data" allows it. Errors: TarError for a link, which no set has
    and through which later members could lead anywhere."""
    if member.issym() or member.islnk():
        raise tarfile.TarError(f"it holds a link, {member.name}")
    return tarfile.data_filter(member, folder)
