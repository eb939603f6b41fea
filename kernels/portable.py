"""One source, two compilers: a neuron's step or a surrogate's slope is one plain Python function
that Triton compiles for a GPU (triton/portable.py) and numba for the CPU (cpu/portable.py).

Such a function is a `def` (Triton reads its source, and takes no lambda) that uses arithmetic,
floating literals, `tl.exp`, `tl.abs`, `tl.maximum` and `tl.where`, nothing else. `tl` is no import
of its file: each compiler puts its own there, on first use, because triton and numba take long to
import and triton may be missing.
"""

from collections.abc import Callable
from types import FunctionType, ModuleType


def with_tl(f: Callable, tl: ModuleType) -> FunctionType:
    """``f`` with ``tl`` for what it calls by that name."""
    return FunctionType(f.__code__, {**f.__globals__, "tl": tl}, f.__name__)
