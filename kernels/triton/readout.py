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
    v0,  # potential before the first step, (B, N), or None for 0
    keep,  # what a step leaves of the potential, (N,); None: decay
    v,  # out: potential after each step, (T, B, N)
    decay,
    T,
    B,
    N,
    Q: tl.constexpr,
    BN: tl.constexpr,
):
    _, i_n, live, i_m, M = place(B, N, BN)
    i_q = tl.arange(0, Q)[:, None]
    k = decay if keep is None else load(keep, i_n, live)
    v_t = tl.zeros([BN], tl.float32) if v0 is None else load(v0, i_m, live)
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
    dv0,  # out: (B, N), or None
    dkeep,  # out: gradient of every sample, (B, N) float32, or None
    decay,
    T,
    B,
    N,
    Q: tl.constexpr,
    BN: tl.constexpr,
):
    _, i_n, live, i_m, M = place(B, N, BN)
    i_q = tl.arange(0, Q)[:, None]
    k = decay if keep is None else load(keep, i_n, live)
    first = tl.zeros([BN], tl.float32) if v0 is None else load(v0, i_m, live)
    g = tl.zeros([BN], tl.float32)
    gk = g
    for t in range((tl.cdiv(T, Q) - 1) * Q, -1, -Q):
        i_t = t + i_q
        gs = load_steps(dv, i_t, i_m, live, T, M).to(tl.float32)
        if dkeep is not None:
            before = load_steps(v, i_t - 1, i_m, live, T, M).to(tl.float32)
            before = tl.where(i_t == 0, first[None, :], before)
        p_dx = dx + tl.cast(t + Q, tl.int64) * M + i_m
        for q in tl.static_range(Q - 1, -1, -1):
            g = k * g + row(gs, i_q, q)
            if dkeep is not None:
                gk += g * row(before, i_q, q)
            p_dx -= M
            tl.store(p_dx, g.to(dx.dtype.element_ty), i_n < tl.where(t + q < T, N, 0))
    if dv0 is not None:
        tl.store(dv0 + i_m, (k * g).to(dv0.dtype.element_ty), live)
    if dkeep is not None:
        tl.store(dkeep + i_m, gk, live)


# -- launchers ---

STEPS_READOUT = 32  # per tile


def _keep(keep: Tensor | float) -> dict:
    """A value per neuron, or a number for all."""
    return dict(keep=keep, decay=0.0) if torch.is_tensor(keep) else dict(keep=None, decay=keep)


def readout_fwd_arguments(x_TBN: Tensor, v_BN: Tensor | None, keep: Tensor | float) -> dict:
    """All that ``readout_fwd_kernel`` takes but sizes."""
    return dict(x=x_TBN, v0=v_BN, v=x_TBN.new_empty(x_TBN.shape), **_keep(keep))


def readout_bwd_arguments(
    dv_TBN: Tensor,
    v_TBN: Tensor,
    v_BN: Tensor | None,
    keep: Tensor | float,
    need_v: bool,
    need_keep: bool,
) -> dict:
    """All that ``readout_bwd_kernel`` takes but sizes."""
    _, B, N = dv_TBN.shape
    return dict(
        dv=dv_TBN,
        v=v_TBN,
        v0=v_BN,
        dx=dv_TBN.new_empty(dv_TBN.shape),
        dv0=v_BN.new_empty((B, N)) if need_v and v_BN is not None else None,
        dkeep=dv_TBN.new_empty((B, N), dtype=torch.float32) if need_keep else None,
        **_keep(keep),
    )


def readout_fwd(x_TBN: Tensor, v_BN: Tensor | None, keep: Tensor | float) -> Tensor:
    """``v[t] = keep v[t-1] + x[t]`` from v_BN (B, N) on (None: 0), summed in float32; keep is (N,)
    float32 or a number. Returns v, (T, B, N) in the dtype of x.
    """
    a = readout_fwd_arguments(x_TBN, v_BN, keep)
    launch(x_TBN, readout_fwd_kernel, STEPS_READOUT, a)
    return a["v"]


def readout_bwd(
    dv_TBN: Tensor,
    v_TBN: Tensor,
    v_BN: Tensor | None,
    keep: Tensor | float,
    need_v: bool = True,
    need_keep: bool = True,
) -> list[Tensor]:
    """Adjoint of ``readout_fwd``, which returned v_TBN: gradients of x (T, B, N) and, as wanted, of
    the first potential (B, N) and of keep (N,) float32.
    """
    a = readout_bwd_arguments(dv_TBN, v_TBN, v_BN, keep, need_v, need_keep)
    launch(dv_TBN, readout_bwd_kernel, STEPS_READOUT, a)
    found = [a["dx"]] if a["dv0"] is None else [a["dx"], a["dv0"]]
    return [*found, a["dkeep"].sum(0)] if need_keep else found
