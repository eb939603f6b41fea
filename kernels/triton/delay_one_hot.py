"""Delays of whole steps on a GPU through the dense convolution: every synapse is one tap.

The convolution builds its taps from positions, so a delay of whole steps is version ``v0`` at a
whole position: one tap of exactly 1, which nothing is divided by. The work is that of K taps and
does not depend on the activity; ``choice.events_win`` says when walking the events is faster.
Spikes are exact in bfloat16, so errors come from weights alone, which are cut into 3, 2 or 1 parts
of 8 bits: exact at ``highest``, 2^-16 at ``default``, 2^-8 at ``fast``. Sums are float32, as
delay.py says.

Legend: T input steps, S output steps, B batch, C input channels, N neurons, E elements per synapse,
R rows t * B + b, W words of 32 channels.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..registered import register
from ..sizes import cdiv
from ..synapses import Synapses
from .delay_launch import conv, split_input
from .device import on_its_device

# -- kernel ---


@triton.jit(do_not_specialize=["R"])
def spike_planes_kernel(
    bits,  # spikes, bit j of word k is channel 32 k + j, (R, W) int32
    planes,  # out: the spikes as 0 and 1, (R, pitch) bfloat16
    R,
    C,
    W,
    pitch,  # C rounded up to 16
    BR: tl.constexpr,
    BC: tl.constexpr,
):
    i_r = tl.program_id(0).to(tl.int64) * BR + tl.arange(0, BR)
    i_c = tl.program_id(1) * BC + tl.arange(0, BC)
    mask = (i_r < R)[:, None] & (i_c < C)[None, :]
    b_word = tl.load(bits + i_r[:, None] * W + i_c[None, :] // 32, mask, other=0)
    b_spike = ((b_word >> (i_c % 32)[None, :]) & 1).to(tl.float32)
    p_out = planes + i_r[:, None] * pitch + i_c[None, :]
    tl.store(p_out, b_spike.to(tl.bfloat16), (i_r < R)[:, None] & (i_c < pitch)[None, :])


# -- launchers ---

ROWS, CHANNELS = 32, 64  # of a program


def spike_planes(bits_TBW: Tensor, C: int) -> Tensor:
    """Packed spikes as the one part that they have, (1, T * B, C rounded up to 16)."""
    T, B, W = bits_TBW.shape
    pitch = cdiv(C, 16) * 16
    planes = bits_TBW.new_empty((1, T * B, pitch), dtype=torch.bfloat16)
    grid = (cdiv(T * B, ROWS), cdiv(pitch, CHANNELS))
    spike_planes_kernel[grid](
        bits_TBW.contiguous(), planes, T * B, C, W, pitch, BR=ROWS, BC=CHANNELS,
        num_warps=4, enable_fp_fusion=False,
    )  # fmt: skip
    return planes


# -- registered op, without a gradient ---


@on_its_device
def _run(x, w, delay, K, extra_steps, precision):
    T, B, _ = x.shape
    if x.dtype == torch.int32:
        planes, used, dtype = spike_planes(x, w.shape[2]), None, torch.float32
    else:
        planes, used = split_input(x, precision)
        dtype = x.dtype
    w = w.float().contiguous()
    position = (float(K - 1 - K // 2) - delay).float()  # one launch: of type float at once
    synapses = Synapses(w, position.contiguous(), w.new_zeros(()), K, "v0")
    return conv(planes, used, synapses, (T + extra_steps, B), -1, precision, dtype)[0]


def _fake(x, w, delay, K, extra_steps, precision):
    dtype = torch.float32 if x.dtype == torch.int32 else x.dtype
    return x.new_empty((x.shape[0] + extra_steps, x.shape[1], w.shape[1]), dtype=dtype)


_delay_one_hot = register(
    "triton_delay_one_hot(Tensor x, Tensor w, Tensor delay, int K, int extra_steps, "
    "str precision) -> Tensor",
    _run,
    _fake,
)

# -- public ---


def delay_integer(
    x_TBC: Tensor,
    w_ENC: Tensor,
    delay_ENC: Tensor,
    K: int,
    extra_steps: int = 0,
    precision: str = "highest",
) -> Tensor:
    """Synapses whose delays are whole steps: ``y[t] = sum_e sum_c w[e, n, c] x[t - delay, c]``.

    Args:
        x_TBC: spikes or counts, (T, B, C), floating; or spikes as bits, (T, B, ceil(C / 32)) int32,
            bit j of word k for channel 32 k + j. Zero before t = 0. Counts above 256 lose bits
            but at ``highest``.
        w_ENC: weights, (E, N, C), floating; used in float32.
        delay_ENC: delays in steps, 0 ... K - 1, (E, N, C), integer.
        K: number of possible delays.
        extra_steps: how many steps the output outlasts the input, >= 0.
        precision: ``highest``, ``default`` or ``fast``.

    Returns:
        Input current, (T + extra_steps, B, N), in the dtype of ``x_TBC``, float32 for bits. Not
        differentiable.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.2, evaluation.
    """
    return _delay_one_hot(x_TBC, w_ENC, delay_ENC, K, extra_steps, precision)
