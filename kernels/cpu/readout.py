"""The leaky readout on the CPU.

Legend: T time steps, B batch, N neurons, M = B N neurons of all samples.
"""

import torch
from numba import njit
from torch import Tensor

from .scan import as_float32, new_float32, run_tiles
from .specialise import FAST

L = 1024  # places per tile at most

# -- kernels ---


@njit(cache=True, **FAST)
def integrate(x, v_end, keep, v, backwards, size, first, last):
    """v[t] = keep v[t-1] + x[t], or from the last step to the first; x, v (T, M), v_end (M,)."""
    T, M = x.shape
    for i in range(first, last):
        lo, hi = i * size, min(i * size + size, M)
        for j in range(T):
            t = T - 1 - j if backwards else j
            for n in range(lo, hi):
                v_end[n] = keep[n] * v_end[n] + x[t, n]
                v[t, n] = v_end[n]


# -- launchers ---


def _integrate(
    x_TBN: Tensor, v_BN: Tensor, keep_N: Tensor, backwards: bool
) -> tuple[Tensor, Tensor]:
    """Potential after each step, and the last one, in float32."""
    T, B, N = x_TBN.shape
    M, v, end = (
        B * N,
        new_float32(T, B, N),
        v_BN.float().clone(memory_format=torch.contiguous_format),
    )
    keep = as_float32(keep_N.float().expand(B, N), M)
    run_tiles(
        integrate,
        T,
        M,
        L,
        as_float32(x_TBN, T, M),
        as_float32(end, M),
        keep,
        as_float32(v, T, M),
        backwards,
    )
    return v, end


def readout_fwd(x_TBN: Tensor, v_BN: Tensor, keep_N: Tensor) -> Tensor:
    """Potential after each step, (T, B, N)."""
    return _integrate(x_TBN, v_BN, keep_N, False)[0].to(x_TBN.dtype)


def readout_bwd(
    dv_TBN: Tensor, v_TBN: Tensor, v_BN: Tensor, keep_N: Tensor, need_keep: bool
) -> list[Tensor]:
    """Gradients of x, of the potential before the first step, and of keep (0 if not needed)."""
    dx, end = _integrate(dv_TBN, torch.zeros_like(v_BN), keep_N, True)
    d_keep = torch.zeros_like(keep_N)
    if need_keep:
        d_keep += (dx[0] * v_BN).sum(0) + (dx[1:] * v_TBN[:-1]).sum((0, 1))
    return [dx.to(v_TBN.dtype), (end * keep_N).to(v_BN.dtype), d_keep]
