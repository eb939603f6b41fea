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

from ..neurons import NEURONS
from ..surrogate import SURROGATES
from .scan_kernels import (
    FAST,
    ROWS,
    L,
    Q,
    affine,
    as_is,
    from_bfloat16,
    moments,
    no_settle,
    no_settle_adjoint,
    scan_bwd,
    scan_fwd,
    specialise,
    to_bfloat16,
)

STEPS = Q
CONTIGUOUS = torch.contiguous_format

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


# -- launchers ---


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count())


os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads


def _run(kernel: Callable, steps: int, M: int, limit: int, *args, fixed: bool = False) -> None:
    """Runs ``kernel`` over M places in tiles of at most ``limit`` (``fixed``: of just so many), on
    as many threads as torch may use.
    """
    threads = min(torch.get_num_threads(), 1 + steps * M // 2**15)  # short work is not worth more
    size = limit if fixed else max(1, min(limit, -(-M // threads)))
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


def _rows(x: Tensor, *shape: int) -> np.ndarray:
    """``x`` as the scans read and write it: bfloat16 as its bits, everything else in float32."""
    if x.dtype == torch.bfloat16:
        return x.detach().contiguous().view(shape).view(torch.uint16).numpy()
    return _flat(x, *shape)


def _like(x: Tensor) -> Tensor:
    """Memory for a scan to write what goes out in the type of ``x``."""
    dtype = torch.bfloat16 if x.dtype == torch.bfloat16 else torch.float32
    return torch.empty(x.shape, dtype=dtype, device="cpu")


def _types(x: Tensor) -> dict[str, Callable]:
    """How a kernel reads and writes what ``_rows`` and ``_like`` give."""
    half = x.dtype == torch.bfloat16
    return dict(read=from_bfloat16, write=to_bfloat16) if half else dict(read=as_is, write=as_is)


def _places(parameters: list[Tensor | float], B: int, N: int) -> np.ndarray:
    """One row per parameter, its value at each of the B N places."""
    rows = _new(len(parameters), B, N)
    for row, value in zip(rows, parameters, strict=True):
        row.copy_(value) if torch.is_tensor(value) else row.fill_(value)
    return rows.view(len(parameters), B * N).numpy()


def _repeated(parameters: list[Tensor | float], N: int) -> np.ndarray:
    """One row per parameter: its value for N neurons over and over, so that a tile of up to L
    places may start at any of them.
    """
    rows = _new(len(parameters), 1 + -(-L // N), N)
    for row, value in zip(rows, parameters, strict=True):
        row.copy_(value) if torch.is_tensor(value) else row.fill_(value)
    return rows.flatten(1).numpy()


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
    kernel = specialise(
        scan_fwd, charge=n.charge, settle=n.settle or no_settle, TWO=S == 2, **_types(x_TBN)
    )
    norm = [1.0, 0.0] if scale is None else [scale, shift]
    s, ends = _like(x_TBN), torch.stack([v.float() for v in states])
    saved = _new(-(-T // Q), S, B, N)
    M = B * N
    _run(
        *(kernel, T, M, L, _rows(x_TBN, T, M), N, _repeated([*norm, *coefficients], N)),
        *(_flat(ends, S, M), _rows(s, T, M), _flat(saved, len(saved), S, M)),
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
    detach_state: bool,
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
        **_types(x_TBN),
    )
    norm = [1.0, 0.0] if scale is None else [scale, shift]
    # the same tiles, and so the same sums, whatever the number of threads
    size = N * max(1, min(L // N, B // 16)) if N <= L else L
    dx, dp = _like(x_TBN), _new(-(-M // size), 2 + C, min(N, size))
    starts = torch.stack([g.float() for g in dstates])
    _run(
        *(kernel, T, M, size, _rows(ds_TBN, T, M), _rows(x_TBN, T, M), N),
        *(_repeated([*norm, *coefficients], N), _flat(checkpoints, len(checkpoints), S, M)),
        *(_flat(starts, S, M), _rows(dx, T, M), dp.numpy()),
        *(_firing(v_threshold, rest, reset), (detach_reset, detach_state)),
        *(np.float32(alpha), _dropout(seed, p_drop, mask)),
        fixed=True,
    )
    sums = dp.transpose(0, 1)
    if N > L:  # then a tile sums over no samples
        sums = sums.flatten(1)[:, :M].view(2 + C, B, N)
    d_scale, d_shift, *d_coefficients = (part.sum(0) for part in sums)
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
    parts = _new(-(-T * B // ROWS), 2, N)
    kernel = specialise(moments, **_types(y_TBN))
    _run(kernel, ROWS * N, len(parts), 8, _rows(y_TBN, T * B, N), parts.numpy())
    first, second = parts.double().sum(0) / (T * B)
    return (y_TBN[0, 0] + first).float(), (second - first.square()).clamp_min(0).float()


def statistics_bwd(dmean_N: Tensor, dvar_N: Tensor, y_TBN: Tensor, mean_N: Tensor) -> Tensor:
    """Gradient of y."""
    T, B, N = y_TBN.shape
    slope_N = 2 / (T * B) * dvar_N
    p, dy = torch.stack([slope_N, dmean_N / (T * B) - slope_N * mean_N]), _like(y_TBN)
    rows = [_rows(a, T * B, N) for a in (y_TBN, dy)]
    _run(specialise(affine, **_types(y_TBN)), ROWS * N, -(-T * B // ROWS), 8, *rows, _flat(p, 2, N))
    return dy.to(y_TBN.dtype)
