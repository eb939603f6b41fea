"""The scan of any NEURONS entry on the CPU: what runs its numba kernels.

Legend: T time steps, B batch, N neurons, M = B N neurons of all samples, S state variables, C
coefficients.
"""

import numpy as np
import torch
from torch import Tensor

from ..neurons import NEURONS
from ..scan import Scan
from ..surrogate import SURROGATES
from .lif_kernels import (
    L,
    Q,
    no_settle,
    no_settle_adjoint,
    scan_bwd,
    scan_fwd,
    step,
    step_adjoint,
)
from .scan import as_float32, as_stored, conversions, new_float32, new_stored, run_tiles
from .specialise import specialise

STEPS, PACKS = Q, False


def _parameters(scan: Scan) -> np.ndarray:
    """Rows scale, shift and coefficients: the values of N neurons over and over, so that a tile of
    up to L places may start at any of them.
    """
    norm = [1.0, 0.0] if scan.scale is None else [scan.scale, scan.shift]
    parameters, N = [*norm, *scan.coefficients], scan.x.shape[2]
    rows = new_float32(len(parameters), 1 + -(-L // N), N)
    for row, value in zip(rows, parameters, strict=True):
        row.copy_(value) if torch.is_tensor(value) else row.fill_(value)
    return rows.flatten(1).numpy()


def firing(scan: Scan) -> tuple:
    """Threshold, rest, drop and hard, as the kernels take them."""
    drop = scan.v_threshold if scan.reset == "soft" else 0.0
    return *map(np.float32, (scan.v_threshold, scan.rest, drop)), scan.reset == "hard"


def _dropout(scan: Scan) -> tuple:
    if scan.seed is None:
        return 0, np.float32(0), np.float32(1), 0
    p, per_step = scan.p_drop, scan.mask == "step"
    # numba's Philox is for numbers, so here alone the seed leaves its tensor
    return int(scan.seed), np.float32(p), np.float32(1 / (1 - p)), 2 if per_step else 1


def _unstack(rows: Tensor, like: list[Tensor]) -> list[Tensor]:
    """The rows in memory of their own, in the dtypes of ``like``, float32 if there are none."""
    dtypes = [other.dtype for other in like] or [torch.float32] * len(rows)
    return [row.to(dtype, copy=True) for row, dtype in zip(rows, dtypes, strict=True)]


def _at_rest(scan: Scan, S: int) -> Tensor:
    """States of neurons that have seen no input, (S, B, N)."""
    states = new_float32(S, *scan.x.shape[1:]).zero_()
    states[0].fill_(scan.rest)
    return states


def lif_fwd(scan: Scan, states: list[Tensor], potentials: bool = False) -> list[Tensor]:
    """Spikes after dropout, states after the last step, checkpoints (ceil(T/Q), states, B, N), no
    bits, since the adjoint needs none, and, if wanted, the potentials after each step, (T, B, N)
    float32. No ``states``: from rest.
    """
    x_TBN, n = scan.x, NEURONS[scan.neuron]
    (T, B, N), S = x_TBN.shape, len(n.states)
    parts = dict(charge=n.charge, settle=n.settle or no_settle, TWO=S == 2, U=potentials)
    kernel = specialise(scan_fwd, (step,), **parts, **conversions(x_TBN))
    # the kernel writes the last state over the first: hence memory of its own
    s = new_stored(x_TBN)
    ends = torch.stack([v.float() for v in states]) if states else _at_rest(scan, S)
    saved = new_float32(-(-T // Q), S, B, N)
    M, us = B * N, [new_float32(T, B, N)] if potentials else []
    u = as_float32(us[0], T, M) if us else np.empty((1, 1), np.float32)
    run_tiles(
        *(kernel, T, M, L, as_stored(x_TBN, T, M), N, _parameters(scan)),
        *(as_float32(ends, S, M), as_stored(s, T, M), as_float32(saved, len(saved), S, M)),
        *(u, firing(scan), _dropout(scan)),
    )
    bits = x_TBN.new_empty(T, B, 0, dtype=torch.int32)
    return [s.to(x_TBN.dtype), *_unstack(ends, states), saved, bits, *us]


def lif_bwd(
    scan: Scan,
    ds_TBN: Tensor,
    dstates: list[Tensor],
    checkpoints: Tensor,
    bits: Tensor,
    starts: bool,
    constants: bool,
    du_TBN: Tensor | None = None,
) -> list[Tensor]:
    """Gradients of x; of scale, shift and, if wanted, coefficients, (n, N); of the first states, if
    wanted. No ``dstates``, no ``du_TBN``: those are 0.
    """
    x_TBN, n = scan.x, NEURONS[scan.neuron]
    T, B, N = x_TBN.shape
    M, S, C = B * N, checkpoints.shape[1], len(scan.coefficients)
    kernel = specialise(
        scan_bwd,
        (step, step_adjoint),
        charge=n.charge,
        charge_adjoint=n.charge_adjoint,
        settle=n.settle or no_settle,
        settle_adjoint=n.settle_adjoint or no_settle_adjoint,
        slope=SURROGATES[scan.surrogate].slope,
        TWO=S == 2,
        C=C,
        U=du_TBN is not None,
        **conversions(x_TBN),
    )
    # the same tiles, and so the same sums, whatever the number of threads
    size = N * max(1, min(L // N, B // 16)) if N <= L else L
    dx, dp = new_stored(x_TBN), new_float32(-(-M // size), 2 + C, min(N, size))
    g = torch.stack([g.float() for g in dstates]) if dstates else new_float32(S, B, N).zero_()
    run_tiles(
        *(kernel, T, M, size, as_stored(ds_TBN, T, M), as_stored(x_TBN, T, M), N),
        *(_parameters(scan), as_float32(checkpoints, len(checkpoints), S, M)),
        *(as_float32(g, S, M), as_stored(dx, T, M), dp.numpy()),
        np.empty((1, 1), np.float32) if du_TBN is None else as_float32(du_TBN, T, M),
        *(firing(scan), (scan.detach_reset, scan.detach_state)),
        *(np.float32(scan.alpha), _dropout(scan)),
        fixed=True,
    )
    sums = dp.transpose(0, 1)
    if N > L:  # then a tile sums over no samples
        sums = sums.flatten(1)[:, :M].view(2 + C, B, N)
    rows = sums[0 if scan.scale is not None else 2 : 2 + C if constants else 2]
    found = torch.stack([part.sum(0) for part in rows]) if len(rows) else new_float32(0, N)
    return [dx.to(x_TBN.dtype), found, *(_unstack(g, dstates) if starts else ())]
