"""Events of a clip -> frames of counts [T, C], with neighbouring units summed.

T steps, C = n_units / units_per_channel channels, n events. Every event inside the duration is
counted exactly once.
"""

import numpy as np

from ...errors import DataError, nearest
from ..events import MAX_STEPS, Events

FRAMINGS = ("grid", "event")


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
    framing: str = "grid",
) -> np.ndarray:
    """Counts of events, float32 [T, C].

    `dt_us`: length of a step in microseconds. `n_steps`: T, later events are cut and missing
    steps are zero; None: T is the last event's step + 1. `framing`: "grid", an event at k * dt_us
    belongs to step k, or "event", the framing of the original delay runs (arXiv 2306.17670): each
    step starts at its first event and the next one at the first event at or after its end, so
    silences vanish.
    Errors: DataError if there is no event, a unit lies outside, or the clip is absurdly long.
    """
    if framing not in FRAMINGS:
        raise DataError(f"unknown framing {framing!r}: {nearest(framing, FRAMINGS)}")
    channels = n_channels(n_units, units_per_channel)
    if dt_us < 1:
        raise DataError(f"the time step is {dt_us} us: it must be at least 1 us")
    if not len(events):
        raise DataError("the clip has no events")
    events.validate(n_units)
    x = events.x.astype(np.int64) // units_per_channel
    if framing == "event":
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
