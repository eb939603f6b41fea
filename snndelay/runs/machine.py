"""What a run needs from the machine: device, threads, torch's random numbers, memory."""

import ctypes
import sys
from pathlib import Path

import torch

from ..data.seeds import torch_seed
from ..errors import RunError, nearest

DEVICES = ("auto", "cpu", "cuda")
GRAPHS = ("auto", "on", "off")


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
    torch.manual_seed(torch_seed("init", seed))


def seed_step(seed: int, epoch: int, step: int, rank: int = 0) -> None:
    """Seed torch for one training step, so that a resumed run draws the same dropout masks; each
    of several processes draws its own."""
    torch.manual_seed(torch_seed("step", seed, epoch, step) + rank)


def program() -> str:
    """How to train from where this process was started: `python train.py` or `snndelay train`."""
    return "python train.py" if Path(sys.argv[0]).name == "train.py" else "snndelay train"
