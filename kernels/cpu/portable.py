"""Steps of neurons and slopes of surrogates as numba compiles them, see ../portable.py."""

import math
from collections.abc import Callable
from functools import cache
from types import ModuleType

import numpy as np
from numba.extending import register_jitable

from ..portable import with_tl


@register_jitable
def where(condition, a, b):
    """Of numbers, as ``tl.where`` is of tensors."""
    return a if condition else b


@cache
def numba_source(f: Callable) -> Callable:
    """``f`` as a plain function for ``numba.njit``, its literals in float32: numba would go on in
    float64, at half the lanes and to other bits than Triton.
    """
    tl = ModuleType("tl")
    vars(tl).update(exp=math.exp, abs=abs, maximum=max, where=where)
    twin = with_tl(f, tl)
    constants = (np.float32(c) if isinstance(c, float) else c for c in f.__code__.co_consts)
    twin.__code__ = f.__code__.replace(co_consts=tuple(constants))
    return twin
