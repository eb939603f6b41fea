"""How a recording becomes frames: settings, filters, and what is wrong where nothing is left.

Legend: T steps, P polarities, H rows, W columns.
"""

from typing import NamedTuple

import numpy as np

from ...errors import DataError
from ..coverage import ZEROS
from ..events import Events
from .atis import Packed
from .filters import NOISE_NAMES, Filters, filtered, seen_size
from .frames import TIMED, frames
from .resize import resize

COUNTING = 0.5  # part of the pixels that should count where frames are resized


class Framing(NamedTuple):
    """How a recording becomes frames: `framing`, `n_steps`, `dt_ms` and `events_per_step` as
    `frames` takes them (`dt_ms` counts for "time_window" and "time_surface" only); `frame_size`:
    rows and columns to which the frames are resized, None: those of the sensor; `frame_resize`:
    how, see RESIZES; `time_zero`: where time windows begin, one of ZEROS; `stride_ms`, `surface`,
    `surface_tau_ms`, `voxel`: as `frames` takes them; `filters`: of the events before."""

    framing: str = "time_bins"
    n_steps: int | None = 10
    dt_ms: float = 10.0
    events_per_step: int | None = None
    frame_size: int | None = None
    frame_resize: str = "aligned"
    time_zero: str = ZEROS[0]
    stride_ms: float | None = None
    surface: str = "last"
    surface_tau_ms: float = 50.0
    voxel: str = "per-polarity"
    filters: Filters = Filters()


def framed(
    events: Events | Packed, sensor: tuple[int, int], framing: Framing, what: str
) -> tuple[np.ndarray, list[int]]:
    """(the frames of a recording before they are resized, (T, P, H, W), how many events
    they hold, filters left, and each of NOISE_NAMES took away). `what`: its name.
    Errors: DataError if the frames hold none of its events, or as `frames`."""
    if isinstance(events, Packed):
        if (made := _from_packed(events, sensor, framing)) is not None:
            return made
        events = events.events()
    windows = framing.framing in TIMED
    left, size, taken = filtered(events, sensor, framing.filters)
    dt_us = round(framing.dt_ms * 1000) if windows else None
    how = framing.framing, framing.n_steps, dt_us, framing.events_per_step
    stride_us = None if framing.stride_ms is None else round(framing.stride_ms * 1000)
    more = dict(stride_us=stride_us, tau_us=framing.surface_tau_ms * 1000)
    more |= dict(surface=framing.surface, voxel=framing.voxel)
    inside = np.zeros(1, np.int64)
    start_us = 0 if framing.time_zero == "file" else None
    x_TPHW = frames(left, size, *how, t_start_us=start_us, inside=inside, narrow=True, **more)
    counted = framing.framing not in ("time_surface", "voxel_grid")
    if not (inside[0] if counted else x_TPHW.any()):
        raise DataError(f"{what}: {_why_empty(events, left, framing, int(inside[0]))}")
    return x_TPHW, [int(inside[0]), len(left), *taken.tolist()]


def _from_packed(
    packed: Packed, sensor: tuple[int, int], framing: Framing
) -> tuple[np.ndarray, list[int]] | None:
    """What `framed` returns of counts without filters, in one pass over the file; None for others,
    and where something is wrong, so that its events are looked at."""
    kind, T, dt_us = framing.framing, framing.n_steps or 0, round(framing.dt_ms * 1000)
    window = kind == "time_window" and dt_us > 0 and framing.stride_ms in (None, framing.dt_ms)
    if T < 1 or framing.filters != Filters() or not (window or kind == "time_bins"):
        return None
    first_us = last_us = 0
    if kind == "time_bins" or framing.time_zero != "file":
        first_us, last_us = packed.span_us()
    steps = (first_us, 1, dt_us, T) if window else (first_us, T, max(last_us - first_us, 1), T - 1)
    made = packed.counts((T, 2, *sensor), *steps)
    if made is None or not made[1]:
        return None
    x_TPHW, *n = made
    return x_TPHW, n + [0] * len(NOISE_NAMES)


def resized(x_TPHW: np.ndarray, framing: Framing) -> np.ndarray:
    """Frames of the size of the sensor as the network sees them."""
    if (side := framing.frame_size) is None:
        return x_TPHW
    return resize(x_TPHW.astype(np.float32), (side, side), framing.frame_resize)


def resize_lines(sensor: tuple[int, int], framing: Framing) -> list[str]:
    """A warning if frames of a `sensor` (H, W) are made so much smaller by their nearest pixels
    that most pixels never count."""
    if (side := framing.frame_size) is None or framing.frame_resize != "aligned":
        return []
    H, W = seen_size(sensor, framing.filters.shrink)
    share = min(1.0, 2 * side / H) * min(1.0, 2 * side / W)  # two lines count for each new one
    if share >= COUNTING:
        return []
    return [
        f"warning: frames of {H} x {W} become {side} x {side} by their nearest pixels, so that "
        f"events of {1 - share:.1%} of the pixels never count: train with --frame-resize antialias"
    ]


def _why_empty(events: Events, left: Events, framing: Framing, n_inside: int) -> str:
    """What is wrong with a recording of which the frames hold nothing, and what to do. `left`: its
    events after the filters, of which `n_inside` lie in the frames."""
    if not len(events):
        return "the recording has no events"
    if not len(left):
        return f"the filters take away all of its {len(events)} events: weaken them"
    if n_inside:
        return "nothing is left of its events at the end of any step: raise --surface-tau-ms"
    first_ms, last_ms = left.t_us.min() / 1000, end_ms(framing)
    return (
        f"its first event comes at {first_ms:g} ms, after the last of its frames ({last_ms:g} ms): "
        "give --time-zero first-event, and the frames begin with the first event"
    )


def end_ms(framing: Framing) -> float:
    """Where the last of the frames of a TIMED framing ends, in milliseconds from their start."""
    stride_ms = framing.stride_ms or framing.dt_ms
    return ((framing.n_steps or 1) - 1) * stride_ms + framing.dt_ms
