"""Integer delays on a GPU, event-driven: one tap per synapse and work in proportion to the spikes.

One warp owns 32 neurons of one sample, a lane each, and walks the spikes of that sample channel by
channel: a spike of channel c at step t adds ``w[n, c]`` to ``y[t + delay[n, c]]``. The current that
a lane adds to is its own, so nothing needs atomics, and the order of each sum is fixed. The spike
times of a channel are bits of 64-step words, so a silent stretch of 64 steps costs one test.

Account for 256 neurons x 256 channels, batch 256, T 112 at activity a: 7.3 M a spikes, each 8 warps
times one read and one write that lanes with different delays spread over up to K rows (18 of 25 on
average): about 2.1 G a accesses, 132 processors taking one each clock: 9 ms a. An H100 took 22 ms a
and 0.2 ms (0.65 ms at an activity of 2 %, 1.96 ms at 8 %), and 0.45 ms for the same layer as
one-hot taps at ``default`` (delay_one_hot.py), whose work grows with K. Memory keeps a warp waiting
at each spike, 0.76 us, so fewer samples than fill the GPU take as long: ``costs.walk_seconds``.

Legend: T input steps, S output steps, B batch, C input channels, N neurons, W words of 64 steps.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..registered import register
from ..sizes import cdiv
from .device import on_its_device

LANES = 32

# -- kernels ---


@triton.jit(do_not_specialize=["T"])
def spike_words_kernel(
    x,  # counts, (T, B, C), or if PACKED bits of spikes, (T, B, ceil(C / 32)) int32
    words,  # out: bit i of word k is set where step 64 k + i is not zero, (B, C, W) int64
    T,
    B,
    C,
    pitch,  # C, or ceil(C / 32) if PACKED
    PACKED: tl.constexpr,
    BC: tl.constexpr,
):
    i_c = tl.program_id(0) * BC + tl.arange(0, BC)
    i_b, i_k, i_bit = tl.program_id(1), tl.program_id(2), tl.arange(0, 64)
    i_t = i_k * 64 + i_bit
    i_x = i_c // 32 if PACKED else i_c
    p_x = x + (i_t.to(tl.int64) * B + i_b)[:, None] * pitch + i_x[None, :]
    b_x = tl.load(p_x, (i_t < T)[:, None] & (i_c < C)[None, :], other=0)
    if PACKED:
        b_x = (b_x >> (i_c % 32)[None, :]) & 1
    b_word = tl.sum((b_x != 0).to(tl.int64) << i_bit[:, None], 0)  # distinct bits: their sum is or
    at = (i_b.to(tl.int64) * C + i_c) * tl.num_programs(2) + i_k
    tl.store(words + at, b_word, i_c < C)


@triton.jit(do_not_specialize=["W", "S"])
def delay_integer_kernel(
    words,  # steps at which a channel fires, (B, C, W) int64
    x,  # counts, (T, B, C); not read if PACKED: a spike counts 1
    w,  # weights, (C, N)
    delay,  # delays in steps, (C, N) int32
    y,  # in: zeros, out: currents, (S, B, N)
    W,
    S,
    B,
    C,
    N,
    PACKED: tl.constexpr,
    BN: tl.constexpr,
):
    i_n = tl.program_id(0) * BN + tl.arange(0, BN)
    i_b = tl.program_id(1)
    p_words = words + i_b.to(tl.int64) * C * W
    for j in range(C * W):
        word = tl.load(p_words + j).to(tl.uint64, bitcast=True)
        if word != 0:
            i_c = j // W
            b_w = tl.load(w + i_c * N + i_n, i_n < N, other=0.0)
            b_delay = tl.load(delay + i_c * N + i_n, i_n < N, other=0)
            while word != 0:
                rest = word & (word - 1)
                # the lowest set bit is a power of two, and a float's exponent is its logarithm
                bit = ((word ^ rest).to(tl.float32).to(tl.int32, bitcast=True) >> 23) - 127
                t = j % W * 64 + bit
                b_add = b_w
                if not PACKED:
                    b_add *= tl.load(x + (t.to(tl.int64) * B + i_b) * C + i_c).to(tl.float32)
                i_t = t + b_delay
                p_y = y + (i_t.to(tl.int64) * B + i_b) * N + i_n
                mask = (i_n < N) & (i_t < S)
                tl.store(p_y, tl.load(p_y, mask, other=0.0) + b_add, mask)
                word = rest


# -- registered op ---


@on_its_device
def _run(x, w, delay, extra_steps):
    (T, B, pitch), (N, C) = x.shape, w.shape
    packed = x.dtype == torch.int32
    x, w_CN, delay_CN = (a.contiguous() for a in (x, w.t().float(), delay.t().int()))
    W, S = cdiv(T, 64), T + extra_steps
    words = x.new_empty((B, C, W), dtype=torch.int64)
    spike_words_kernel[(cdiv(C, 32), B, W)](
        x, words, T, B, C, pitch, PACKED=packed, BC=32, num_warps=4, enable_fp_fusion=False
    )
    y = x.new_zeros((S, B, N), dtype=torch.float32)
    delay_integer_kernel[(cdiv(N, LANES), B)](
        words, x, w_CN, delay_CN, y, W, S, B, C, N,
        PACKED=packed, BN=LANES, num_warps=1, enable_fp_fusion=False,
    )  # fmt: skip
    return y if packed else y.to(x.dtype)


def _fake(x, w, delay, extra_steps):
    dtype = torch.float32 if x.dtype == torch.int32 else x.dtype
    return x.new_empty((x.shape[0] + extra_steps, x.shape[1], w.shape[0]), dtype=dtype)


_delay_integer = register(
    "triton_delay_integer(Tensor x, Tensor w, Tensor delay, int extra_steps) -> Tensor",
    _run,
    _fake,
)

# -- public ---


def delay_integer(x_TBC: Tensor, w_NC: Tensor, delay_NC: Tensor, extra_steps: int = 0) -> Tensor:
    """Synapses with one integer delay each: ``y[t] = sum_c w[n, c] x[t - delay[n, c], c]``.

    Args:
        x_TBC: spikes or counts, (T, B, C), floating; or spikes as bits, (T, B, ceil(C / 32)) int32,
            bit j of word k for channel 32 k + j. Zero before t = 0 and after T.
        w_NC: weights, (N, C), floating; used in float32.
        delay_NC: delays in steps, (N, C), integer, >= 0.
        extra_steps: how many steps the output outlasts the input, >= 0.

    Returns:
        Input current, (T + extra_steps, B, N), in the dtype of ``x_TBC``, float32 for bits;
        accumulated in float32. Not differentiable.

    Raises:
        ValueError: the shapes disagree.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.2, evaluation.
    """
    N, C = w_NC.shape
    width = (C + 31) // 32 if x_TBC.dtype == torch.int32 else C
    if x_TBC.ndim != 3 or x_TBC.shape[2] != width or delay_NC.shape != w_NC.shape:
        raise ValueError(
            f"delay_integer: for weights (N, C) = {(N, C)} x must be (T, B, {width}) and delay"
            f" {(N, C)}, not {tuple(x_TBC.shape)} and {tuple(delay_NC.shape)}"
        )
    return _delay_integer(x_TBC, w_NC, delay_NC, extra_steps)
