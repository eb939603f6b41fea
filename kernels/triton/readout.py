"""What the Triton scans over time share, and the simplest of them, the leaky readout.

A lane owns one neuron of one sample; a program is one warp, 32 neurons of one sample, and walks all
T steps. It loads Q steps at once, a tile (Q, BN) whose rows are registers of a lane, so that enough
loads are in flight to saturate the memory.

Legend: T time steps, B batch, N neurons, M = B N neurons of all samples, Q steps per tile, BN
neurons per program. In kernels: i_ index, g gradient.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..dispatch import INTERPRETED, Variant

# -- parts of kernels ---


@triton.jit
def place(B, N, BN: tl.constexpr):
    """Sample, neurons, which of them exist, their place among those of all samples, and M."""
    i_b = tl.program_id(0)
    i_n = tl.program_id(1) * BN + tl.arange(0, BN)
    M = tl.cast(B, tl.int64) * N  # 64 bits: T * M may pass 2^31
    return i_b, i_n, i_n < N, tl.cast(i_b, tl.int64) * N + i_n, M


@triton.jit
def load(p, i, live):
    """In float32; what is absent is 0."""
    if p is None:
        return 0.0
    else:
        return tl.load(p + i, live, other=0.0).to(tl.float32)


@triton.jit
def load_steps(p, i_t, i_m, live, T, M):
    """Tile (Q, BN) of the steps i_t; 0 outside."""
    at = tl.cast(i_t, tl.int64) * M + i_m[None, :]
    return tl.load(p + at, (i_t >= 0) & (i_t < T) & live[None, :], other=0.0)


@triton.jit
def row(tile, i_q, q: tl.constexpr):
    """Row q of a tile. The rows of a column lie in one lane and adding -0.0 changes nothing, so
    this compiles to the choice of a register.
    """
    return tl.sum(tl.where(i_q == q, tile, -0.0), 0)


# -- kernels of the readout ---


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


def launch(kernel, x_TBN: Tensor, steps: int, arguments: dict) -> None:
    """One warp per program. No fused multiply-add: potentials are then those of the reference, and
    the same wherever a run is cut into chunks.
    """
    arguments = {k: v.contiguous() if torch.is_tensor(v) else v for k, v in arguments.items()}
    T, B, N = x_TBN.shape
    # the interpreter pays per operation, not per element
    BN = min(1024, max(32, triton.next_power_of_2(N))) if INTERPRETED else 32
    with torch.cuda.device_of(x_TBN):
        kernel[(B, triton.cdiv(N, BN))](
            **arguments, T=T, B=B, N=N, Q=steps, BN=BN, num_warps=1, enable_fp_fusion=False
        )


def _readout_arguments(x_TBN: Tensor, v_BN: Tensor, keep_N: Tensor) -> dict:
    return dict(x=x_TBN, v0=v_BN, keep=keep_N, v=x_TBN.new_empty(x_TBN.shape))


def _readout_bwd_arguments(dv_TBN: Tensor, v_TBN: Tensor, v_BN: Tensor, keep_N: Tensor) -> dict:
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
    a = _readout_arguments(x_TBN, v_BN, keep_N)
    launch(readout_fwd_kernel, x_TBN, STEPS_READOUT, a)
    return a["v"]


def readout_bwd(
    dv_TBN: Tensor, v_TBN: Tensor, v_BN: Tensor, keep_N: Tensor, need_keep: bool = True
) -> list[Tensor]:
    """Adjoint of ``readout_fwd``, which returned v_TBN: gradients of x (T, B, N), of the first
    potential (B, N) and of keep (N,) float32, which costs nothing more if it is not needed.
    """
    a = _readout_bwd_arguments(dv_TBN, v_TBN, v_BN, keep_N)
    launch(readout_bwd_kernel, dv_TBN, STEPS_READOUT, a)
    return [a["dx"], a["dv0"], a["dkeep"].sum(0)]


# -- compile checks ---

TYPES = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int32: "*i32",
    torch.int64: "*i64",
}


def variant(name: str, kernel, steps: int, arguments: dict) -> Variant:
    arguments = arguments | dict(Q=steps, BN=32, T=1, B=1, N=1)
    types, constexprs = {}, {}
    for parameter in kernel.params:
        value = arguments[parameter.name]
        if torch.is_tensor(value):
            types[parameter.name] = TYPES[value.dtype]
        elif value is None or parameter.is_constexpr:
            types[parameter.name], constexprs[parameter.name] = "constexpr", value
        else:
            types[parameter.name] = "fp32" if isinstance(value, float) else "i32"
    return Variant(name, kernel, types, constexprs, num_warps=1)


def readout_variants() -> list[Variant]:
    """The readout kernels over dtypes, for the compile check."""
    found, plane = [], torch.empty(1, 1, device="meta")
    for dtype in (torch.float32, torch.bfloat16):
        x, name = torch.empty(1, 1, 1, dtype=dtype, device="meta"), TYPES[dtype][1:]
        fwd = _readout_arguments(x, plane, plane[0])
        bwd = _readout_bwd_arguments(x, x, plane, plane[0])
        found += [
            variant(f"readout_fwd_{name}", readout_fwd_kernel, STEPS_READOUT, fwd),
            variant(f"readout_bwd_{name}", readout_bwd_kernel, STEPS_READOUT, bwd),
        ]
    return found
