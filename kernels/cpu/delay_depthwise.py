"""Delays of channels on the CPU: a filter along time for every column of a step.

Eight steps and four taps are worked on at a time, so that a number that was loaded is used in
several products.

Legend: T input steps, S output steps, B batch, C channels, K delay taps, M = B C columns, m columns
of a tile. Scratch rows are ``L`` apart, a constant, so that a place is a base and an offset.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .compiled import compiled
from .scan import as_float32, new_float32, run_tiles
from .specialise import FAST, inlined

WIDTH = 1024  # columns per tile at most
L = WIDTH + 16  # not a multiple of 4096 bytes: rows would fall on the same lines of the cache
PLACES = 2**15  # numbers of a tile, as measured best at 100 to 250 steps
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


@inlined
def start(acc, taps, first, rows, t, m):
    """acc[q] = sum_j taps[j] rows[t + q + j] over the ``first`` taps, for eight q."""
    for q in range(8):
        a, r = U(q * L), U((t + q) * L)
        for n in range(m):
            acc[a + U(n)] = taps[U(n)] * rows[r + U(n)] if first else np.float32(0)
        for j in range(1, first):
            k = U(j * L)
            for n in range(m):
                acc[a + U(n)] += taps[k + U(n)] * rows[r + k + U(n)]


@inlined
def filter_rows(acc, taps, K, rows, y, lo, m):
    """y[t] = sum_j taps[j] rows[t + j], columns lo to lo + m."""
    for t in range(0, len(y), 8):
        start(acc, taps, K % 4, rows, t, m)
        for j in range(K % 4, K, 4):
            eight_by_four(acc, U(0), taps, U(j * L), rows, U((t + j) * L), m)
        for q in range(min(8, len(y) - t)):
            y_t, at = y[t + q, lo : lo + m], U(q * L)
            for n in range(m):
                y_t[n] = acc[at + U(n)]


@compiled(**CONTRACT)
def filter_columns(
    x,  # (T, M)
    k,  # taps of the columns of a tile, (K, size)
    y,  # out: y[t] = sum_j k[j] x[t + j - (K-1)], (S, M)
    size,
    first,
    last,
):
    (S, M), K = y.shape, len(k)
    n_rows = -(-S // 8) * 8 + K
    rows, taps = np.zeros(n_rows * L, np.float32), np.zeros(K * L, np.float32)
    acc = np.zeros(8 * L, np.float32)
    fill(taps, k, 0, 0, size, K)
    for i in range(first, last):
        lo = i * size
        m = min(size, M - lo)
        fill(rows, x, K - 1, lo, m, n_rows)
        filter_rows(acc, taps, K, rows, y, lo, m)


@compiled(**CONTRACT)
def adjoint_columns(
    g,  # gradient of the output, (S, M)
    x,  # (T, M)
    k,  # taps from the last to the first, of the columns of a tile, (K, size)
    dx,  # out: dx[t] = sum_j k[j] g[t + j], (T, M), or (0, M): not wanted
    dk,  # out: sum_t g[t] x[t + j - (K-1)] of every tile, (tiles, K, size), or (0, K, size)
    size,
    first,
    last,
):
    (S, M), T, K = g.shape, len(x), len(k)
    steps, eights = -(-S // 4) * 4, K - K % 8
    n_rows = max(steps, -(-T // 8) * 8 + K)
    gs, taps = np.zeros(n_rows * L, np.float32), np.zeros(K * L, np.float32)
    rows, acc = np.zeros((steps + K) * L, np.float32), np.zeros((K + 8) * L, np.float32)
    fill(taps, k, 0, 0, size, K)
    for i in range(first, last):
        lo = i * size
        m = min(size, M - lo)
        fill(gs, g, 0, lo, m, n_rows)
        if len(dx):
            filter_rows(acc, taps, K, gs, dx, lo, m)
        if len(dk):
            fill(rows, x, K - 1, lo, m, steps + K)
            acc[:] = np.float32(0)
            for j in range(0, eights, 8):
                for s in range(0, steps, 4):
                    eight_by_four(acc, U(j * L), gs, U(s * L), rows, U((s + j) * L), m)
            for j in range(eights, K):
                for s in range(S):
                    a, b, r = U(j * L), U(s * L), U((s + j) * L)
                    for n in range(m):
                        acc[a + U(n)] += gs[b + U(n)] * rows[r + U(n)]
            for j in range(K):
                for n in range(m):
                    dk[i, j, n] = acc[U(j * L) + U(n)]


# -- launchers ---


def _tiles(x_TBC: Tensor, S: int, k_KC: Tensor) -> tuple[int, np.ndarray]:
    """Columns of a tile, whole samples and as many as stay in the cache, and its taps."""
    _, B, C = x_TBC.shape
    samples = max(1, min(B, min(WIDTH, PLACES // S) // C))
    taps = k_KC.float().repeat(1, samples)
    return samples * C, as_float32(taps, *taps.shape)


def _by_parts(run: Callable[..., list[Tensor]], *given: Tensor) -> list[Tensor]:
    """``run`` on at most WIDTH channels at a time; they are the last axis of what is given and of
    what it returns.
    """
    if given[0].shape[-1] <= WIDTH:
        return run(*given)
    parts = zip(*(a.split(WIDTH, -1) for a in given), strict=True)
    return [torch.cat(found, -1) for found in zip(*(run(*part) for part in parts), strict=True)]


def delay_depthwise_fwd(x_TBC: Tensor, k_CK: Tensor, extra_steps: int) -> Tensor:
    """``y[t, c] = sum_i k[c, i] x[t - (K-1) + i, c]``, (T + extra_steps, B, C)."""

    def run(x_TBC: Tensor, k_KC: Tensor) -> list[Tensor]:
        (T, B, C), K = x_TBC.shape, len(k_KC)
        S, M = T + extra_steps, B * C
        y, (size, taps) = new_float32(S, B, C), _tiles(x_TBC, S, k_KC)
        given = (as_float32(x_TBC, T, M), taps, y.view(S, M).numpy())
        run_tiles(filter_columns, S * K, M, size, *given, fixed=True)
        return [y.to(x_TBC.dtype)]

    return _by_parts(run, x_TBC, k_CK.T)[0]


def delay_depthwise_bwd(
    g_SBC: Tensor, x_TBC: Tensor, k_CK: Tensor, need_x: bool, need_k: bool
) -> list[Tensor]:
    """Gradients of x and of the taps, as wanted."""

    def run(g_SBC: Tensor, x_TBC: Tensor, k_KC: Tensor) -> list[Tensor]:
        (T, B, C), S, K = x_TBC.shape, len(g_SBC), len(k_KC)
        M, (size, taps) = B * C, _tiles(x_TBC, S, k_KC)
        dx = new_float32(T if need_x else 0, B, C)
        dk = new_float32(-(-M // size) if need_k else 0, K, size).zero_()
        given = (as_float32(g_SBC, S, M), as_float32(x_TBC, T, M), taps)
        given = (*given, dx.view(len(dx), M).numpy(), dk.numpy())
        run_tiles(adjoint_columns, S * K, M, size, *given, fixed=True)
        found = [dx.to(x_TBC.dtype)] if need_x else []
        return found + ([dk.view(-1, K, size // C, C).sum((0, 2))] if need_k else [])

    found = _by_parts(run, g_SBC, x_TBC, k_CK.flip(1).T)
    return [*found[:-1], found[-1].T.to(k_CK.dtype)] if need_k else found
