"""The leaky readout in Triton, the simplest of the scans over time.

Legend: T time steps, B batch, N neurons, M = B N neurons of all samples, Q steps per tile, BN
neurons per program. In kernels: i_ index, g gradient.
"""

# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false
# (the body of a jit function is Triton's language)
import torch
import triton
import triton.language as tl
from torch import Tensor

from .scan import launch, load, load_steps, place, row

# -- kernels ---


@triton.jit(do_not_specialize=["T", "B", "N"])
def readout_fwd_kernel(
    x,  # input current, (T, B, N)
    v0,  # potential before the first step, (B, N)
    keep,  # what a step leaves of the potential, (N,)
    v,  # out: potential after each step, (T, B, N)
    T,
    B,
    N,
    Q: tl.constexpr,
    BN: tl.constexpr,
):
    _, i_n, live, i_m, M = place(B, N, BN)
    i_q = tl.arange(0, Q)[:, None]
    k, v_t = load(keep, i_n, live), load(v0, i_m, live)
    for t in range(0, T, Q):
        xs = load_steps(x, t + i_q, i_m, live, T, M).to(tl.float32)
        for q in tl.static_range(Q):
            v_t = k * v_t + row(xs, i_q, q)
            tl.store(v + i_m, v_t.to(v.dtype.element_ty), i_n < tl.where(t + q < T, N, 0))
            v += M


@triton.jit(do_not_specialize=["T", "B", "N"])
def readout_bwd_kernel(
    dv,  # gradient of the potentials, (T, B, N)
    v,  # potential after each step, (T, B, N)
    v0,
    keep,
    dx,  # out: (T, B, N)
    dv0,  # out: (B, N)
    dkeep,  # out: gradient of every sample, (B, N) float32
    T,
    B,
    N,
    Q: tl.constexpr,
    BN: tl.constexpr,
):
    _, i_n, live, i_m, M = place(B, N, BN)
    i_q = tl.arange(0, Q)[:, None]
    k, first = load(keep, i_n, live), load(v0, i_m, live)
    g = tl.zeros([BN], tl.float32)
    gk = g
    for t in range((tl.cdiv(T, Q) - 1) * Q, -1, -Q):
        i_t = t + i_q
        gs = load_steps(dv, i_t, i_m, live, T, M).to(tl.float32)
        before = load_steps(v, i_t - 1, i_m, live, T, M).to(tl.float32)
        before = tl.where(i_t == 0, first[None, :], before)
        p_dx = dx + tl.cast(t + Q, tl.int64) * M + i_m
        for q in tl.static_range(Q - 1, -1, -1):
            g = k * g + row(gs, i_q, q)
            gk += g * row(before, i_q, q)
            p_dx -= M
            tl.store(p_dx, g.to(dx.dtype.element_ty), i_n < tl.where(t + q < T, N, 0))
    tl.store(dv0 + i_m, (k * g).to(dv0.dtype.element_ty), live)
    tl.store(dkeep + i_m, gk, live)


# -- launchers ---

STEPS_READOUT = 32  # per tile


def readout_fwd_arguments(x_TBN: Tensor, v_BN: Tensor, keep_N: Tensor) -> dict:
    """All that ``readout_fwd_kernel`` takes but sizes."""
    return dict(x=x_TBN, v0=v_BN, keep=keep_N, v=x_TBN.new_empty(x_TBN.shape))


def readout_bwd_arguments(dv_TBN: Tensor, v_TBN: Tensor, v_BN: Tensor, keep_N: Tensor) -> dict:
    """All that ``readout_bwd_kernel`` takes but sizes."""
    return dict(
        dv=dv_TBN,
        v=v_TBN,
        v0=v_BN,
        keep=keep_N,
        dx=dv_TBN.new_empty(dv_TBN.shape),
        dv0=v_BN.new_empty(v_BN.shape),
        dkeep=v_BN.new_empty(v_BN.shape, dtype=torch.float32),
    )


def readout_fwd(x_TBN: Tensor, v_BN: Tensor, keep_N: Tensor) -> Tensor:
    """``v[t] = keep v[t-1] + x[t]`` from v_BN (B, N) on, summed in float32; keep_N is (N,) float32.
    Returns v, (T, B, N) in the dtype of x.
    """
    a = readout_fwd_arguments(x_TBN, v_BN, keep_N)
    launch(readout_fwd_kernel, x_TBN, STEPS_READOUT, a)
    return a["v"]


def readout_bwd(
    dv_TBN: Tensor, v_TBN: Tensor, v_BN: Tensor, keep_N: Tensor, need_keep: bool = True
) -> list[Tensor]:
    """Adjoint of ``readout_fwd``, which returned v_TBN: gradients of x (T, B, N), of the first
    potential (B, N) and of keep (N,) float32, which costs nothing more if it is not needed.
    """
    a = readout_bwd_arguments(dv_TBN, v_TBN, v_BN, keep_N)
    launch(readout_bwd_kernel, dv_TBN, STEPS_READOUT, a)
    return [a["dx"], a["dv0"], a["dkeep"].sum(0)]
