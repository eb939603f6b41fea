"""Checkpoints: written whole or not at all, refused if a single bit has changed; two are kept.

A file is `torch.save` of plain values followed by the SHA-256 of those bytes. `torch.load` reads it
too (it ignores the last 32 bytes), but would not notice a flipped bit.
"""

import hashlib
import io
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointCorrupt, CheckpointWriteError
from ..weights import not_finite
from .files import write_atomic

DIGEST_BYTES = hashlib.sha256().digest_size
FORMAT = 2  # 1: at the ends of epochs only
NEWEST, PREVIOUS = "last.pt", "previous.pt"


def save(path: Path, state: dict) -> None:
    """Write state (tensors, str, int, float, bool, list, dict) to path, atomically and durably.

    Raises CheckpointWriteError with the path, the bytes needed and the bytes free.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    try:
        write_atomic(path, content + hashlib.sha256(content).digest())
    except OSError as error:
        free = shutil.disk_usage(path.parent).free if path.parent.exists() else 0
        raise CheckpointWriteError(
            f"cannot write {path} ({error.strerror}): it needs {len(content)} bytes, "
            f"{free} are free; the checkpoint before it is untouched"
        ) from error


def save_newest(folder: Path, state: dict) -> None:
    """`save` as the newest checkpoint of a run; the one before it stays as the previous one. There
    is a whole one at any moment. Raises CheckpointWriteError."""
    with suppress(FileNotFoundError):  # there is none before the first
        spare = folder / f".{PREVIOUS}.{os.getpid()}"
        try:
            os.link(folder / NEWEST, spare)
        except FileNotFoundError:
            raise
        except OSError:  # a file system without links
            shutil.copyfile(folder / NEWEST, spare)
        os.replace(spare, folder / PREVIOUS)
    save(folder / NEWEST, state)


def tidy(folder: Path) -> None:
    """Take away what a process that was killed while it saved has left."""
    for spare in folder.glob(".*.pt.*"):
        spare.unlink()


def load_newest(folder: Path, device: torch.device | str = "cpu") -> tuple[dict, str | None]:
    """(the newest checkpoint of a run that is whole, a sentence if that is not the last one).
    CheckpointCorrupt if there is none."""
    try:
        return load_run(folder / NEWEST, device), None
    except CheckpointCorrupt as error:
        if not (folder / PREVIOUS).exists():
            raise
        state = load_run(folder / PREVIOUS, device)
        at = f"epoch {state['epoch'] + 1}, step {state['step']}"
        return state, f"{error}; going on with {PREVIOUS}, {at}"


def load(path: Path, device: torch.device | str = "cpu") -> dict:
    """Read what `save` wrote, tensors on device. CheckpointCorrupt if it is not exactly that."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CheckpointCorrupt(f"cannot read {path}: {error.strerror}") from error
    content, digest = raw[:-DIGEST_BYTES], raw[-DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise CheckpointCorrupt(
            f"{path} is damaged (its checksum is wrong): use another checkpoint"
        )
    try:
        return torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that holds code
        text = f"{path} holds something other than tensors and plain values: do not use it"
        raise CheckpointCorrupt(text) from error


def load_run(path: Path, device: torch.device | str = "cpu") -> dict:
    """The checkpoint of a run, in today's format. CheckpointCorrupt as `load`, and for one that no
    run could be at."""
    state: Any = load(path, device)
    if not isinstance(state, dict) or not isinstance(state.get("epoch"), int):
        raise CheckpointCorrupt(f"{path} holds no run: use another checkpoint")
    version = state.get("format", 1)
    if not isinstance(version, int) or version > FORMAT:
        text = f"{path} has format {version}, and this version reads up to {FORMAT}"
        raise CheckpointCorrupt(f"{text}: use the version that wrote it")
    state = MIGRATIONS[1](state) if version == 1 else state
    if missing := KEYS - state.keys():
        raise CheckpointCorrupt(
            f"{path} lacks {', '.join(sorted(missing))}: use another checkpoint"
        )
    config = state["config"]
    epochs = config.get("epochs") if isinstance(config, dict) else None
    if not isinstance(epochs, int):
        raise CheckpointCorrupt(f"{path} holds no settings: use another checkpoint")
    if not 0 <= state["epoch"] <= epochs or state["step"] < 0:
        at = f"epoch {state['epoch']}, step {state['step']}"
        raise CheckpointCorrupt(f"{path} is at {at} of {epochs} epochs: use another checkpoint")
    if name := not_finite(state["model"].items()):
        text = f"{path} has values in {name} that are NaN or infinite: use another checkpoint"
        raise CheckpointCorrupt(text)
    return state


def _from_1(state: dict) -> dict:
    """Checkpoints were written at the ends of epochs, and a mean of weights is younger."""
    fresh = {"step": 0, "begun": [], "record": None, "part_seconds": 0.0, "counted": None}
    return {"average": None} | state | fresh | {"format": 2}


MIGRATIONS = {1: _from_1}
KEYS = {"epoch", "step", "model", "optimizers", "schedules", "config", "sizes", "classes", "data"}
