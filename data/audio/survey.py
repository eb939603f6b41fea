"""What the clips of a set hold, found before the first epoch: which cannot be used and why, and how
many of their events lie in the frames.

    found = survey(clips, Framing(10_000, n_steps=100))
    good = usable(clips, found, skip_bad=False)  # DataError for the first bad clip
    coverage(found, how, "training")

Legend: N clips.
"""

from typing import NamedTuple

import numpy as np
import torch

from ...errors import DataError
from .. import coverage as coverage_words
from ..coverage import ENOUGH, WAY_OUT, Clock, Coverage, clock_of, none_left
from ..events import MAX_STEPS, Clips
from .flat import begins, flat, pieces
from .frames import Framing, event_steps, too_long, why_too_long
from .sets import ClipSet
from .shd import BLOCK


class Survey(NamedTuple):
    """Of N clips their number of events, `n_events`, of those in the frames, `n_inside`, of steps,
    `n_steps`, times of the first and the last event, and the largest unit; int64 (N,). `why`: what
    is wrong with the clips that cannot be used, by their place in the set."""

    n_events: np.ndarray
    n_inside: np.ndarray
    n_steps: np.ndarray
    first_us: np.ndarray
    last_us: np.ndarray
    last_unit: np.ndarray
    why: dict[int, str]


def survey(clips: ClipSet, how: Framing, stored: Clips | None = None) -> Survey:
    """Looks at every clip once. `stored`: all of them, if they are in memory. Errors: DataError or
    EventFormatError for a clip that cannot be read, unless the set is read with `skip_bad`."""
    found = Survey(*np.zeros((6, len(clips)), np.int64), {})
    blocks = clips.blocks() if stored is None else [(np.arange(len(clips)), stored)]
    for place, block in blocks:
        for start in range(0, len(place), BLOCK):
            stop = min(start + BLOCK, len(place))
            _look(found, place[start:stop], block.between(start, stop), how)
    empty = np.flatnonzero(found.n_events == 0).tolist()
    found.why.update((i, clips.why_bad(i) or "the clip has no events") for i in empty)
    for i in np.flatnonzero((found.n_events > 0) & (found.n_inside == 0)).tolist():
        found.why.setdefault(i, _outside(found, i, how))
    return found


def usable(clips: ClipSet, found: Survey, skip_bad: bool) -> np.ndarray:
    """Places of the clips that can be used, int64. Errors: DataError for the first one that cannot,
    unless they are skipped; and if none is left."""
    bad = sorted(found.why)
    if bad and skip_bad and len(bad) == len(clips):
        raise DataError(none_left(len(bad), f"clips of {clips.name}", found.why[0]))
    if bad and not skip_bad:
        first, more = bad[0], len(bad) - 1
        others = f"; {more} more of {len(clips)} clips cannot be used" if more else ""
        hint = WAY_OUT if 2 * len(bad) < len(clips) else ""
        raise DataError(f"{clips.identity(first)}: {found.why[first]}{others}{hint}")
    return np.setdiff1d(np.arange(len(clips)), bad)


def left_out(clips: ClipSet, found: Survey, name: str) -> str:
    """How many clips of a part, `name`, are left out, and why the first of them."""
    first = min(found.why)
    why = f"{clips.identity(first)}: {found.why[first]}"
    return coverage_words.left_out(len(found.why), len(clips), f"{name} clips", why)


def coverage(found: Survey, how: Framing, name: str) -> Coverage:
    """How many events of the usable clips lie in the frames; `name`: of the part, in messages."""
    good = np.ones(len(found.n_events), bool)
    good[list(found.why)] = False
    inside, events = (int(n[good].sum()) for n in (found.n_inside, found.n_events))
    median = [np.median(a[good]) for a in (found.first_us, found.last_us, found.n_steps)]
    hint = cure(_clock(how, *median[:2]))
    if not hint and median[2] == 1:
        hint = f"most clips lie in a single frame of {how.dt_us / 1000:g} ms, see --time-unit"
    elif not hint and inside < ENOUGH * events:
        hint = f"half of the clips have {int(median[2])} frames or more, see --n-steps"
    return Coverage(name, inside, events, hint)


