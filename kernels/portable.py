"""One source, two compilers: a neuron's step or a surrogate's slope is one plain Python function
that Triton compiles for a GPU and numba for the CPU.

Such a function uses arithmetic, floating literals, `tl.exp`, `tl.abs` and `tl.maximum`, nothing
else. `tl` is no import of its file: each compiler gets its own here, on first use, because triton
and numba take long to import and triton may be missing.
"""

import math
from collections.abc import Callable
from functools import cache
from types import FunctionType, ModuleType

import numpy as np


def _with_tl(f: Callable, tl: ModuleType) -> FunctionType:
    return FunctionType(f.__code__, {**f.__globals__, "tl": tl}, f.__name__)


@cache
def triton_function(f: Callable | None):
    """``f`` as a Triton function for use inside kernels; None stays None."""
    import triton

    return f and triton.jit(_with_tl(f, triton.language))


@cache
def numba_source(f: Callable | None) -> Callable | None:
    """``f`` as a plain function for ``numba.njit``, its literals in float32 (numba would go on in
    float64); None stays None.
    """
    if f is None:
        return None
    tl = ModuleType("tl")
    tl.exp, tl.abs, tl.maximum = math.exp, abs, max
    twin = _with_tl(f, tl)
    constants = (np.float32(c) if isinstance(c, float) else c for c in f.__code__.co_consts)
    twin.__code__ = f.__code__.replace(co_consts=tuple(constants))
    return twin
