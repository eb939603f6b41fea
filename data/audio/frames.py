"""Events of clips -> frames of counts [T, B, C], with neighbouring units summed.

T steps, B clips, C = n_units / units_per_channel channels, n events. Every event inside the
duration is counted exactly once.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import DataError, nearest
from ...kernels import anchored_steps, count_events, latest
from ..events import MAX_STEPS, Events
from .flat import BadClip, Flat, check, compact, flat, pieces

FRAMINGS = ("grid", "event", "event-published")
LONGEST_MS = {"event": 2**40 / 1e3, "event-published": 2**15}  # half of what their numbers hold
TICKS = 2**24  # of a millisecond: every float16 is a whole number of them


def n_channels(n_units: int, units_per_channel: int) -> int:
    """Channels left when so many neighbouring units are summed; DataError if they do not fit."""
    if units_per_channel < 1 or n_units % units_per_channel:
        fewer = [k for k in range(1, min(n_units, units_per_channel) + 1) if n_units % k == 0]
        raise DataError(
            f"units_per_channel {units_per_channel} does not divide {n_units} units: try "
            f"{max(fewer, default=1)}"
        )
    return n_units // units_per_channel


class Framing(NamedTuple):
    """How events become frames; see `frames`."""

    dt_us: int
    units_per_channel: int = 1
    n_units: int = 700
    n_steps: int | None = None
    framing: str = "grid"

    @property
    def channels(self) -> int:
        """C"""
        return self.n_units // self.units_per_channel

    def check(self) -> "Framing":
        """Itself, or DataError if it cannot be."""
        if self.framing not in FRAMINGS:
            raise DataError(f"unknown framing {self.framing!r}: {nearest(self.framing, FRAMINGS)}")
        n_channels(self.n_units, self.units_per_channel)
        if self.dt_us < 1:
            raise DataError(f"the time step is {self.dt_us} us: it must be at least 1 us")
        if self.dt_us / 1000 > (most := LONGEST_MS.get(self.framing, np.inf)):
            raise DataError(f"the time step is {self.dt_us / 1000} ms: it can be {most:.0f} ms")
        return self


def frames(
    events: Events,
    dt_us: int,
    units_per_channel: int = 1,
    n_units: int = 700,
    n_steps: int | None = None,
    framing: str = "grid",
) -> np.ndarray:
    """Counts of the events of one clip, float32 [T, C].

    `dt_us`: length of a step in microseconds. `n_steps`: T, later events are cut and missing
    steps are zero; None: T is the last event's step + 1. `framing`: "grid", an event at k * dt_us
    belongs to step k; "event": each step starts at its first event and the next one at the first
    event `dt_us` or more later, so silences vanish; "event-published": the frames of the
    original delay runs (arXiv 2306.17670), with times in float16 milliseconds (`published_ticks`)
    and the next step more than `dt_us` later.
    Errors: DataError if there is no event, or none in the frames, a unit lies outside, or the clip
    is absurdly long.
    """
    how = Framing(dt_us, units_per_channel, n_units, n_steps, framing).check()
    size, one = np.array([len(events)]), np.zeros(1, np.int64)
    try:
        check(events.t_us, events.x, size, n_units)
        check_times(how, *(np.array([edge(events.t_us)]) for edge in (np.min, np.max)))
        clip = flat(*compact(events.t_us, events.x, n_units), pieces(one, None), size, one)
        return batch_frames(clip, how)[:, 0].numpy()
    except BadClip as error:
        raise DataError(error.why) from None


def batch_frames(events: Flat, how: Framing, T: int | None = None) -> Tensor:
    """Counts, float32 [T, B, C], on the device of the events; clips are zero after their last step.

    `T`: None: `how.n_steps`, or else that of the longest clip, which has to wait for the device.
    Errors: BadClip if a clip is absurdly long.
    """
    stepped, dt = _stepped(events, how)
    T = T or how.n_steps
    if T is None:
        T = longest((latest(*stepped) // dt + 1).numpy(force=True))
    shape = (T, len(events.begin), how.channels)
    t, clip, _, alive = stepped
    return count_events(t, events.unit, clip, alive, shape, dt, how.units_per_channel)


def batch_steps(events: Flat, how: Framing) -> Tensor:
    """Number of steps of each clip, int64 (B,), whatever `how.n_steps`."""
    stepped, dt = _stepped(events, how)
    return latest(*stepped) // dt + 1


def event_steps(events: Flat, how: Framing) -> Tensor:
    """Step of every event, int64 (n,), whatever `how.n_steps`."""
    (t, *_), dt = _stepped(events, how)
    return t.long() // dt


def check_times(how: Framing, first_us: np.ndarray, last_us: np.ndarray) -> None:
    """BadClip for a clip that cannot be framed like that: its first event comes after the frames,
    or its last one too late. `first_us`, `last_us`: integer (B,)."""
    if (late := outside(how, first_us)).any():
        piece = int(late.argmax())
        end, first = how.n_steps * how.dt_us / 1e6, first_us[piece] / 1e6  # type: ignore
        why = f"no event lies in the frames, which end at {end:g} s: the first comes at {first:g} s"
        raise BadClip(piece, why)
    if too_long(how, last_us).any():
        raise BadClip(int(last_us.argmax()), why_too_long(how, int(last_us.max())))


def outside(how: Framing, first_us: np.ndarray) -> np.ndarray:
    """Which clips, by the times of their first events, have none in their frames."""
    if how.n_steps is None or how.framing != "grid":  # others start at an event
        return np.zeros(len(first_us), bool)
    return first_us // how.dt_us >= how.n_steps


def too_long(how: Framing, last_us: np.ndarray) -> np.ndarray:
    """Which clips, by the times of their last events, `check_times` refuses."""
    return last_us / 1000 >= LONGEST_MS.get(how.framing, np.inf)


def why_too_long(how: Framing, last_us: int) -> str:
    """What is wrong with a clip that `check_times` refuses, whose last event comes at `last_us`."""
    most_s = LONGEST_MS[how.framing] / 1000
    last = f"the clip's last event comes at {last_us / 1e6:.6g} s"
    return f"{last}, too late for framing {how.framing}, which ends at {most_s:.0f} s"


def longest(steps_B: np.ndarray) -> int:
    """The largest of the clips' numbers of steps, integer (B,). BadClip if it is absurd."""
    T = int(steps_B.max())
    if T > MAX_STEPS:
        why = f"the clip lasts {T} steps: set n_steps to cut it, or mend its times"
        raise BadClip(int(steps_B.argmax()), why)
    return T


