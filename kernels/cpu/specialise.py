"""Numba kernels with a neuron's functions put in: one template of a scan for every neuron.

A kernel calls `charge`, say, and names it so; `specialise` compiles a copy in which the name stands
for the function of a NEURONS entry, inlined, so that the loop over neurons vectorises.
"""

import zlib
from collections.abc import Callable
from functools import cache
from types import CodeType, FunctionType

import numpy as np
from numba import njit

from ..dropout import UNIT, draw
from ..philox import words
from .compiled import compiled
from .portable import numba_source, where

FAST = dict(error_model="numpy", nogil=True)  # a division that may raise does not vectorise
inlined = njit(forceinline=True, **FAST)

# -- functions that a neuron may call, and how numbers are stored ---


@inlined
def exp(x):
    """The exponential, to 1e-7 of its value; the library's would be called number by number.

    Source: S. Moshier's Cephes library, function expf.
    """
    x = min(max(x, np.float32(-87)), np.float32(88))
    n = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    r = x - n * np.float32(0.693359375) - n * np.float32(-2.12194440e-4)
    y = np.float32(1.9875691500e-4)
    y = y * r + np.float32(1.3981999507e-3)
    y = y * r + np.float32(8.3334519073e-3)
    y = y * r + np.float32(4.1665795894e-2)
    y = y * r + np.float32(1.6666665459e-1)
    y = y * r + np.float32(5.0000001201e-1)
    y = y * r * r + r + np.float32(1)
    return y * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)  # 2**n


def as_is(x):
    return x


def from_bfloat16(bits):
    """The number whose upper half these 16 bits are."""
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


def to_bfloat16(x):
    """The 16 bits of a number, rounded to nearest even."""
    bits = np.float32(x).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = np.uint16((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))
    return rounded if x == x else np.uint16(0x7FC0)  # a NaN must not round to a number


# -- compilation ---


@cache
def specialise(
    kernel: Callable, helpers: tuple[Callable, ...], **parts: Callable | bool | int
) -> Callable:
    """``kernel`` compiled for a neuron: with ``parts`` in the place of its globals of these names,
    and in those of its ``helpers``, templates too.

    numba keeps compiled code on disk under a function's name, and drops it when the function's file
    changes. So the name holds a digest of parts and helpers, which come from other files.
    """
    sources = [_source(helper) for helper in helpers]
    sources += [f"{k}: {_source(v)}" for k, v in sorted(parts.items())]
    sources += [repr(UNIT), *(_source(f) for f in (words, draw, exp, where, numba_source))]
    name = f"{kernel.__name__}_{zlib.crc32(' '.join(sources).encode()):08x}"
    names = kernel.__globals__ | {k: _inline(v) if callable(v) else v for k, v in parts.items()}
    for helper in helpers:
        names[helper.__name__] = inlined(FunctionType(helper.__code__, names))
    twin = FunctionType(kernel.__code__, names)
    twin.__name__ = twin.__qualname__ = name
    return compiled(**FAST)(twin)


def _inline(f: Callable) -> Callable:
    plain = numba_source(f)
    plain.__globals__["tl"].exp = exp
    return inlined(plain)


def _source(part: Callable | CodeType | bool | int) -> str:
    """What makes a part what it is, the same in every process."""
    for wrapped in ("__wrapped__", "py_func"):  # a cache's, numba's
        part = getattr(part, wrapped, part)
    code = getattr(part, "__code__", part)
    if not isinstance(code, CodeType):
        return repr(part)
    consts = [_source(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {consts}"
