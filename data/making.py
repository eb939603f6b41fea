"""Folders in which something is made before it takes its place, and what killed processes left.

    with making(folder) as place:  # a new folder; it goes at the end
        (place / "frames").write_bytes(...)
        os.replace(place / "frames", folder / "frames")

A file in it is locked as long as its process lives, so it is known what nobody needs any more.
"""

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from ..errors import DataError, UserError

try:
    import fcntl
except ImportError:  # Windows: nothing is known of other processes
    fcntl = None

MAKING = ".making-"  # begins the names of folders in which files are made
OWNER, CONTENT = "owner", "content"
WHOLE = "whole"  # is there when all is made, and moves to its place
OLD_S = 86_400  # without an owner it is just being made, or an older version made it


@contextmanager
def making(folder: str | Path, prefix: str = MAKING) -> Iterator[Path]:
    """A new folder in `folder`, called `prefix` and something, to make things in. It goes at the
    end, or stays after an error if all was made (`made_whole`), for `finish_moves`. Errors: OSError
    of the disk."""
    remove_abandoned(folder, prefix)
    place = Path(mkdtemp(prefix=prefix, dir=folder))
    try:
        with open(place / f"{OWNER}.new", "w") as owner:
            with suppress(OSError):  # a file system without locks
                _lock(owner.fileno())
                os.replace(owner.name, place / OWNER)  # locked before anybody looks at it
            (place / CONTENT).mkdir()
            yield place / CONTENT
    except BaseException:
        if not (place / WHOLE).exists():
            shutil.rmtree(place, ignore_errors=True)
        raise
    shutil.rmtree(place, ignore_errors=True)


def made_whole(content: Path) -> None:
    """From now on what is in the folder of `making` is not lost, and half of it is never all."""
    (content.parent / WHOLE).touch()


def finish_moves(folder: Path, prefix: str) -> None:
    """Moves into `folder` the rest of what a process had made and was moving there when it ended.
    Errors: DataError if that cannot be done, or the process does it right now."""
    for place in sorted(folder.glob(f"{prefix}*")):
        if not (place / WHOLE).exists():
            continue
        try:
            with _owned(place) as gone:
                if not gone:
                    raise DataError(f"another process fills {folder}: wait for it, or end it")
                move_all(place / CONTENT, folder)
                shutil.rmtree(place, ignore_errors=True)
        except OSError as error:
            raise DataError(
                f"what {place} holds belongs into {folder} and cannot be moved there "
                f"({error.strerror}): move it by hand, or delete {folder} and fetch it anew"
            ) from error


def remove_abandoned(folder: str | Path, prefix: str = MAKING) -> None:
    """Removes what killed processes were making in `folder`, on other machines too; of what is
    whole, `finish_moves` takes care."""
    for place in Path(folder).glob(f"{prefix}*"):
        with suppress(OSError), _owned(place) as gone:
            if gone and not (place / WHOLE).exists():
                shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _owned(place: Path) -> Iterator[bool]:
    """Whether the process that made things in `place` is gone; nobody else takes it meanwhile.
    Errors: OSError where that cannot be known."""
    if not (place / OWNER).exists():
        yield time.time() - place.stat().st_mtime > OLD_S
        return
    with open(place / OWNER, "r+") as owner:
        try:
            _lock(owner.fileno())
        except BlockingIOError:
            yield False
            return
        yield True


def _lock(file: int) -> None:
    """Locks an open file until it is closed, or the process ends. Errors: BlockingIOError if
    another one has it, OSError where there are no locks."""
    if fcntl is None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def move_all(source: Path, target: Path) -> None:
    """Moves what `source` holds into `target`; of folders that both have, their content. Errors:
    OSError; what is not moved then stays in `source`."""
    for place in sorted(source.iterdir()):
        there = target / place.name
        if place.is_dir() and there.is_dir():
            move_all(place, there)
        else:
            os.replace(place, there)


@contextmanager
def alone_in(folder: Path, other: str, kind: type[UserError] = DataError) -> Iterator[None]:
    """One process at a time works in `folder`, for which this makes a file .lock in it. Errors: one
    of this kind, that `other` does so already; OSError."""
    with (folder / ".lock").open("w") as lock:
        try:
            _lock(lock.fileno())
        except BlockingIOError:
            raise kind(f"{other}: wait for it, or end it") from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):  # a file system without locks
                raise
        yield
