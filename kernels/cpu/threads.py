"""How many threads numba's loops use."""

import torch
from numba import set_num_threads
from numba.core.config import NUMBA_NUM_THREADS


def use_torch_threads() -> None:
    """As many as torch does."""
    set_num_threads(min(torch.get_num_threads(), NUMBA_NUM_THREADS))
