"""Synapses whose delays are whole steps, for evaluation: one tap per synapse, K times less work
than the K taps of training. No gradients.

Legend: T input steps, S output steps, B batch, C input channels, N neurons, K delay taps, E
elements per synapse. Delays are in steps, 0 ... K - 1.
"""

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from ..registered import register
from .compiled import compiled
from .threads import use_torch_threads

LEVEL1_BYTES = 2**15  # four channels of so many samples fit beside a neuron's current
SPARSE = 0.06  # with fewer non-zero inputs than this, walking from event to event is faster
U = np.uint64


# -- dense: one scaled and shifted copy of a channel per synapse, contiguous over time and batch ---
# Indices are unsigned: numba asks of a signed one whether it counts from the end, and a loop with
# that question does not vectorise.


@njit(fastmath={"contract"})
def _add_four(x, c, shift, w, y, n, lo, hi):
    s0, s1, s2, s3 = U(shift[n, c]), U(shift[n, c + 1]), U(shift[n, c + 2]), U(shift[n, c + 3])
    w0, w1, w2, w3 = w[n, c], w[n, c + 1], w[n, c + 2], w[n, c + 3]
    n, c0, c1, c2, c3 = U(n), U(c), U(c + 1), U(c + 2), U(c + 3)
    for r in range(U(lo), U(hi)):
        y[n, r] += w0 * x[c0, r - s0] + w1 * x[c1, r - s1] + w2 * x[c2, r - s2] + w3 * x[c3, r - s3]


@njit(fastmath={"contract"})
def _add_one(x, c, shift, w, y, n, lo, hi):
    """The steps lo <= r < hi that channel c reaches."""
    s, weight = shift[n, c], w[n, c]
    lo, hi = max(lo, s), min(hi, x.shape[1] + s)
    if lo < hi:
        s, n, c = U(s), U(n), U(c)
        for r in range(U(lo), U(hi)):
            y[n, r] += weight * x[c, r - s]


@compiled(parallel=True)
def add_shifted(x, w, shift, threads, y):
    """y[n, r] += sum_c w[n, c] x[c, r - shift[n, c]] for x (C, R), y (N, R'). A thread takes a part
    of the neurons; four channels stay in its first-level cache while it passes over them.
    """
    (C, R), (N, R_out) = x.shape, y.shape
    for part in prange(threads):
        for first in range(0, C, 4):
            for n in range(N * part // threads, N * (part + 1) // threads):
                lo = hi = R_out  # between lo and hi all four channels are heard
                if first + 4 <= C:
                    four = shift[n, first : first + 4]
                    lo = min(four.max(), R_out)
                    hi = max(lo, min(R_out, R + four.min()))
                    _add_four(x, first, shift, w, y, n, lo, hi)
                for c in range(first, min(C, first + 4)):
                    _add_one(x, c, shift, w, y, n, 0, lo)
                    _add_one(x, c, shift, w, y, n, hi, R_out)


@compiled(parallel=True)
def gather_block(x, first, out):
    """out (C, T, b) from the samples first ... of x (T, B, C), 16 channels at a time."""
    C, T, samples = out.shape
    for c0 in prange((C + 15) // 16):
        for t in range(T):
            for b in range(samples):
                for c in range(c0 * 16, min(C, c0 * 16 + 16)):
                    out[c, t, b] = x[t, first + b, c]


@compiled(parallel=True)
def scatter_block(y, first, out):
    """The samples first ... of out (S, B, N) from y (N, S, b), 16 neurons at a time."""
    N, S, samples = y.shape
    for n0 in prange((N + 15) // 16):
        for t in range(S):
            for b in range(samples):
                for n in range(n0 * 16, min(N, n0 * 16 + 16)):
                    out[t, first + b, n] = y[n, t, b]


# -- event-driven: every non-zero input adds its weights to the currents to come ---


@compiled(parallel=True)
def from_events(x, w, delay, y):
    """The same for x (T, B, C), w and delay (C, N), y (S, B, N): work in proportion to events."""
    (T, B, C), S, N = x.shape, y.shape[0], y.shape[2]
    for b in prange(B):
        current = np.zeros((S, N), np.float32)
        for t in range(T):
            for c in range(C):
                size = x[t, b, c]
                if size != 0:
                    for n in range(N):
                        when = t + delay[c, n]
                        if when < S:
                            current[when, n] += size * w[c, n]
        y[:, b] = current


# -- registered op and the backend "cpu" of delay.py ---


def _dense(x: Tensor, w: Tensor, delay: Tensor, S: int) -> Tensor:
    T, B, C = x.shape
    N = w.shape[1]
    y = x.new_empty(S, B, N)
    blocks = -(-B * 4 * 4 * T // LEVEL1_BYTES)
    samples = -(-B // min(B, blocks))
    for first in range(0, B, samples):
        b = min(samples, B - first)
        x_CTb, y_NSb = x.new_empty(C, T, b), x.new_zeros(N, S, b)
        gather_block(x.numpy(), first, x_CTb.numpy())
        signals = x_CTb.view(C, -1).numpy(), y_NSb.view(N, -1).numpy()
        for w_NC, shift_NC in zip(w, delay.long() * b, strict=True):
            synapses = w_NC.numpy(), shift_NC.numpy()
            add_shifted(signals[0], *synapses, torch.get_num_threads(), signals[1])
        scatter_block(y_NSb.numpy(), first, y.numpy())
    return y


def _events(x: Tensor, w: Tensor, delay: Tensor, S: int) -> Tensor:
    y = x.new_zeros(S, x.shape[1], w.shape[1])
    for w_NC, delay_NC in zip(w, delay, strict=True):
        part = torch.empty_like(y)
        from_events(*(a.numpy() for a in (x, w_NC.T.contiguous(), delay_NC.T.contiguous(), part)))
        y += part
    return y


def _run(x, w, delay, K, S):
    low, high = (int(bound) for bound in delay.aminmax())
    if low < 0 or high >= K:
        raise ValueError(f"delay_integer: delays must be in 0 ... {K - 1}, not {low} ... {high}")
    use_torch_threads()
    x, w, delay = x.contiguous(), w.contiguous(), delay.contiguous()
    some = x[:, :: max(1, x.shape[1] // 4)]  # a few clips tell how busy the batch is
    sparse = some.count_nonzero() < SPARSE * some.numel()
    return (_events if sparse else _dense)(x, w, delay, S)


_cpu = register(
    "cpu_delay_integer(Tensor x, Tensor w, Tensor delay, int K, int S) -> Tensor",
    _run,
    lambda x, w, delay, K, S: x.new_empty(S, x.shape[1], w.shape[1]),
)


def cpu_delay_integer(
    x_TBC: Tensor, w_ENC: Tensor, delay_ENC: Tensor, K: int, extra_steps: int
) -> Tensor:
    x = x_TBC.detach().float()
    y = _cpu(x, w_ENC.detach().float(), delay_ENC, K, x.shape[0] + extra_steps)
    return y.to(x_TBC.dtype)
