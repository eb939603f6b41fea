"""What a run needs from the machine: device, threads, random seeds, folders, small files."""

import ctypes
import json
import os
from pathlib import Path

import numpy as np
import torch

from ..errors import RunError, nearest
from .settings import DEVICES

INIT, STEP = 1, 2  # what a seed is for, so that the two streams never coincide


def pick_device(name: str = "auto") -> torch.device:
    """torch.device for "auto" (CUDA if there is one), "cpu" or "cuda".

    Raises RunError for another name, or if CUDA is asked for and absent.
    """
    if name not in DEVICES:
        raise RunError(f"unknown device {name!r}: {nearest(name, DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise RunError("device is cuda, but torch sees no CUDA device: use --device cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def autocast(device: torch.device, on: bool) -> torch.autocast:
    """Context in which products run in bfloat16, if `on`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=on)


def set_threads(threads: int | None) -> None:
    """Number of CPU threads that torch uses; None leaves torch's own choice."""
    if threads is not None:
        torch.set_num_threads(threads)


def keep_freed_memory() -> None:
    """Lets glibc reuse large blocks instead of giving each back to the system and asking anew.

    A CPU training step allocates hundreds of megabytes of temporaries, and their page faults took
    a quarter of its time (docs/log.md). No effect where the C library is another one.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 2**31 - 1)  # M_MMAP_THRESHOLD
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def seed_init(seed: int) -> None:
    """Seed torch for drawing a model's first weights and positions."""
    torch.manual_seed(_mix(INIT, seed))


def seed_step(seed: int, epoch: int, step: int) -> None:
    """Seed torch for one training step, so that a resumed run draws the same dropout masks."""
    torch.manual_seed(_mix(STEP, seed, epoch, step))


def _mix(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def new_run_folder(runs: str | Path, name: str) -> Path:
    """Make and return runs/name, or name-2, name-3 ... if taken. RunError if it cannot be made."""
    for number in range(1, 10_000):
        folder = Path(runs).expanduser() / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if not folder.exists():  # a parent is a file
                raise RunError(f"{runs} is no folder: choose another with --runs") from None
        except OSError as error:
            text = f"cannot create {folder} ({error.strerror}): choose a writable --runs folder"
            raise RunError(text) from error
    raise RunError(f"too many runs called {name} in {runs}: choose another name with --run")


def find_run(run: str | Path) -> Path:
    """Folder of an earlier run, given as a path or as a name under runs/. RunError if missing."""
    for folder in (Path(run).expanduser(), Path("runs") / run):
        if (folder / "config.json").is_file():
            return folder
    raise RunError(f"{run} is no run: expected a folder with config.json, such as runs/NAME")


def read_json(path: Path) -> dict:
    """Content of a JSON file; RunError if it cannot be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {error}") from error


def write_json(path: Path, content: dict) -> None:
    """Write JSON such that a reader sees the old file or the new one, never a part."""
    write_atomic(path, (json.dumps(content, indent=2) + "\n").encode())


def write_atomic(path: Path, content: bytes) -> None:
    """Replace the file at path by content, durably: old or new after a crash, never a part.

    Raises OSError; the temporary file is removed and the old content remains.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # makes the new name itself survive a power cut
    finally:
        os.close(folder)
