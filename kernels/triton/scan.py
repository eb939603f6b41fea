"""What the Triton scans over time share.

A lane owns one neuron of one sample; a program is one warp, 32 neurons of one sample, and walks all
T steps. It loads Q steps at once, a tile (Q, BN) whose rows are registers of a lane, so that enough
loads are in flight to saturate the memory.

Legend: T time steps, B batch, N neurons, M = B N neurons of all samples, Q steps per tile, BN
neurons per program. In kernels: i_ index.
"""

import triton
import triton.language as tl
from torch import Tensor

from ..dispatch import INTERPRETED
from ..sizes import cdiv
from .device import on_its_device

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


# -- launcher ---


@on_its_device
def launch(x_TBN: Tensor, kernel, steps: int, arguments: dict) -> None:
    """One warp per program. No fused multiply-add: potentials are then those of the reference, and
    the same wherever a run is cut into chunks.
    """
    for name, a in arguments.items():
        if isinstance(a, Tensor) and not a.is_contiguous():
            arguments[name] = a.contiguous()
    T, B, N = x_TBN.shape
    # the interpreter pays per operation, not per element
    BN = min(1024, max(32, triton.next_power_of_2(N))) if INTERPRETED else 32
    arguments |= dict(T=T, B=B, N=N, Q=steps, BN=BN, num_warps=1, enable_fp_fusion=False)
    kernel[(B, cdiv(N, BN))](**arguments)
