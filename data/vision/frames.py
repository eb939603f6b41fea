"""Events of a recording -> frames [T, P, H, W]: exact counts of both polarities, time surfaces or a
voxel grid.

T steps, P polarities (2), H rows, W columns, n events. In counts every event inside the duration is
counted exactly once, or once in each of the windows that overlap there.
"""

from dataclasses import replace

import numpy as np

from ...errors import DataError
from ..events import MAX_STEPS, Events
from .counting import Steps, count, surveyed
from .grids import time_surface, voxel_grid

# framing -> the options that it needs
FRAMINGS = {
    "time_bins": "n_steps",
    "event_count": "n_steps or events_per_step",
    "time_window": "dt_us",
    "time_surface": "dt_us and tau_us",
    "voxel_grid": "n_steps",
}
TIMED = ("time_window", "time_surface")  # of which steps last dt_us
MOST_OVERLAPS = 1000  # windows that hold one event


def frames(
    events: Events,
    size: tuple[int, int],
    framing: str = "time_bins",
    n_steps: int | None = 10,
    dt_us: int | None = None,
    events_per_step: int | None = None,
    duration_us: int | None = None,
    t_start_us: int | None = 0,
    stride_us: int | None = None,
    tau_us: float | None = None,
    surface: str = "last",
    voxel: str = "per-polarity",
    inside: np.ndarray | None = None,
    narrow: bool = False,
) -> np.ndarray:
    """Frames, float32 [T, 2, H, W], polarity as stored: counts, if nothing else is said;
    with `narrow` counts are uint8 where all are below 256.

    Only events from `t_start_us` on count (None: from the first event on), and where `duration_us`
    is given only those before t_start_us + duration_us. `framing`:
    "time_bins": `n_steps` equal bins from the first to the last event, which counts (tonic's
    ToFrame leaves it out), or over `duration_us`. "event_count": in time order, N // n_steps of the
    N events each and the last step all the rest, as SpikingJelly splits by number, or
    `events_per_step` each. "time_window": steps of `dt_us` from `t_start_us`, each `stride_us`
    after the one before: below `dt_us` they overlap, above it they leave events out; None: `dt_us`.
    "time_surface": what decays with `tau_us` at the end of such steps, see `time_surface` for
    `surface`. "voxel_grid": events shared by `n_steps` points in time, see `voxel_grid` for
    `voxel`. Of windows and event counts `n_steps` cuts what is longer and fills with zeros; None: T
    is as long as the events. An event on the edge of two steps belongs to the later one. `size` is
    (H, W). `inside`: int64 (1,), to which the number of the events is added that frames hold.
    Errors: DataError if an option is missing or too small, events lie off the sensor, T is absurdly
    long, or there is nothing to frame and no n_steps (with n_steps: zeros).
    """
    lengths = {"n_steps": n_steps, "dt_us": dt_us, "duration_us": duration_us}
    lengths |= {"events_per_step": events_per_step, "stride_us": stride_us}
    for name, value in lengths.items():
        if value is not None and value < 1:
            raise DataError(f"{name} is {value}: it must be at least 1")
    events, start_us, first_us, last_us = _from_start(events, size, t_start_us, duration_us)
    if framing == "time_bins" and n_steps is not None:
        if duration_us is None:
            steps = Steps(events.t_us, first_us, n_steps, max(last_us - first_us, 1), n_steps - 1)
        else:
            steps = Steps(events.t_us, start_us, n_steps, duration_us)
    elif framing == "event_count" and (events_per_step or n_steps) is not None:
        steps = _shares(events.t_us, n_steps, events_per_step)
    elif framing == "time_window" and dt_us is not None:
        events, steps = _windows(events, start_us, dt_us, stride_us or dt_us)
    elif framing == "time_surface" and dt_us is not None and tau_us is not None:
        steps = Steps(events.t_us, start_us, span=dt_us)
    elif framing == "voxel_grid" and n_steps is not None:
        steps = Steps(np.zeros_like(events.t_us))
    elif framing in FRAMINGS:
        raise DataError(f"the framing {framing!r} needs {FRAMINGS[framing]}")
    else:
        raise DataError(f"unknown framing {framing!r}: take one of {', '.join(FRAMINGS)}")
    T = _length(steps, n_steps)
    if framing == "time_surface":
        since = replace(events, t_us=events.t_us - start_us)
        x_TPHW = time_surface(since, size, T, dt_us or 1, tau_us or 1.0, surface)
        n_inside = np.sum(since.t_us < T * (dt_us or 1))
    elif framing == "voxel_grid":
        x_TPHW, n_inside = voxel_grid(events, size, T, voxel), len(events)
    else:
        x_TPHW, n_inside = count(events, steps, (T, 2, *size), narrow)
    if inside is not None:
        inside += n_inside
    return x_TPHW


def _from_start(
    events: Events, size: tuple[int, int], t_start_us: int | None, duration_us: int | None
) -> tuple[Events, int, int, int]:
    """(the events of the asked stretch, its start, and the first and last of their times)."""
    events, first_us, last_us = surveyed(events, size)
    start_us = first_us if t_start_us is None else t_start_us
    end_us = np.inf if duration_us is None else start_us + duration_us
    if first_us < start_us or last_us >= end_us:
        events = events.select((events.t_us >= start_us) & (events.t_us < end_us))
        events, first_us, last_us = surveyed(events, size)
    return events, start_us, first_us, last_us


def _length(steps: Steps, n_steps: int | None) -> int:
    """T, of events in these steps."""
    if n_steps is not None:
        return n_steps
    if not len(steps.at):
        raise DataError("the recording has no events to frame: set n_steps, and it becomes zeros")
    T = min((int(steps.at.max()) - steps.first) * steps.per // steps.span, steps.last) + 1
    if T > MAX_STEPS:
        raise DataError(f"the recording lasts {T} steps: set n_steps to cut it, or mend its times")
    return T


def _windows(events: Events, start_us: int, dt_us: int, stride_us: int) -> tuple[Events, Steps]:
    """(the events that lie in windows, their steps)."""
    if (overlaps := -(-dt_us // stride_us)) > MOST_OVERLAPS:
        raise DataError(
            f"{overlaps} windows of {dt_us} us hold one event: give a stride of "
            f"{-(-dt_us // MOST_OVERLAPS)} us or more"
        )
    if stride_us > dt_us:
        events = events.select((events.t_us - start_us) % stride_us < dt_us)
    length = dt_us if stride_us < dt_us else 0
    return events, Steps(events.t_us, start_us, span=stride_us, length=length)


def _shares(t_us: np.ndarray, n_steps: int | None, events_per_step: int | None) -> Steps:
    """As many events each, in time order, those of one time as stored."""
    rank = np.arange(len(t_us))
    if not (t_us[1:] >= t_us[:-1]).all():  # nearly all files are in order
        rank[np.argsort(t_us, kind="stable")] = np.arange(len(t_us))
    if events_per_step is not None:
        return Steps(rank, span=events_per_step)
    n_steps = n_steps or 1
    return Steps(rank, span=max(len(t_us) // n_steps, 1), last=n_steps - 1)