def _stepped(events: Flat, how: Framing) -> tuple[tuple, int]:
    """The first arguments of `latest`, and the length of a step: in "event" framing what counts as
    time is the step itself."""
    where = (events.clip, events.begin, events.alive)
    if how.framing == "grid":
        return (events.t_us, *where), how.dt_us
    t, dt = events.t_us, how.dt_us
    if how.framing == "event-published":
        t, dt = published_ticks(t), published_step(dt)
    return (anchored_steps(t, *where, dt, events.most), *where), 1


def published_ticks(t_us: Tensor) -> Tensor:
    """Times as the original delay runs have them, float16 milliseconds, in whole TICKS of one:
    int64 (n,). SHD's float16 seconds times 1000 is rounded to float16 again, which leaves steps of
    0.5 ms after 0.5 s. t_us: integer (n,), at most 65 s."""
    # float32 between: from float64 to float16 devices round each in their own way
    t_s = (t_us.double() * 1e-6).float().half()
    t_ms = (t_s.float() * 1000).half().clamp(max=torch.finfo(torch.float16).max)
    return (t_ms.double() * TICKS).long()


def published_step(dt_us: int) -> int:
    """TICKS after the start of a step at which the next one begins: the first difference of two
    float16 times that is, rounded to float16, more than `dt_us`, where "event" has no less."""
    dt = dt_us / 1000
    below = np.float16(dt)
    below = np.nextafter(below, np.float16(0)) if float(below) > dt else below
    middle = (float(below) + float(np.nextafter(below, np.float16(np.inf)))) / 2
    ticks = round(middle * TICKS)
    return ticks if np.float16(middle) > below else ticks + 1  # a tie goes to the even one
