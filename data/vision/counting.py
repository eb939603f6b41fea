"""The loops over single events that reading and framing consist of, compiled.

One thread each, without Python's lock. Legend: n events, r records of a file, T steps, P
polarities, H rows, W columns.
"""

from typing import NamedTuple

import numpy as np

from ...kernels.cpu.compiled import compiled
from ..events import Events

EXACT = 1 << 24  # float32 counts whole numbers up to here
SMALL = tuple(np.dtype(kind) for kind in (np.int64, np.int16, np.int16, np.int8))  # t_us, x, y, p
LARGE = tuple(np.dtype(kind) for kind in (np.int64, np.int32, np.int32, np.int8))


@compiled(nogil=True)
def _time_us(record, i):
    high, middle, low = np.int64(record[i, 2]), np.int64(record[i, 3]), np.int64(record[i, 4])
    return (high & 127) << 16 | middle << 8 | low


@compiled(nogil=True)
def atis_events(record, overflow_y, overflow_us, columns, rows, t_us, x, y, p):
    """Events of 5-byte records, uint8 (r, 5), into t_us int64, x and y int16 and p int8, (r,) each.
    Returns how many there are, and whether all of them lie on the sensor."""
    n, later, inside = np.uint64(0), np.int64(0), True
    for i in range(len(record)):
        column, row = record[i, 0], record[i, 1]
        t_us[n] = _time_us(record, i) + later
        x[n], y[n], p[n] = column, row, record[i, 2] >> 7
        event = row != overflow_y  # else what was written is written over
        later += 0 if event else overflow_us
        inside &= (column < columns) & (row < rows) | (not event)
        n += np.uint64(event)
    return n, inside


@compiled(nogil=True)
def atis_extent(record, overflow_y):
    """The largest row and column of 5-byte records, uint8 (r, 5); -1: there is no event."""
    row = column = -1
    for i in range(len(record)):
        if record[i, 1] != overflow_y:
            row, column = max(row, np.int64(record[i, 1])), max(column, np.int64(record[i, 0]))
    return row, column


@compiled(nogil=True)
def atis_span(record, overflow_y, overflow_us):
    """First and last time of 5-byte records; the first is above the last if there is no event."""
    first, last, later = np.int64(1 << 62), np.int64(0), np.int64(0)
    for i in range(len(record)):
        if record[i, 1] == overflow_y:
            later += overflow_us
        else:
            t_us = _time_us(record, i) + later
            first, last = min(first, t_us), max(last, t_us)
    return first, last


@compiled(nogil=True)
def atis_counts(record, overflow_y, overflow_us, columns, rows, first, per, span, last, out):
    """Counts of 5-byte records at their steps, see `Steps`, into zeros `out`, uint8 (T, P, H, W).
    Returns how many events it holds, how many there are, and whether that is right: all lie on the
    sensor, and no count is above 255."""
    T, P, H, W = out.shape
    flat, one = out.reshape(-1), np.uint8(1)
    n = overflows = 0
    begin = end = step = np.int64(first)
    later = np.int64(0)
    for i in range(len(record)):
        column, row = np.int64(record[i, 0]), np.int64(record[i, 1])
        if row == overflow_y:
            later += overflow_us
            overflows += 1
            continue
        if column >= columns or row >= rows:
            return n, i + 1 - overflows, False
        at = _time_us(record, i) + later
        if not begin <= at < end:
            step, begin, end = _step(at, first, per, span, last, T)
        if step < T:
            place = np.uint64(((step * P + (np.int64(record[i, 2]) >> 7)) * H + row) * W + column)
            flat[place] += one
            if flat[place] == 0:
                return n, i + 1 - overflows, False
            n += 1
    return n, len(record) - overflows, True


@compiled(nogil=True)
def _step(at, first, per, span, last, T):
    """The step of a time, T where it is too late, and from when to when it is the same."""
    step = (at - first) * per // span
    begin, end = first - -step * span // per, first - -(step + 1) * span // per
    return min(step, last) if step >= 0 else T, begin, end  # below 0: the product was too large


