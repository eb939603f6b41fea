"""How many threads numba's loops use."""

import numba
import torch


def use_torch_threads() -> None:
    """As many as torch does."""
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
