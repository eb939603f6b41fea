"""Delays of channels on the CPU: a filter along time for every column of a step.

Eight steps and four taps are worked on at a time, so that a number that was loaded is used in
several products.

Legend: T input steps, S output steps, B batch, C channels, K delay taps, M = B C columns, m columns
of a tile. Scratch rows are ``L`` apart, a constant, so that a place is a base and an offset.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from .compiled import compiled
from .scan import as_float32, new_float32, run_tiles
from .specialise import FAST, inlined

WIDTH = 1024  # columns per tile at most
L = WIDTH + 16  # not a multiple of 4096 bytes: rows would fall on the same lines of the cache
PLACES = 2**17  # numbers of a tile that the second-level cache holds beside the taps
U = np.uintp  # an index that can be negative costs a comparison
CONTRACT = FAST | {"fastmath": {"contract"}}  # product and sum in one instruction

# -- kernels ---


@inlined
def fill(rows, x, shift, lo, m, n_rows):
    """Row r of the scratch is step r - shift of the columns lo to lo + m, 0 outside."""
    for r in range(n_rows):
        t, at = r - shift, U(r * L)
        if 0 <= t < len(x):
            x_t = x[t, lo : lo + m]
            for n in range(m):
                rows[at + U(n)] = x_t[n]
        else:
            for n in range(m):
                rows[at + U(n)] = np.float32(0)


@inlined
def eight_by_four(acc, a, taps, k, rows, r, m):
    """acc[q] += sum_j taps[j] rows[q + j] for eight q and four j, from the places a, k, r on."""
    for column in range(m):
        n = U(column)
        k0, k1 = taps[k + n], taps[k + n + U(L)]
        k2, k3 = taps[k + n + U(2 * L)], taps[k + n + U(3 * L)]
        x0 = rows[r + n + U(0 * L)]
        x1 = rows[r + n + U(1 * L)]
        x2 = rows[r + n + U(2 * L)]
        x3 = rows[r + n + U(3 * L)]
        x4 = rows[r + n + U(4 * L)]
        x5 = rows[r + n + U(5 * L)]
        x6 = rows[r + n + U(6 * L)]
        x7 = rows[r + n + U(7 * L)]
        x8 = rows[r + n + U(8 * L)]
        x9 = rows[r + n + U(9 * L)]
        x10 = rows[r + n + U(10 * L)]
        i = a + n + U(0 * L)
        acc[i] = acc[i] + k0 * x0 + k1 * x1 + k2 * x2 + k3 * x3
        i = a + n + U(1 * L)
        acc[i] = acc[i] + k0 * x1 + k1 * x2 + k2 * x3 + k3 * x4
        i = a + n + U(2 * L)
        acc[i] = acc[i] + k0 * x2 + k1 * x3 + k2 * x4 + k3 * x5
        i = a + n + U(3 * L)
        acc[i] = acc[i] + k0 * x3 + k1 * x4 + k2 * x5 + k3 * x6
        i = a + n + U(4 * L)
        acc[i] = acc[i] + k0 * x4 + k1 * x5 + k2 * x6 + k3 * x7
        i = a + n + U(5 * L)
        acc[i] = acc[i] + k0 * x5 + k1 * x6 + k2 * x7 + k3 * x8
        i = a + n + U(6 * L)
        acc[i] = acc[i] + k0 * x6 + k1 * x7 + k2 * x8 + k3 * x9
        i = a + n + U(7 * L)
        acc[i] = acc[i] + k0 * x7 + k1 * x8 + k2 * x9 + k3 * x10


@compiled(**CONTRACT)
def filter_columns(
    x,  # (T, M)
    k,  # taps of the columns of a tile, (K, size)
    y,  # out: y[t] = sum_j k[j] x[t + j - shift], (S, M)
    shift,
    size,
    first,
    last,
):
    (S, M), K = y.shape, len(k)
    steps, wide = -(-S // 8) * 8, -(-K // 4) * 4
    rows = np.zeros((steps + wide) * L, np.float32)
    taps, acc = np.zeros(wide * L, np.float32), np.zeros(8 * L, np.float32)
    fill(taps, k, 0, 0, size, wide)
    for i in range(first, last):
        lo = i * size
        m = min(size, M - lo)
        fill(rows, x, shift, lo, m, steps + wide)
        for t in range(0, steps, 8):
            for q in range(8):
                for n in range(m):
                    acc[U(q * L) + U(n)] = np.float32(0)
            for j in range(0, wide, 4):
                eight_by_four(acc, U(0), taps, U(j * L), rows, U((t + j) * L), m)
            for q in range(min(8, S - t)):
                y_t, at = y[t + q, lo : lo + m], U(q * L)
                for n in range(m):
                    y_t[n] = acc[at + U(n)]


@compiled(**CONTRACT)
def correlate_columns(
    g,  # gradient of the output, (S, M)
    x,  # (T, M)
    dk,  # out: sum_t g[t] x[t + j - (K-1)] of every tile, (tiles, K, size)
    size,
    first,
    last,
):
    (S, M), K = g.shape, dk.shape[1]
    steps, wide = -(-S // 4) * 4, -(-K // 8) * 8
    rows = np.zeros((steps + wide) * L, np.float32)
    gs, acc = np.zeros(steps * L, np.float32), np.zeros(wide * L, np.float32)
    for i in range(first, last):
        lo = i * size
        m = min(size, M - lo)
        fill(rows, x, K - 1, lo, m, steps + wide)
        fill(gs, g, 0, lo, m, steps)
        acc[:] = np.float32(0)
        for j in range(0, wide, 8):
            for s in range(0, steps, 4):
                eight_by_four(acc, U(j * L), gs, U(s * L), rows, U((s + j) * L), m)
        for j in range(K):
            dk[i, j, :m] = acc[j * L : j * L + m]


# -- launchers ---


def _size(x_TBC: Tensor, extra_steps: int) -> int:
    """Columns of a tile: whole samples, as many as stay in the cache."""
    T, B, C = x_TBC.shape
    wanted = min(WIDTH, PLACES // (T + extra_steps))
    return C * max(1, min(B, wanted // C))


def _filter(x_TBC: Tensor, k_KC: Tensor, S: int, shift: int) -> Tensor:
    T, B, C = x_TBC.shape
    size, y = _size(x_TBC, max(S - T, 0)), new_float32(S, B, C)
    taps = k_KC.float().repeat(1, size // C)
    run_tiles(
        *(filter_columns, S * len(taps), B * C, size, as_float32(x_TBC, T, B * C)),
        *(as_float32(taps, *taps.shape), y.view(S, B * C).numpy(), shift),
        fixed=True,
    )
    return y.to(x_TBC.dtype)


def _by_parts(run: Callable[..., Tensor], axis: int, *given: Tensor) -> Tensor:
    """``run`` on at most WIDTH channels at a time; they are the last axis of what is given."""
    if given[0].shape[-1] <= WIDTH:
        return run(*given)
    parts = zip(*(a.split(WIDTH, -1) for a in given), strict=True)
    return torch.cat([run(*part) for part in parts], axis)


def delay_depthwise_fwd(x_TBC: Tensor, k_CK: Tensor, extra_steps: int) -> Tensor:
    """``y[t, c] = sum_i k[c, i] x[t - (K-1) + i, c]``, (T + extra_steps, B, C)."""
    S, K = len(x_TBC) + extra_steps, k_CK.shape[1]
    return _by_parts(partial(_filter, S=S, shift=K - 1), 2, x_TBC, k_CK.T)


def delay_depthwise_bwd(
    g_SBC: Tensor, x_TBC: Tensor, k_CK: Tensor, need_x: bool, need_k: bool
) -> list[Tensor]:
    """Gradients of x and of the taps, as wanted."""
    T, K, found = len(x_TBC), k_CK.shape[1], []
    if need_x:
        dx = _by_parts(partial(_filter, S=T, shift=0), 2, g_SBC, k_CK.flip(1).T)
        found.append(dx.to(x_TBC.dtype))
    if need_k:
        dk = _by_parts(partial(_correlate, K=K), 0, g_SBC, x_TBC)
        found.append(dk.to(k_CK.dtype))
    return found


def _correlate(g_SBC: Tensor, x_TBC: Tensor, K: int) -> Tensor:
    S, B, C = g_SBC.shape
    T, size = len(x_TBC), _size(x_TBC, S - len(x_TBC))
    dk = new_float32(-(-B * C // size), K, size).zero_()
    run_tiles(
        *(correlate_columns, S * K, B * C, size, as_float32(g_SBC, S, B * C)),
        *(as_float32(x_TBC, T, B * C), dk.numpy()),
        fixed=True,
    )
    return dk.view(-1, K, size // C, C).sum((0, 2)).T
