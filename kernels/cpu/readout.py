"""The leaky readout on the CPU.

Legend: T time steps, B batch, N neurons, M = B N neurons of all samples.
"""

import torch
from torch import Tensor

from .compiled import compiled
from .scan import as_float32, new_float32, run_tiles
from .specialise import FAST

L = 1024  # places per tile at most

# -- kernels ---


@compiled(**FAST)
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
    x_TBN: Tensor, v_BN: Tensor | None, keep: Tensor | float, backwards: bool
) -> tuple[Tensor, Tensor]:
    """Potential after each step, and the last one, in float32; v_BN None: from 0."""
    T, B, N = x_TBN.shape
    M, v, end = B * N, new_float32(T, B, N), new_float32(B, N)
    end.zero_() if v_BN is None else end.copy_(v_BN)
    factor = new_float32(B, N)
    factor.copy_(keep) if torch.is_tensor(keep) else factor.fill_(keep)
    run_tiles(
        *(integrate, T, M, L, as_float32(x_TBN, T, M)),
        *(as_float32(end, M), as_float32(factor, M), as_float32(v, T, M), backwards),
    )
    return v, end


def readout_fwd(x_TBN: Tensor, v_BN: Tensor | None, keep: Tensor | float) -> Tensor:
    """Potential after each step, (T, B, N); keep: (N,), or a number for all."""
    return _integrate(x_TBN, v_BN, keep, False)[0].to(x_TBN.dtype)


def readout_bwd(
    dv_TBN: Tensor,
    v_TBN: Tensor,
    v_BN: Tensor | None,
    keep: Tensor | float,
    need_v: bool,
    need_keep: bool,
) -> list[Tensor]:
    """Gradients of x and, as wanted, of the potential before the first step and of keep."""
    dx, end = _integrate(dv_TBN, None, keep, True)
    found = [dx.to(v_TBN.dtype)]
    if need_v and v_BN is not None:
        found.append((end * keep).to(v_BN.dtype))
    if need_keep:
        first = 0.0 if v_BN is None else (dx[0] * v_BN).sum(0)
        found.append(first + (dx[1:] * v_TBN[:-1]).sum((0, 1)))
    return found
