"""Delays of channels in Triton: a filter along time for every column of a step.

Legend: T input steps, S output steps, B batch, C channels, K delay taps, M = B C columns, R = S B
rows. In kernels: i_ index, BT, BM, BR and BC sizes of a block.
"""

# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false
# (the body of a jit function is Triton's language)
import torch
import triton
import triton.language as tl
from torch import Tensor

from ..sizes import cdiv
from .device import on_its_device

BLOCK = dict(BT=16, BM=64)  # steps and columns of a program
SUMS = dict(BR=64, BC=32)  # rows at a time and channels of a program
PARTS = 64  # programs that share the rows of a tap

# -- kernels ---


@triton.jit(do_not_specialize=["T", "S", "M", "C", "K", "shift"])
def filter_kernel(
    x,  # (T, M)
    k,  # taps, (C, K)
    y,  # out: y[t] = sum_j k[j] x[t + j - shift], (S, M)
    T,
    S,
    M,
    C,
    K,
    shift,
    FLIP: tl.constexpr,  # whether the taps are taken from the last to the first
    BT: tl.constexpr,
    BM: tl.constexpr,
):
    i_m = tl.program_id(0) * BM + tl.arange(0, BM)
    i_t = tl.program_id(1) * BT + tl.arange(0, BT)
    live = i_m < M
    acc = tl.zeros([BT, BM], tl.float32)
    for j in range(K):
        tap = tl.load(k + (i_m % C) * K + (K - 1 - j if FLIP else j), live, other=0.0)
        at = i_t + j - shift
        inside = ((at >= 0) & (at < T))[:, None] & live[None, :]
        x_t = tl.load(x + tl.cast(at, tl.int64)[:, None] * M + i_m[None, :], inside, other=0.0)
        acc += tap.to(tl.float32)[None, :] * x_t.to(tl.float32)
    out = tl.cast(i_t, tl.int64)[:, None] * M + i_m[None, :]
    tl.store(y + out, acc.to(y.dtype.element_ty), (i_t < S)[:, None] & live[None, :])


@triton.jit(do_not_specialize=["T", "S", "B", "C", "K", "rows"])
def correlate_kernel(
    g,  # gradient of the output, (S, B, C)
    x,  # (T, B, C)
    part,  # out: sum over a program's rows of g[t] x[t + j - (K-1)], (PARTS, K, C) float32
    T,
    S,
    B,
    C,
    K,
    rows,  # of a program
    BR: tl.constexpr,
    BC: tl.constexpr,
):
    i_c = tl.program_id(0) * BC + tl.arange(0, BC)
    j, i_p = tl.program_id(1), tl.program_id(2)
    live, first = i_c < C, tl.cast(i_p, tl.int64) * rows
    R, back = tl.cast(S, tl.int64) * B, tl.cast(K - 1 - j, tl.int64) * B
    acc = tl.zeros([BC], tl.float32)
    for r in range(0, rows, BR):
        i_r = r + tl.arange(0, BR)
        mine = (i_r < rows) & (first + i_r < R)
        at = first + i_r
        g_r = tl.load(g + at[:, None] * C + i_c[None, :], mine[:, None] & live[None, :], other=0.0)
        inside = mine & (at >= back) & (at - back < tl.cast(T, tl.int64) * B)
        before = (at - back)[:, None] * C + i_c[None, :]
        x_r = tl.load(x + before, inside[:, None] & live[None, :], other=0.0)
        acc += tl.sum(g_r.to(tl.float32) * x_r.to(tl.float32), 0)
    tl.store(part + (tl.cast(i_p, tl.int64) * K + j) * C + i_c, acc, live)


# -- launchers ---


@on_its_device
def _filter(x_TBC: Tensor, k_CK: Tensor, S: int, shift: int, flip: bool) -> Tensor:
    T, B, C = x_TBC.shape
    y, M = x_TBC.new_empty(S, B, C), B * C
    grid = (cdiv(M, BLOCK["BM"]), cdiv(S, BLOCK["BT"]))
    sizes = (T, S, M, C, k_CK.shape[1], shift)
    filter_kernel[grid](x_TBC.contiguous(), k_CK.contiguous(), y, *sizes, FLIP=flip, **BLOCK)
    return y


@on_its_device
def _correlate(g_SBC: Tensor, x_TBC: Tensor, K: int) -> Tensor:
    S, B, C = g_SBC.shape
    rows = cdiv(S * B, PARTS)
    part = g_SBC.new_empty((PARTS, K, C), dtype=torch.float32)
    grid = (cdiv(C, SUMS["BC"]), K, PARTS)
    sizes = (len(x_TBC), S, B, C, K, rows)
    correlate_kernel[grid](g_SBC.contiguous(), x_TBC.contiguous(), part, *sizes, **SUMS)
    return part.sum(0).T  # no atomics, so the same bits every time


def delay_depthwise_fwd(x_TBC: Tensor, k_CK: Tensor, extra_steps: int) -> Tensor:
    """``y[t, c] = sum_i k[c, i] x[t - (K-1) + i, c]``, (T + extra_steps, B, C)."""
    return _filter(x_TBC, k_CK, len(x_TBC) + extra_steps, k_CK.shape[1] - 1, False)


def delay_depthwise_bwd(
    g_SBC: Tensor, x_TBC: Tensor, k_CK: Tensor, need_x: bool, need_k: bool
) -> list[Tensor]:
    """Gradients of x and of the taps, as wanted."""
    found = [_filter(g_SBC, k_CK, len(x_TBC), 0, True)] if need_x else []
    return [*found, _correlate(g_SBC, x_TBC, k_CK.shape[1]).to(k_CK.dtype)] if need_k else found
