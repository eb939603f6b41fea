"""Numbers that are bytes, as bytes, in one pass."""

import numpy as np

from ..kernels.cpu.compiled import compiled


@compiled(nogil=True)
def _bytes(x, out):
    lost = 0
    for i in range(len(x)):
        out[i] = np.uint8(np.int32(x[i]))  # what is no byte comes out as another number
        lost |= np.float32(out[i]) != x[i]
    return not lost


def as_bytes(x: np.ndarray) -> np.ndarray | None:
    """`x`, float32 of any shape, as uint8; None if one of them is no whole number of 0..255."""
    x = np.ascontiguousarray(x)
    out = np.empty(x.shape, np.uint8)
    return out if _bytes(x.reshape(-1), out.reshape(-1)) else None
