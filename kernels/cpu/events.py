"""Events on the CPU: random words for each, steps that events start, counts per step and channel.

One thread each: batches are made in worker processes, and numba's threads do not survive a fork.

Legend: n events, B clips, T steps, C channels.
"""

import numpy as np
import torch
from torch import Tensor

from .compiled import compiled

U, W = np.uint64, np.uint32


@compiled()
def _words(begin, index, seed, epoch, stream, out):
    """`philox.words` in words of 32 bits and unsigned indices: so the loop over events vectorises,
    ten times as fast as with 64 bits.
    """
    a, b, up = U(0xD2511F53), U(0xCD9E8D57), U(32)
    for clip in range(len(index)):
        first, end, c1 = begin[clip], begin[clip + 1], W(index[clip])
        w0, w1, w2, w3 = out[0, first:end], out[1, first:end], out[2, first:end], out[3, first:end]
        for i in range(U(end - first)):
            x0, x1, x2, x3 = W(i), c1, W(epoch), W(stream)
            k0, k1 = W(U(seed)), W(U(seed) >> up)
            for _ in range(10):
                p, q = a * U(x0), b * U(x2)
                x0, x1, x2, x3 = W(W(q >> up) ^ x1 ^ k0), W(q), W(W(p >> up) ^ x3 ^ k1), W(p)
                k0, k1 = W(k0 + W(0x9E3779B9)), W(k1 + W(0xBB67AE85))
            w0[i], w1[i], w2[i], w3[i] = x0, x1, x2, x3


def event_words(
    clip_n: Tensor, begin_B: Tensor, index_B: Tensor, seed: int, epoch: int, stream: int
) -> Tensor:
    """See `reference_events.event_words`."""
    out = torch.empty((4, len(clip_n)), dtype=torch.int32)
    begin = np.append(begin_B.numpy(), len(clip_n))
    words = out.numpy().view(W)
    _words(begin, index_B.numpy(), np.int64(seed), epoch, stream, words)
    return out


@compiled()
def _latest(t, alive, begin, out):
    for clip in range(len(out)):
        found = np.int64(-1)
        if len(alive):
            for i in range(begin[clip], begin[clip + 1]):
                found = max(found, np.int64(t[i]) if alive[i] else np.int64(-1))
        else:
            for i in range(begin[clip], begin[clip + 1]):
                found = max(found, np.int64(t[i]))
        out[clip] = found


def latest(t_n: Tensor, clip_n: Tensor, begin_B: Tensor, alive_n: Tensor | None) -> Tensor:
    """See `reference_events.latest`."""
    out = torch.empty(len(begin_B), dtype=torch.int64)
    begin = np.append(begin_B.numpy(), len(t_n))
    _latest(t_n.numpy(), _mask(alive_n), begin, out.numpy())
    return out


@compiled()
def _anchored(t, alive, begin, dt, out):
    for clip in range(len(begin) - 1):
        lo, hi = begin[clip], begin[clip + 1]
        living = t[lo:hi]
        if len(alive):
            living = living[alive[lo:hi]]
        if np.any(living[1:] < living[:-1]):
            living = np.sort(living)
        anchors = np.empty(len(living), np.int64)  # the time at which each step starts
        n = 0
        for when in living:
            if n == 0 or when >= anchors[n - 1] + dt:
                anchors[n] = when
                n += 1
        step = 0
        for i in range(lo, hi):
            if len(alive) and not alive[i]:
                out[i] = -1
                continue
            # events are sorted, or nearly: the step of the last one is a good guess
            while step + 1 < n and t[i] >= anchors[step + 1]:
                step += 1
            while t[i] < anchors[step]:
                step -= 1
            out[i] = step


def anchored_steps(
    t_n: Tensor, clip_n: Tensor, begin_B: Tensor, alive_n: Tensor | None, dt_us: int, most: int
) -> Tensor:
    """See `reference_events.anchored_steps`."""
    out = torch.empty(len(t_n), dtype=torch.int32)
    begin = np.append(begin_B.numpy(), len(t_n))
    _anchored(t_n.numpy(), _mask(alive_n), begin, dt_us, out.numpy())
    return out


@compiled()
def _count(t, unit, clip, alive, dt, channel, y):
    T, B, C = y.shape
    y[:] = 0
    flat, end = y.ravel(), np.int64(T) * dt
    per_us = 1.0 / dt
    for i in range(len(t)):
        when, u = np.int64(t[i]), np.int64(unit[i])
        if when < 0 or when >= end or u < 0 or u >= len(channel) or (len(alive) and not alive[i]):
            continue
        # a division takes longer than all the rest: multiply, and mend the last unit
        step = np.int64(when * per_us)
        step -= step * dt > when
        step += (step + 1) * dt <= when
        flat[U((step * B + clip[i]) * C + channel[u])] += np.float32(1)


def count_events(
    t_n: Tensor,
    unit_n: Tensor,
    clip_n: Tensor,
    alive_n: Tensor | None,
    shape: tuple[int, int, int],
    dt_us: int,
    units_per_channel: int,
) -> Tensor:
    """See `reference_events.count_events`."""
    y = torch.empty(shape, dtype=torch.float32)
    channel = np.arange(shape[2] * units_per_channel) // units_per_channel
    arrays = (t_n.numpy(), unit_n.numpy(), clip_n.numpy(), _mask(alive_n))
    _count(*arrays, dt_us, channel, y.numpy())
    return y


def _mask(alive_n: Tensor | None) -> np.ndarray:
    """Empty where all live: numba takes no None in place of an array without compiling anew."""
    return np.empty(0, np.bool_) if alive_n is None else alive_n.numpy()