def few_units(found: Survey, how: Framing, name: str) -> list[str]:
    """A warning where half of the units or more are silent in all clips of the part `name`."""
    used = int(found.last_unit.max(initial=0)) + 1
    if 2 * used > how.n_units:
        return []
    return [f"warning: {name}: only the first {used} of {how.n_units} units fire, see --n-units"]


def cure(clock: Clock) -> str:
    """What is odd about a clock, and the options that mend it; "" if nothing is."""
    options = [f"--time-unit {clock.unit}"] if clock.unit else []
    options += ["--time-zero first-event"] if clock.start_s is not None else []
    return f"{clock.sentence()}, see {' and '.join(options)}" if options else ""


def _look(found: Survey, place: np.ndarray, block: Clips, how: Framing) -> None:
    """Fills in what a block of clips, at `place` in the set, says."""
    n_events = np.diff(block.offsets)
    found.n_events[place] = n_events
    if not n_events.all():
        place, block = place[n_events > 0], block.take(np.flatnonzero(n_events))
    if not len(place):
        return
    start = block.offsets[:-1]
    found.first_us[place] = np.minimum.reduceat(block.t_us, start)
    found.last_us[place] = np.maximum.reduceat(block.t_us, start)
    found.last_unit[place] = np.maximum.reduceat(block.x, start)
    long = too_long(how, found.last_us[place])
    for at in place[long].tolist():
        hint = cure(_clock(how, found.first_us[at], found.last_us[at]))
        why = why_too_long(how, found.last_us[at])
        found.why[at] = f"{why}{', ' * bool(hint)}{hint}"
    _count(found, place[~long], block.take(np.flatnonzero(~long)) if long.any() else block, how)


def _count(found: Survey, place: np.ndarray, block: Clips, how: Framing) -> None:
    """Counts steps, and the events in the frames, of clips that can be framed."""
    end = MAX_STEPS if how.n_steps is None else how.n_steps
    if how.framing == "grid":  # the last event tells, and only clips that are cut are counted
        found.n_steps[place] = found.last_us[place] // how.dt_us + 1
        found.n_inside[place] = found.n_events[place]
        cut = np.flatnonzero(found.n_steps[place] > end)
        place, block = place[cut], block.take(cut)
    if len(place):
        size, t_us = np.diff(block.offsets), torch.from_numpy(np.ascontiguousarray(block.t_us))
        events = flat(t_us, t_us, pieces(np.arange(len(place)), None), size, size)
        step = event_steps(events, how).numpy()
        found.n_steps[place] = np.maximum.reduceat(step, begins(size)) + 1
        found.n_inside[place] = np.add.reduceat((step < end).astype(np.int64), begins(size))
    if how.n_steps is None:
        for at in place[found.n_steps[place] > MAX_STEPS].tolist():
            hint = cure(_clock(how, found.first_us[at], found.last_us[at]))
            found.why[at] = f"the clip lasts {found.n_steps[at]} steps: {hint or 'set n_steps'}"


def _outside(found: Survey, i: int, how: Framing) -> str:
    """Why none of the events of clip `i` lies in the frames."""
    first, last = found.first_us[i], found.last_us[i]
    end_s = (how.n_steps or MAX_STEPS) * how.dt_us / 1e6
    hint = cure(_clock(how, first, last))
    where = f"its {found.n_events[i]} events lie at {first / 1e6:.6g} to {last / 1e6:.6g} s"
    return (
        f"no event lies in the frames, which end at {end_s:g} s: {where}{', ' * bool(hint)}{hint}"
    )


def _clock(how: Framing, first_us: float, last_us: float) -> Clock:
    """What is odd about a clock; exact frames that start at events do not mind when it starts."""
    clock = clock_of(float(first_us), float(last_us))
    return clock._replace(start_s=None) if how.framing == "event" else clock
