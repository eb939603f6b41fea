"""BatchNorm around the delay convolution: the statistics of its blocks of rows become scale and
shift in one small kernel, and the adjoint is formed as the output's gradient is cut into parts.

Legend: R rows t * B + b, G blocks of rows, N neurons, P parts of an operand. Prefixes: b_ block
value, p_ pointer, i_ index.
"""

# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false
# (the body of a jit function is Triton's language)
import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.graph import increment_version

from ..registered import register
from ..sizes import cdiv
from .delay_kernels import store_parts
from .delay_launch import ROUNDED, planes_of
from .device import on_its_device
from .scan import load

# -- kernels ---


@triton.jit(do_not_specialize=["rows", "G"])
def norm_fwd_kernel(
    partial,  # mean and sum of squared deviations of blocks of BM rows, (G, 2, N)
    gamma,  # (N,), or None for 1
    beta,  # (N,), or None for 0
    mean,  # out: of all rows, (N,)
    var,  # out: biased, (N,)
    scale,  # out: gamma / sqrt(var + eps), (N,)
    shift,  # out: beta - mean scale, (N,)
    eps,
    rows,
    G,
    N,
    BM,
    BG: tl.constexpr,
    BN: tl.constexpr,
):
    i_n = tl.program_id(0) * BN + tl.arange(0, BN)
    live, total = i_n < N, rows.to(tl.float32)
    b_mean = tl.zeros([BN], tl.float32)
    b_square = b_mean
    for first in range(0, G, BG):
        i_g = first + tl.arange(0, BG)
        b_count = tl.maximum(tl.minimum(rows - i_g * BM, BM), 0).to(tl.float32)[:, None]
        p_mean = partial + (i_g * 2 * N)[:, None] + i_n[None, :]
        b_part = tl.load(p_mean, (i_g < G)[:, None] & live[None, :], other=0.0)
        b_mean += tl.sum(b_part * b_count, 0)
    b_mean = tl.div_rn(b_mean, total)
    for first in range(0, G, BG):  # Chan, Golub and LeVeque 1983
        i_g = first + tl.arange(0, BG)
        b_count = tl.maximum(tl.minimum(rows - i_g * BM, BM), 0).to(tl.float32)[:, None]
        p_mean = partial + (i_g * 2 * N)[:, None] + i_n[None, :]
        mask = (i_g < G)[:, None] & live[None, :]
        b_off = tl.load(p_mean, mask, other=0.0) - b_mean[None, :]
        b_square += tl.sum(tl.load(p_mean + N, mask, other=0.0) + b_off * b_off * b_count, 0)
    tl.store(mean + i_n, b_mean, live)
    b_var = tl.div_rn(b_square, total)
    tl.store(var + i_n, b_var, live)
    b_scale = tl.div_rn(1.0, tl.sqrt_rn(b_var + eps))  # rounded: an approximation moves spikes
    if gamma is not None:
        b_scale *= tl.load(gamma + i_n, live, other=0.0)
    tl.store(scale + i_n, b_scale, live)
    tl.store(shift + i_n, load(beta, i_n, live) - b_mean * b_scale, live)


@triton.jit(do_not_specialize=["R"])
def norm_bwd_kernel(
    dy,  # gradient of the current by way of the neurons, (R, N)
    y,  # the current, (R, N)
    mean,  # of the current, (N,)
    var,
    gamma,  # (N,), or None for 1
    dmean,  # gradients of what norm_fwd_kernel put out, (N,), or None for 0 each
    dvar,
    dscale,
    dshift,
    planes,  # out: parts of the whole gradient of the current, (P, R, pitch) bfloat16
    dgamma,  # out: (N,)
    dbeta,  # out: (N,)
    eps,
    R,
    N,
    pitch,
    P: tl.constexpr,
    ROWS: tl.constexpr,  # of a program
    BR: tl.constexpr,
    BN: tl.constexpr,
):
    i_n = tl.program_id(1) * BN + tl.arange(0, BN)
    live, share = i_n < N, tl.div_rn(1.0, R.to(tl.float32))  # of a row in the statistics
    b_mean = load(mean, i_n, live)
    b_inverse = tl.div_rn(1.0, tl.sqrt_rn(tl.load(var + i_n, live, other=1.0) + eps))
    b_gamma = 1.0 if gamma is None else load(gamma, i_n, live)
    b_dshift = tl.zeros([BN], tl.float32) + load(dshift, i_n, live)
    b_g = load(dscale, i_n, live) - b_mean * b_dshift  # of scale, by itself and by shift
    if tl.program_id(0) == 0:
        tl.store(dgamma + i_n, b_g * b_inverse, live)
        tl.store(dbeta + i_n, b_dshift, live)
    b_cube = b_inverse * b_inverse * b_inverse
    b_dvar = load(dvar, i_n, live) - 0.5 * b_gamma * b_g * b_cube
    b_dmean = load(dmean, i_n, live) - b_gamma * b_inverse * b_dshift
    b_a = (2 * share * b_dvar)[None, :]
    b_b = share * b_dmean[None, :] - b_a * b_mean[None, :]
    for r in range(0, ROWS, BR):
        i_r = tl.program_id(0).to(tl.int64) * ROWS + r + tl.arange(0, BR)
        at = i_r[:, None] * N + i_n[None, :]
        mask = (i_r < R)[:, None] & live[None, :]
        b_y = tl.load(y + at, mask, other=0.0).to(tl.float32)
        b_dy = tl.load(dy + at, mask, other=0.0).to(tl.float32)
        b_dy = tl.where(mask, b_dy + b_y * b_a + b_b, 0.0)
        p_out = planes + i_r[:, None] * pitch + i_n[None, :]
        mask = (i_r < R)[:, None] & (i_n < pitch)[None, :]
        store_parts(b_dy, p_out, mask, R.to(tl.int64) * pitch, P)


