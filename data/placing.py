"""Where the samples of a set lie, and batches of them are made: in memory, in a mapped file, or on
the device that trains.

Nothing here waits for a device but the one copy of a whole set.
"""

import mmap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, DataError, nearest

PLACES = ("auto", "host", "device")
SHARE = 0.5  # of a device's free memory that one set may take: the network needs some too


def on_host(x: np.ndarray) -> Tensor:
    """The same memory as a tensor, also of a file that is mapped to be read only: nothing may
    write to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch knows no memory without writing
        return torch.from_numpy(x)


def forget(x: np.ndarray | None) -> None:
    """Takes what was read of a mapped file out of this process's memory, or it would grow to the
    size of the file. The system keeps it, and gives it back at once, as long as it has room."""
    pages = getattr(x, "_mmap", None)
    if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def placed(x: Tensor, device: torch.device, data_on: str = "auto") -> Tensor:
    """A whole set `x`, on the host so far, where `data_on` wants it.

    "host": where it is; "device": on `device`, and in memory if that is a CPU; "auto": on CUDA if
    it fits there, SHARE of what is free, else where it is.

    Errors: DataError for another word; ConfigError as `goes_there`.
    """
    if not goes_there(x.nbytes, device, data_on, "the frames"):
        return x
    return x.clone() if device.type == "cpu" else x.to(device)


def goes_there(n_bytes: int, device: torch.device, data_on: str, what: str) -> bool:
    """Whether a set of so many bytes goes to `device`, see `placed`; `what`: its name, plural.

    Errors: DataError for another word, ConfigError for a set that "device" wants where it does not
    fit.
    """
    if data_on not in PLACES:
        raise DataError(f"data_on is {data_on!r}: {nearest(data_on, PLACES)}")
    if data_on == "host" or device.type == "cpu":
        return data_on == "device"
    free = torch.cuda.mem_get_info(device)[0]
    fits = n_bytes <= SHARE * free
    if data_on == "device" and not fits:
        raise ConfigError(
            f"{what} take up to {n_bytes / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free on the "
            "device, half of them for data: give --data-on host"
        )
    return fits


def moved(x: Tensor, device: torch.device) -> Tensor:
    """`x` of the host on `device`, which neither the host nor the device waits for."""
    if x.device.type == device.type:
        return x
    x = x.pin_memory() if device.type == "cuda" else x
    return x.to(device, non_blocking=True)


def taken(x: Tensor, index_B: Tensor, device: torch.device) -> Tensor:
    """Those of the set `x` at `index_B`, int64 and beside it, (B, ...) on `device`; as `moved`."""
    if x.device.type == device.type:
        return x.index_select(0, index_B)
    # pinned from the start: one copy on the host instead of two
    held = torch.empty((len(index_B), *x.shape[1:]), dtype=x.dtype, pin_memory=True)
    return torch.index_select(x, 0, index_B, out=held).to(device, non_blocking=True)


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Within, operations on a CPU are not divided among threads: these are dozens of short ones,
    and a core that another process uses makes each of them wait for milliseconds."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if device.type == "cpu":
            torch.set_num_threads(threads)
