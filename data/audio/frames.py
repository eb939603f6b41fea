"""Events -> frames of counts: [T, C] of clips, with neighbouring units summed, and [T, P, H, W] of
a camera's recordings.

T steps, C = n_units / units_per_channel channels, P polarities (2), H rows, W columns, n events.
Every event inside the duration is counted exactly once.
"""

import numpy as np

from ...errors import DataError
from ..events import Events

MAX_STEPS = 100_000  # 1000 s at 10 ms: more is a damaged time stamp, not a clip


def n_channels(n_units: int, units_per_channel: int) -> int:
    """Channels left when so many neighbouring units are summed; DataError if they do not fit."""
    if units_per_channel < 1 or n_units % units_per_channel:
        raise DataError(
            f"units_per_channel {units_per_channel} does not divide {n_units} units: try 5"
        )
    return n_units // units_per_channel


def frames(
    events: Events,
    dt_us: int,
    units_per_channel: int = 1,
    n_units: int = 700,
    n_steps: int | None = None,
    anchored: bool = False,
) -> np.ndarray:
    """Counts of events, float32 [T, C].

    `dt_us`: length of a step in microseconds. `n_steps`: T, later events are cut and missing
    steps are zero; None: T is the last event's step + 1. An event at k * dt_us belongs to step k.
    `anchored`: the framing of the original delay runs (arXiv 2306.17670): each step starts at its
    first event and the next one at the first event at or after its end, so silences vanish.
    Errors: DataError if there is no event, a unit lies outside, or the clip is absurdly long.
    """
    channels = n_channels(n_units, units_per_channel)
    if dt_us < 1:
        raise DataError(f"the time step is {dt_us} us: it must be at least 1 us")
    if not len(events):
        raise DataError("the clip has no events")
    events.validate(n_units)
    x = events.x.astype(np.int64) // units_per_channel
    if anchored:
        order = np.argsort(events.t_us, kind="stable")
        step, x = _anchored_steps(events.t_us[order], dt_us), x[order]
    else:
        step = events.t_us // dt_us
    T = int(step.max()) + 1 if n_steps is None else n_steps
    if n_steps is None and T > MAX_STEPS:
        raise DataError(f"the clip lasts {T} steps: set n_steps to cut it, or mend its times")
    inside = step < T
    if not inside.all():
        step, x = step[inside], x[inside]
    counts = np.bincount(step * channels + x, minlength=T * channels)
    return counts.reshape(T, channels).astype(np.float32)


def _anchored_steps(t_us: np.ndarray, dt_us: int) -> np.ndarray:
    """Step of every event, int64 (n,), for sorted times (n,)."""
    first = [0]  # the event at which each step starts
    while (end := int(t_us.searchsorted(t_us[first[-1]] + dt_us))) < len(t_us):
        first.append(end)
    return np.repeat(np.arange(len(first)), np.diff(first, append=len(t_us)))


def vision_frames(
    events: Events,
    size: tuple[int, int],
    framing: str = "time_bins",
    n_steps: int | None = 10,
    dt_us: int | None = None,
    events_per_step: int | None = None,
    duration_us: int | None = None,
    t_start_us: int = 0,
) -> np.ndarray:
    """Counts of a camera's events, float32 [T, 2, H, W], polarity as stored.

    Only events from `t_start_us` on count, and where `duration_us` is given only those before
    t_start_us + duration_us. `framing`:
    "time_bins": `n_steps` equal bins from the first to the last event, which counts, or over
    `duration_us`. "event_count": in time order, `n_steps` equal shares of the events, or
    `events_per_step` each and the last step the rest. "time_window": steps of `dt_us` from
    `t_start_us`. For the last two `n_steps` cuts what is longer and fills with zeros; None: T is
    as long as the events. An event on the edge of two steps belongs to the later one; every
    event inside is counted exactly once. `size` is (H, W).
    Errors: DataError if an option is missing or too small, events lie off the sensor, T is absurdly
    long, or there is nothing to frame and no n_steps (with n_steps: zeros).
    """
    lengths = {"n_steps": n_steps, "dt_us": dt_us, "duration_us": duration_us}
    for name, value in {**lengths, "events_per_step": events_per_step}.items():
        if value is not None and value < 1:
            raise DataError(f"{name} is {value}: it must be at least 1")
    H, W = size
    events.validate(W, H)
    inside = events.t_us >= t_start_us
    if duration_us is not None:
        inside &= events.t_us < t_start_us + duration_us
    if not inside.all():
        events = events.select(inside)
    t_us = events.t_us.astype(np.int64) - t_start_us
    if framing == "time_bins" and n_steps is not None:
        step = _bins(t_us, n_steps, duration_us)
    elif framing == "event_count" and (events_per_step or n_steps) is not None:
        step = _shares(t_us, n_steps, events_per_step)
    elif framing == "time_window" and dt_us is not None:
        step = t_us // dt_us
    else:
        needs = {
            "time_bins": "n_steps",
            "event_count": "n_steps or events_per_step",
            "time_window": "dt_us",
        }
        if framing in needs:
            raise DataError(f"the framing {framing!r} needs {needs[framing]}")
        raise DataError(f"unknown framing {framing!r}: take one of {', '.join(needs)}")
    if not len(events) and n_steps is None:
        raise DataError("the recording has no events to frame: set n_steps, and it becomes zeros")
    T = int(step.max()) + 1 if n_steps is None else n_steps
    if n_steps is None and T > MAX_STEPS:
        raise DataError(f"the recording lasts {T} steps: set n_steps to cut it, or mend its times")
    x, y, p = (np.asarray(part, np.int64) for part in (events.x, events.y, events.p))
    place = ((step * 2 + p) * H + y) * W + x
    counts = np.bincount(place[step < T], minlength=T * 2 * H * W)
    return counts.reshape(T, 2, H, W).astype(np.float32)


def _bins(t_us: np.ndarray, n_steps: int, duration_us: int | None) -> np.ndarray:
    """Step of every event (n,): `n_steps` equal bins of the duration, or of first to last event,
    closed on the right."""
    if duration_us is not None:
        return t_us * n_steps // duration_us
    if not len(t_us):
        return t_us
    t_us = t_us - t_us.min()
    return np.minimum(t_us * n_steps // max(int(t_us.max()), 1), n_steps - 1)


def _shares(t_us: np.ndarray, n_steps: int | None, events_per_step: int | None) -> np.ndarray:
    """Step of every event (n,): as many events each, in time order, those of one time as stored."""
    rank = np.empty(len(t_us), np.int64)
    rank[np.argsort(t_us, kind="stable")] = np.arange(len(t_us))
    if events_per_step is not None:
        return rank // events_per_step
    return rank * (n_steps or 1) // max(len(t_us), 1)


def resize_frames(x_TPHW: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The frames with the last two axes resized to `size` (H, W): bilinear, corners not aligned, no
    antialias, as torch's interpolate. float32 [..., H, W], values at the scale of the input."""
    x = np.asarray(x_TPHW, np.float32)
    for axis, n in ((-2, size[0]), (-1, size[1])):
        old = x.shape[axis]
        if n == old:
            continue
        at = np.maximum((np.arange(n) + 0.5) * old / n - 0.5, 0)
        low = at.astype(np.int64)
        share = (at - low).astype(np.float32).reshape((n, 1) if axis == -2 else (n,))
        high = np.minimum(low + 1, old - 1)
        x = x.take(low, axis) * (1 - share) + x.take(high, axis) * share
    return x
