"""The CPU backend: compiled scans of neurons and readout, and the statistics of a normalisation.

Legend: T time steps, B batch, N neurons, M = B N neurons of all samples, R = T B rows.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .cpu_scan import (
    FAST,
    L,
    Q,
    no_settle,
    no_settle_adjoint,
    scan_bwd,
    scan_fwd,
    specialise,
)
from .steps import NEURONS
from .surrogate import SURROGATES

STEPS = Q
CONTIGUOUS = torch.contiguous_format
ROWS = 64  # summed in float32; their sums in float64

# -- kernels that need no neuron ---


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


@njit(cache=True, **FAST)
def moments(y, parts, size, first, last):
    """Sums over blocks of ROWS rows of y - y[0] and of its square; y (R, N), parts (R / ROWS, 2,
    N).
    """
    R, N = y.shape
    for i in range(first * size, min(last * size, len(parts))):
        parts[i] = 0
        a, b, origin = parts[i, 0], parts[i, 1], y[0]
        for r in range(i * ROWS, min(i * ROWS + ROWS, R)):
            y_r = y[r]
            for n in range(N):
                d = y_r[n] - origin[n]
                a[n] += d
                b[n] += d * d


# -- launchers ---


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count())


os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads


def _run(kernel: Callable, steps: int, M: int, limit: int, *args) -> None:
    """Runs ``kernel`` over M places in tiles of at most ``limit``, on as many threads as torch may
    use.
    """
    threads = min(torch.get_num_threads(), 1 + steps * M // 2**15)  # short work is not worth more
    size = max(1, min(limit, -(-M // threads)))
    tiles = -(-M // size)
    cuts = [tiles * i // threads for i in range(threads + 1)]
    if not kernel.overloads:
        kernel(*args, size, 0, 0)  # compiles once, not once per thread
    jobs = [_pool().submit(kernel, *args, size, *cuts[i : i + 2]) for i in range(1, threads)]
    kernel(*args, size, *cuts[:2])
    for job in jobs:
        job.result()


def _new(*shape: int) -> Tensor:
    """Memory for a kernel to write: what torch makes by default may be something else."""
    return torch.empty(shape, dtype=torch.float32, device="cpu")


def _flat(x: Tensor, *shape: int) -> np.ndarray:
    """``x`` in float32, contiguous, in this shape."""
    return x.detach().float().contiguous().view(shape).numpy()


def _places(parameters: list[Tensor | float], B: int, N: int) -> np.ndarray:
    """One row per parameter, its value at each of the B N places."""
    rows = _new(len(parameters), B, N)
    for row, value in zip(rows, parameters, strict=True):
        row.copy_(value) if torch.is_tensor(value) else row.fill_(value)
    return rows.view(len(parameters), B * N).numpy()


def _firing(v_threshold: float, rest: float, reset: str) -> tuple:
    drop = v_threshold if reset == "soft" else 0.0
    return np.float32(v_threshold), np.float32(rest), np.float32(drop), reset == "hard"


def _dropout(seed: Tensor | None, p: float, mask: str) -> tuple:
    if seed is None:
        return 0, np.float32(0), np.float32(1), 0
    return int(seed), np.float32(p), np.float32(1 / (1 - p)), 2 if mask == "step" else 1


def _unstack(rows: Tensor, like: list[Tensor]) -> list[Tensor]:
    """The rows in memory of their own, in the dtypes of ``like``."""
    return [row.to(other.dtype, copy=True) for row, other in zip(rows, like, strict=True)]


def lif_fwd(
    x_TBN: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    states: list[Tensor],
    coefficients: list[Tensor],
    seed: Tensor | None,
    neuron: str,
    v_threshold: float,
    rest: float,
    reset: str,
    p_drop: float,
    mask: str,
) -> list[Tensor]:
    """Spikes after dropout, states after the last step, checkpoints (ceil(T/Q), states, B, N), and
    no bits: the adjoint needs none.
    """
    (T, B, N), n, S = x_TBN.shape, NEURONS[neuron], len(states)
    kernel = specialise(scan_fwd, charge=n.charge, settle=n.settle or no_settle, TWO=S == 2)
    norm = [1.0, 0.0] if scale is None else [scale, shift]
    s, ends = _new(T, B, N), torch.stack([v.float() for v in states])
    saved = _new(-(-T // Q), S, B, N)
    M = B * N
    _run(
        *(kernel, T, M, L, _flat(x_TBN, T, M), _places([*norm, *coefficients], B, N)),
        *(_flat(ends, S, M), _flat(s, T, M), _flat(saved, len(saved), S, M)),
        *(_firing(v_threshold, rest, reset), _dropout(seed, p_drop, mask)),
    )
    bits = x_TBN.new_empty(T, B, 0, dtype=torch.int32)
    return [s.to(x_TBN.dtype), *_unstack(ends, states), saved, bits]


def lif_bwd(
    ds_TBN: Tensor,
    dstates: list[Tensor],
    x_TBN: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    checkpoints: Tensor,
    bits: Tensor,
    coefficients: list[Tensor],
    seed: Tensor | None,
    neuron: str,
    v_threshold: float,
    rest: float,
    reset: str,
    detach_reset: bool,
    surrogate: str,
    alpha: float,
    p_drop: float,
    mask: str,
) -> list[Tensor]:
    """Gradients of x, scale, shift, states and coefficients."""
    (T, B, N), n = x_TBN.shape, NEURONS[neuron]
    M, S, C = B * N, len(dstates), len(coefficients)
    kernel = specialise(
        scan_bwd,
        charge=n.charge,
        charge_adjoint=n.charge_adjoint,
        settle=n.settle or no_settle,
        settle_adjoint=n.settle_adjoint or no_settle_adjoint,
        slope=SURROGATES[surrogate].slope,
        TWO=S == 2,
        C=C,
    )
    norm = [1.0, 0.0] if scale is None else [scale, shift]
    dx, dp = _new(T, B, N), _new(2 + C, B, N)
    starts = torch.stack([g.float() for g in dstates])
    _run(
        *(kernel, T, M, L, _flat(ds_TBN, T, M), _flat(x_TBN, T, M)),
        *(_places([*norm, *coefficients], B, N), _flat(checkpoints, len(checkpoints), S, M)),
        *(_flat(starts, S, M), _flat(dx, T, M), _flat(dp, 2 + C, M)),
        *(_firing(v_threshold, rest, reset), detach_reset, np.float32(alpha)),
        _dropout(seed, p_drop, mask),
    )
    d_scale, d_shift, *d_coefficients = (d_BN.sum(0) for d_BN in dp)
    return [dx.to(x_TBN.dtype), d_scale, d_shift, *_unstack(starts, dstates), *d_coefficients]


def _integrate(
    x_TBN: Tensor, v_BN: Tensor, keep_N: Tensor, backwards: bool
) -> tuple[Tensor, Tensor]:
    """Potential after each step, and the last one, in float32."""
    T, B, N = x_TBN.shape
    M, v, end = B * N, _new(T, B, N), v_BN.float().clone(memory_format=CONTIGUOUS)
    (keep,) = _places([keep_N], B, N)
    _run(integrate, T, M, L, _flat(x_TBN, T, M), _flat(end, M), keep, _flat(v, T, M), backwards)
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


def statistics(y_TBN: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over steps and samples, (N,) float32."""
    T, B, N = y_TBN.shape
    rows = _flat(y_TBN, T * B, N)
    parts = _new(-(-T * B // ROWS), 2, N)
    _run(moments, ROWS * N, len(parts), 8, rows, parts.numpy())
    first, second = parts.double().sum(0) / (T * B)
    return (y_TBN[0, 0] + first).float(), (second - first.square()).clamp_min(0).float()
