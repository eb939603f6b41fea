"""How many threads numba's loops use."""

from functools import cache

import torch
from numba import set_num_threads
from numba.core.config import NUMBA_NUM_THREADS


def use_torch_threads() -> None:
    """As many as torch does."""
    _start()
    set_num_threads(min(torch.get_num_threads(), NUMBA_NUM_THREADS))


@cache
def _start() -> None:
    """Numba starts its threads here, which tells OpenMP to use as many for everything: without the
    last line torch would go on with more threads than it was told, and to other bits."""
    threads = torch.get_num_threads()
    set_num_threads(1)
    torch.set_num_threads(threads)
