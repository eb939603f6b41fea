"""Clips of which only the timing is left, and clips played backwards.

    clips = evenly(clips, 3, 700)  # every unit of every clip fires three times
    clips = backwards(clips)

Legend: n events, M = units x spikes of each clip.
"""

import numpy as np

from ..events import Clips, Events


def changed(clips: Clips, spikes: int | None, reverse: bool, n_units: int) -> Clips:
    """The clips after `evenly`, unless `spikes` is None, and after `backwards` if `reverse`."""
    clips = clips if spikes is None else evenly(clips, spikes, n_units)
    return backwards(clips) if reverse else clips


def evenly(clips: Clips, spikes: int, n_units: int) -> Clips:
    """Every unit of every clip with exactly `spikes` events, so that counts carry nothing, neither
    those of a unit nor which units fire at all.

    Of the m events of a unit, in order of time, those of the ranks floor((i + 1/2) m / spikes) are
    taken, i = 0 ... spikes - 1: evenly spread where there are more, some of them repeated where
    there are fewer. A unit without events takes those of the nearest unit that has some, of two
    the lower one. A clip without events stays so.

    Source: after the data sets of fixed spike counts of Yu et al. 2025 (Beyond Rate Coding), who
    keep some units and drop clips; here all of both stay.
    """
    made = [_even(clips.events(i), spikes, n_units) for i in range(len(clips))]
    size = [len(t_us) for t_us, _ in made]
    t_us, unit = (np.concatenate([m[k] for m in made] or [np.empty(0, np.int64)]) for k in (0, 1))
    offsets = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    return Clips(t_us.astype(clips.t_us.dtype), unit.astype(clips.x.dtype), offsets)


def backwards(clips: Clips) -> Clips:
    """Every clip played backwards between its first and its last event."""
    size = np.diff(clips.offsets)
    starts = clips.offsets[:-1][size > 0]
    if not len(starts):
        return clips
    first, last = (f.reduceat(clips.t_us, starts) for f in (np.minimum, np.maximum))
    t_us = np.repeat(first + last, size[size > 0]) - clips.t_us
    return Clips(t_us.astype(clips.t_us.dtype), clips.x, clips.offsets)


def _even(events: Events, spikes: int, n_units: int) -> tuple[np.ndarray, np.ndarray]:
    """Times and units of one clip, (M,) each, unit by unit."""
    if not len(events):
        return events.t_us, events.x
    t_us = events.t_us[np.lexsort((events.t_us, events.x))]
    count = np.bincount(events.x, minlength=n_units)
    begin, active = np.cumsum(count) - count, np.flatnonzero(count)
    edges = (active[:-1] + active[1:]) / 2  # a unit in the middle goes to the lower one
    source = active[np.searchsorted(edges, np.arange(n_units))]
    rank = ((2 * np.arange(spikes) + 1) * count[source, None]) // (2 * spikes)
    place = begin[source, None] + rank
    return t_us[place].ravel(), np.repeat(np.arange(n_units), spikes)
