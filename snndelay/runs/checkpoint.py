"""Checkpoints: written whole or not at all, refused if a single bit has changed.

A file is `torch.save` of plain values followed by the SHA-256 of those bytes. `torch.load` reads it
too (it ignores the last 32 bytes), but would not notice a flipped bit.
"""

import hashlib
import io
import shutil
from pathlib import Path

import torch

from ..errors import CheckpointCorrupt, CheckpointWriteError
from .files import write_atomic

DIGEST_BYTES = hashlib.sha256().digest_size


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