@triton.jit
def running_kernel(
    mean,  # of the batch, (N,)
    var,  # biased, (N,)
    running_mean,  # in and out: (N,)
    running_var,
    count,  # in and out: batches so far, () int64
    part,  # of the new statistics; below 0: all batches count alike
    bessel,  # rows / (rows - 1)
    N,
    BLOCK: tl.constexpr,
):
    n = tl.load(count) + 1
    if part < 0:
        part = tl.div_rn(1.0, n.to(tl.float32))
    for first in range(0, N, BLOCK):
        i = first + tl.arange(0, BLOCK)
        b_m = tl.load(running_mean + i, i < N)
        tl.store(running_mean + i, b_m + part * (tl.load(mean + i, i < N) - b_m), i < N)
        b_v = tl.load(running_var + i, i < N)
        tl.store(running_var + i, b_v + part * (tl.load(var + i, i < N) * bessel - b_v), i < N)
    tl.store(count, n)


# -- launchers ---

TILE = dict(BG=64, BN=32)
TILE_BWD = dict(ROWS=256, BR=16, BN=64)
BLOCK = 256


def norm_fwd(
    partial_G2N: Tensor,
    rows: int,
    block: int,
    gamma_N: Tensor | None,
    beta_N: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, biased variance, scale and shift, (N,) each, from mean and sum of squared deviations of
    blocks of rows.
    """
    G, _, N = partial_G2N.shape
    mean, var, scale, shift = (partial_G2N.new_empty(N) for _ in range(4))
    norm_fwd_kernel[(cdiv(N, TILE["BN"]),)](
        partial_G2N, gamma_N, beta_N, mean, var, scale, shift, eps, rows, G, N, block,
        **TILE, **ROUNDED,
    )  # fmt: skip
    return mean, var, scale, shift


def norm_bwd(
    dy_TBN: Tensor, norm: list[Tensor | None], parts: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Parts of the whole gradient of the current, (P, T * B, N rounded up to 16), and the gradients
    of gamma and beta; ``norm``: current, mean, variance, gamma, gradients of ``norm_fwd``'s four.
    """
    (T, B, N), mean = dy_TBN.shape, norm[1]
    norm = [a if a is None else a.contiguous() for a in norm]  # a gradient may be expanded
    assert mean is not None
    planes, dgamma, dbeta = planes_of(dy_TBN, parts), torch.empty_like(mean), torch.empty_like(mean)
    pitch = planes.shape[2]
    norm_bwd_kernel[(cdiv(T * B, TILE_BWD["ROWS"]), cdiv(pitch, TILE_BWD["BN"]))](
        dy_TBN.contiguous(), *norm, planes, dgamma, dbeta, eps, T * B, N, pitch,
        P=parts, **TILE_BWD, **ROUNDED,
    )  # fmt: skip
    return planes, dgamma, dbeta


@on_its_device
def _run_running(mean, var, running_mean, running_var, count, momentum, rows):
    running_kernel[(1,)](
        mean, var, running_mean, running_var, count,
        -1.0 if momentum is None else momentum, rows / (rows - 1), mean.shape[0],
        BLOCK=BLOCK, **ROUNDED,
    )  # fmt: skip
    increment_version([t for t in (running_mean, running_var, count) if not t.is_inference()])


update_running_ = register(  # see reference.update_running_
    "triton_running(Tensor mean, Tensor var, Tensor(a!) running_mean, Tensor(b!) running_var, "
    "Tensor(c!) count, float? momentum, int rows) -> ()",
    _run_running,
    lambda *_: None,
)
