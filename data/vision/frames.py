"""Events of a recording -> frames of counts [T, P, H, W].

T steps, P polarities (2), H rows, W columns, n events. Every event inside the duration is counted
exactly once.
"""

import numpy as np

from ...errors import DataError
from ..events import MAX_STEPS, Events
from .counting import bin_steps, count_steps

# framing -> the options that it needs
FRAMINGS = {
    "time_bins": "n_steps",
    "event_count": "n_steps or events_per_step",
    "time_window": "dt_us",
}


def frames(
    events: Events,
    size: tuple[int, int],
    framing: str = "time_bins",
    n_steps: int | None = 10,
    dt_us: int | None = None,
    events_per_step: int | None = None,
    duration_us: int | None = None,
    t_start_us: int | None = 0,
    narrow: bool = False,
) -> np.ndarray:
    """Counts of events, float32 [T, 2, H, W], polarity as stored; with `narrow` uint8 where all
    are below 256.

    Only events from `t_start_us` on count (None: from the first event on), and where `duration_us`
    is given only those before t_start_us + duration_us. `framing`:
    "time_bins": `n_steps` equal bins from the first to the last event, which counts (tonic's
    ToFrame leaves it out), or over `duration_us`. "event_count": in time order, N // n_steps of the
    N events each and the last step all the rest, as SpikingJelly splits by number, or
    `events_per_step` each. "time_window": steps of `dt_us` from `t_start_us`. For the last two
    `n_steps` cuts what is longer and fills with zeros; None: T is as long as the events. An event
    on the edge of two steps belongs to the later one; every event inside is counted exactly once.
    `size` is (H, W).
    Errors: DataError if an option is missing or too small, events lie off the sensor, T is absurdly
    long, or there is nothing to frame and no n_steps (with n_steps: zeros).
    """
    lengths = {"n_steps": n_steps, "dt_us": dt_us, "duration_us": duration_us}
    for name, value in {**lengths, "events_per_step": events_per_step}.items():
        if value is not None and value < 1:
            raise DataError(f"{name} is {value}: it must be at least 1")
    H, W = size
    events.validate(W, H)
    if t_start_us is None:
        t_start_us = int(events.t_us.min()) if len(events) else 0
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
    elif framing in FRAMINGS:
        raise DataError(f"the framing {framing!r} needs {FRAMINGS[framing]}")
    else:
        raise DataError(f"unknown framing {framing!r}: take one of {', '.join(FRAMINGS)}")
    return _counts(events, step, n_steps, size, narrow)


def _counts(
    events: Events,
    step: np.ndarray,
    n_steps: int | None,
    size: tuple[int, int],
    narrow: bool,
) -> np.ndarray:
    """The frames of events whose steps are known, (n,)."""
    if not len(events) and n_steps is None:
        raise DataError("the recording has no events to frame: set n_steps, and it becomes zeros")
    T = int(step.max()) + 1 if n_steps is None else n_steps
    if n_steps is None and T > MAX_STEPS:
        raise DataError(f"the recording lasts {T} steps: set n_steps to cut it, or mend its times")
    H, W = size
    return count_steps(step, events.x, events.y, events.p, (T, 2, H, W), narrow)  # type: ignore


def _bins(t_us: np.ndarray, n_steps: int, duration_us: int | None) -> np.ndarray:
    """Step of every event (n,): `n_steps` equal bins of the duration, or of first to last event,
    closed on the right."""
    if duration_us is not None:
        return t_us * n_steps // duration_us
    if not len(t_us):
        return t_us
    first = int(t_us.min())
    return bin_steps(t_us, first, max(int(t_us.max()) - first, 1), n_steps)


def _shares(t_us: np.ndarray, n_steps: int | None, events_per_step: int | None) -> np.ndarray:
    """Step of every event (n,): as many events each, in time order, those of one time as stored."""
    rank = np.empty(len(t_us), np.int64)
    in_order = bool((t_us[1:] >= t_us[:-1]).all())  # as nearly all files are
    rank[slice(None) if in_order else np.argsort(t_us, kind="stable")] = np.arange(len(t_us))
    if events_per_step is not None:
        return rank // events_per_step
    n_steps = n_steps or 1
    return np.minimum(rank // max(len(t_us) // n_steps, 1), n_steps - 1)
