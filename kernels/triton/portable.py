"""Steps of neurons and slopes of surrogates as Triton functions, see ../portable.py."""

from collections.abc import Callable
from functools import cache

import triton

from ..portable import with_tl


@cache
def triton_function(f: Callable | None):
    """``f`` as a Triton function for use inside kernels; None stays None."""
    return f and triton.jit(with_tl(f, triton.language))
