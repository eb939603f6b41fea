"""The loops over single events that reading and framing consist of, compiled.

One thread each, without Python's lock. Legend: n events, r records of a file, T steps, P
polarities, H rows, W columns.
"""

import numpy as np

from ...kernels.cpu.compiled import compiled

EXACT = 1 << 24  # float32 counts whole numbers up to here


@compiled(nogil=True)
def atis_events(record, overflow_y, overflow_us, rows, columns, t_us, x, y, p):
    """Events of 5-byte records, uint8 (r, 5), into t_us int64, x and y int32 and p int8, (r,) each.
    Returns how many there are, and the first record that lies off the sensor, -1: none does."""
    n, later = 0, np.int64(0)
    for i in range(len(record)):
        column, row = record[i, 0], record[i, 1]
        if row == overflow_y:
            later += overflow_us
            continue
        if column >= columns or row >= rows:
            return n, i
        high, middle, low = np.int64(record[i, 2]), np.int64(record[i, 3]), np.int64(record[i, 4])
        t_us[n] = ((high & 127) << 16 | middle << 8 | low) + later
        x[n], y[n], p[n] = column, row, high >> 7
        n += 1
    return n, -1


@compiled(nogil=True)
def atis_extent(record, overflow_y):
    """The largest row and column of 5-byte records, uint8 (r, 5); -1: there is no event."""
    row = column = -1
    for i in range(len(record)):
        if record[i, 1] != overflow_y:
            row, column = max(row, np.int64(record[i, 1])), max(column, np.int64(record[i, 0]))
    return row, column


@compiled(nogil=True)
def _count(step, x, y, p, out):
    T, P, H, W = out.shape
    flat = out.ravel()
    for i in range(len(step)):
        if step[i] < T:
            place = ((step[i] * P + p[i]) * H + y[i]) * W + x[i]
            flat[np.uint64(place)] += out.dtype.type(1)


@compiled(nogil=True)
def _count_bytes(step, x, y, p, out):
    T, P, H, W = out.shape
    flat = out.ravel()
    lost = False
    for i in range(len(step)):
        if step[i] < T:
            place = np.uint64(((step[i] * P + p[i]) * H + y[i]) * W + x[i])
            flat[place] = np.uint8(flat[place] + 1)
            lost |= flat[place] == 0
    return not lost


def count_steps(
    step: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
    shape: tuple[int, ...],
    narrow: bool = False,
) -> np.ndarray:
    """Counts of events, (T, P, H, W), `shape`, at their steps, int64 (n,), at least 0; those of
    later steps than T are left out. x, y, p: integer (n,), checked to lie inside. float32, or if
    `narrow` uint8 where all counts are below 256, which takes a quarter of the memory."""
    # one type each, so that one kernel serves all readers
    kinds = (np.int64, np.int32, np.int32, np.int8)
    parts = [np.ascontiguousarray(*pair) for pair in zip((step, x, y, p), kinds, strict=True)]
    if narrow and _count_bytes(*parts, out := np.zeros(shape, np.uint8)):
        return out
    out = np.zeros(shape, np.float32 if len(step) < EXACT else np.float64)
    _count(*parts, out)
    return out.astype(np.float32, copy=False)


@compiled(nogil=True)
def _bins(t_us, first, span, n_steps, out):
    per_us = 1.0 / span
    for i in range(len(t_us)):
        whole = (t_us[i] - first) * n_steps
        # a division takes longer than all the rest: multiply, and mend the last unit
        step = np.int64(whole * per_us)
        step -= step * span > whole
        step += (step + 1) * span <= whole
        out[i] = min(step, n_steps - 1)


def bin_steps(t_us: np.ndarray, first: int, span: int, n_steps: int) -> np.ndarray:
    """Which of `n_steps` equal bins of first..first + span, closed on the right, each time lies in;
    both int64 (n,)."""
    out = np.empty(len(t_us), np.int64)
    _bins(np.ascontiguousarray(t_us, np.int64), first, span, n_steps, out)
    return out


@compiled(nogil=True)
def decaying(t_us, place, dt_us, tau_us, add, out):
    """What events in time order leave at the end of each step of `dt_us`, float32 (T, places):
    exp(-age / tau) of a place's last event, or if `add` of all. t_us, place: int64 (n,)."""
    now, left = np.zeros(out.shape[1]), np.exp(-dt_us / tau_us)
    i = 0
    while i < len(t_us) and t_us[i] < 0:
        i += 1
    for k in range(len(out)):
        for j in range(len(now)):
            now[j] *= left
        end_us = (k + 1) * dt_us
        while i < len(t_us) and t_us[i] < end_us:
            fresh = np.exp((t_us[i] - end_us) / tau_us)
            now[place[i]] = now[place[i]] + fresh if add else fresh
            i += 1
        for j in range(len(now)):
            out[k, j] = now[j]


@compiled(nogil=True)
def share_steps(t_us, place, first_us, span_us, out):
    """Adds every event to the two steps around it in `out`, float32 (T, places), which lie evenly
    from first_us to first_us + span_us. t_us, place: int64 (n,)."""
    for i in range(len(t_us)):
        at = (len(out) - 1) * (t_us[i] - first_us) / span_us
        step = np.int64(at)
        later = np.float32(at - step)
        out[step, place[i]] += np.float32(1) - later
        if later > 0:
            out[step + 1, place[i]] += later


@compiled(nogil=True)
def between_rows_and_columns(x, low_h, high_h, share_h, low_w, high_w, share_w, out):
    """Planes float32 (n, H, W) between four pixels each, first rows, then columns; into `out`,
    float32 (n, H', W'). `low`, `high` int64 and `share` float32 of either axis: which two lines lie
    around each new one, and how much of it the second is."""
    one = np.float32(1)
    line = np.empty(x.shape[2], np.float32)
    for n in range(len(x)):
        for h in range(len(low_h)):
            above, below, share = x[n, low_h[h]], x[n, high_h[h]], share_h[h]
            for w in range(len(line)):
                line[w] = above[w] * (one - share) + below[w] * share
            for w in range(len(low_w)):
                share = share_w[w]
                out[n, h, w] = line[low_w[w]] * (one - share) + line[high_w[w]] * share


@compiled(nogil=True)
def channels_last_batch(frames, at, out):
    """Frames (n, T, P, H W) at the places `at` int64 (B,) into `out`, float32 (T, B, H W, P)."""
    for b in range(len(at)):
        sample = frames[at[b]]
        for t in range(sample.shape[0]):
            off, on, pairs = sample[t, 0], sample[t, 1], out[t, b]
            for i in range(len(off)):
                pairs[i, 0] = off[i]
                pairs[i, 1] = on[i]
