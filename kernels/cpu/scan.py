"""What the CPU backend's launchers share: threads, tiles, and tensors as numpy arrays.

Legend: M places, that is neurons of all samples (or blocks of rows).
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from torch import Tensor

from .specialise import as_is, from_bfloat16, to_bfloat16


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count())


os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads


def run_tiles(kernel: Callable, steps: int, M: int, limit: int, *args, fixed: bool = False) -> None:
    """Runs ``kernel`` over M places in tiles of at most ``limit`` (``fixed``: of just so many), on
    as many threads as torch may use.
    """
    threads = min(torch.get_num_threads(), 1 + steps * M // 2**15)  # short work is not worth more
    size = limit if fixed else max(1, min(limit, -(-M // threads)))
    tiles = -(-M // size)
    cuts = [tiles * i // threads for i in range(threads + 1)]
    if not kernel.overloads:
        kernel(*args, size, 0, 0)  # compiles once, not once per thread
    jobs = [_pool().submit(kernel, *args, size, *cuts[i : i + 2]) for i in range(1, threads)]
    kernel(*args, size, *cuts[:2])
    for job in jobs:
        job.result()


def new_float32(*shape: int) -> Tensor:
    """Memory for a kernel to write: what torch makes by default may be something else."""
    return torch.empty(shape, dtype=torch.float32, device="cpu")


def as_float32(x: Tensor, *shape: int) -> np.ndarray:
    """``x`` in float32, contiguous, in this shape."""
    return x.detach().float().contiguous().view(shape).numpy()


def as_stored(x: Tensor, *shape: int) -> np.ndarray:
    """``x`` as the scans read and write it: bfloat16 as its bits, everything else in float32."""
    if x.dtype == torch.bfloat16:
        return x.detach().contiguous().view(shape).view(torch.uint16).numpy()
    return as_float32(x, *shape)


def new_stored(x: Tensor) -> Tensor:
    """Memory for a scan to write what goes out in the type of ``x``."""
    dtype = torch.bfloat16 if x.dtype == torch.bfloat16 else torch.float32
    return torch.empty(x.shape, dtype=dtype, device="cpu")


def conversions(x: Tensor) -> dict[str, Callable]:
    """How a kernel reads and writes what ``as_stored`` and ``new_stored`` give."""
    half = x.dtype == torch.bfloat16
    return dict(read=from_bfloat16, write=to_bfloat16) if half else dict(read=as_is, write=as_is)