@compiled(nogil=True)
def _survey(t_us, x, y, p, H, W):
    first, last, inside = t_us[0], t_us[0], True
    for i in range(len(t_us)):  # three loops go faster than one
        first, last = min(first, t_us[i]), max(last, t_us[i])
    for i in range(len(t_us)):
        inside &= (x[i] >= 0) & (x[i] < W) & (y[i] >= 0) & (y[i] < H)
    for i in range(len(t_us)):
        inside &= (p[i] >= 0) & (p[i] <= 1)
    return inside, first, last


def surveyed(events: Events, size: tuple[int, int]) -> tuple[Events, int, int]:
    """(the events, the first and the last of their times, 0 without any), in the types that `count`
    takes, one each, so that one kernel serves all readers: t_us int64, x and y int16 (int32 where
    the sensor, `size` (H, W), is that large), p int8. Errors: DataError as `Events.validate`."""
    H, W = size
    parts = (events.t_us, events.x, events.y, events.p)
    kinds = SMALL if max(size) <= 1 << 15 else LARGE
    layout = [part is not None and (part.dtype, part.shape, part.strides) for part in parts]
    if len(events) and layout == [(kind, (len(events),), (kind.itemsize,)) for kind in kinds]:
        inside, first, last = _survey(*parts, H, W)
        if inside and first >= 0:
            return events, first, last
    events.validate(W, H)
    events = Events(*(np.ascontiguousarray(*pair) for pair in zip(parts, kinds, strict=True)))
    if not len(events):
        return events, 0, 0
    return events, int(events.t_us.min()), int(events.t_us.max())


class Steps(NamedTuple):
    """Which step each event lies in, by a time or rank of each, `at` int64 (n,), none below
    `first`: (at - first) * `per` // `span`, `last` where that is later. Above 0, `length` says how
    long a step lasts that begins `span` after the one before and overlaps it."""

    at: np.ndarray
    first: int = 0
    per: int = 1
    span: int = 1
    last: int = 1 << 62
    length: int = 0


@compiled(nogil=True)
def _count_windows(at, first, span, length, x, y, p, out):
    T, P, H, W = out.shape
    flat, one = out.reshape(-1), out.dtype.type(1)
    n, lost = 0, False
    for i in range(len(at)):
        step = (at[i] - first) // span
        since = at[i] - first - step * span
        inside = False
        while step >= 0 and since < length:
            if step < T:
                place = np.uint64(((step * P + p[i]) * H + y[i]) * W + x[i])
                flat[place] += one
                lost |= flat[place] == 0
                inside = True
            step, since = step - 1, since + span
        n += inside
    return n, lost


@compiled(nogil=True)
def _count(at, first, per, span, last, x, y, p, out):
    T, P, H, W = out.shape
    flat, one = out.reshape(-1), out.dtype.type(1)
    n, lost = 0, False
    begin = end = step = np.int64(first)  # what lies in begin..end - 1 has the step of the last one
    for i in range(len(at)):
        if not begin <= at[i] < end:  # a division takes longer than all the rest
            step, begin, end = _step(at[i], first, per, span, last, T)
        if step < T:
            place = np.uint64(((step * P + p[i]) * H + y[i]) * W + x[i])
            flat[place] += one
            lost |= flat[place] == 0
            n += 1
    return n, lost


def count(
    events: Events, steps: Steps, shape: tuple[int, int, int, int], narrow: bool = False
) -> tuple[np.ndarray, int]:
    """(counts of `events`, as `surveyed` returns them, at their `steps`, (T, P, H, W), `shape`,
    how many they hold); events of later steps than T are left out. float32, or if `narrow` uint8
    where all counts are below 256, which takes a quarter of the memory."""
    *how, length = steps
    kernel, how = _count, (*how, events.x, events.y, events.p)
    if length:
        kernel, how = _count_windows, (steps.at, steps.first, steps.span, length, *how[5:])
    if narrow:
        n, lost = kernel(*how, out := np.zeros(shape, np.uint8))
        if not lost:
            return out, n
    out = np.zeros(shape, np.float32 if len(events) < EXACT else np.float64)
    n, _ = kernel(*how, out)
    return out.astype(np.float32, copy=False), n


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
            off, on, pairs = sample[t, 0], sample[t, 1], out[t, b].reshape(-1)
            for i in range(len(off)):
                pairs[2 * i] = off[i]
                pairs[2 * i + 1] = on[i]
