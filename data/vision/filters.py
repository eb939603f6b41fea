"""Filters of a recording's events, before they become frames.

Each takes events away and counts them, or joins pixels and keeps all. They come in the order of
`filtered`: hot pixels, noise, joined pixels, thinning.

Legend: n events, H rows, W columns.
"""

from typing import NamedTuple

import numpy as np

from ..events import Events

AROUND = {  # neighbours of a pixel: (rows down, columns right)
    4: ((-1, 0), (0, -1), (0, 1), (1, 0)),
    8: tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)),
}
NOISE_NAMES = ("hot pixels", "noise", "thinning")  # what takes events away, in the order of counts


class Filters(NamedTuple):
    """`hot_pixels`: times the median count above which a pixel is silenced; `noise_ms`: longest
    time since an event of a neighbour; `shrink`: pixels per side that become one; `thin_ms`: time
    in which a pixel has one event of a polarity. None, and 1 for `shrink`: off."""

    hot_pixels: float | None = None
    noise_ms: float | None = None
    shrink: int = 1
    thin_ms: float | None = None

    @property
    def taking(self) -> list[bool]:
        """Which of NOISE_NAMES are on."""
        return [part is not None for part in (self.hot_pixels, self.noise_ms, self.thin_ms)]


def filtered(
    events: Events, size: tuple[int, int], how: Filters
) -> tuple[Events, tuple[int, int], np.ndarray]:
    """(the events that are left, the size (H, W) of the sensor that they lie on, how many each of
    NOISE_NAMES took away, int64). `size`: that of the sensor. Errors: DataError as
    `Events.validate`."""
    taken = np.zeros(len(NOISE_NAMES), np.int64)
    if how == Filters():
        return events, size, taken
    H, W = size
    events.validate(W, H)
    left = [len(events)]
    if how.hot_pixels is not None:
        events = without_hot_pixels(events, size, how.hot_pixels)
    left.append(len(events))
    if how.noise_ms is not None:
        events = without_noise(events, size, round(how.noise_ms * 1000))
    left.append(len(events))
    events, size = shrunk(events, size, how.shrink)
    if how.thin_ms is not None:
        events = thinned(events, size, round(how.thin_ms * 1000))
    left.append(len(events))
    return events, size, -np.diff(left)


def without_hot_pixels(events: Events, size: tuple[int, int], times: float) -> Events:
    """The events of pixels that have at most `times` as many, of both polarities, as the median of
    the pixels that have any: a broken pixel fires all the time, whatever moves. `size`: (H, W)."""
    place = _places(events, size)
    count = np.bincount(place)
    if not len(count):
        return events
    cold = count <= times * np.median(count[count > 0])
    return events if cold.all() else events.select(cold[place])


def without_noise(events: Events, size: tuple[int, int], dt_us: int, neighbours: int = 8) -> Events:
    """The events of which a neighbouring pixel, not the own one, had one of any polarity at most
    `dt_us` before, whether that is kept or not; of one time, those stored before count. In the
    order as stored.

    `neighbours`: 8, or 4 without the diagonals. Source: the background-activity filter of Delbruck,
    Frame-free dynamic digital vision (Symposium on Secure-Life Electronics, 2008).
    """
    if not (n := len(events)):
        return events
    wide = (size[0] + 2, size[1] + 2)  # so that no neighbour of an edge lies in another row
    x, y = (np.asarray(part, np.int64) + 1 for part in (events.x, events.y))
    order = np.argsort(events.t_us, kind="stable")
    t_us = events.t_us[order]
    # sorted by pixel and, in each, by time; all questions to one neighbour are then sorted too
    key = (y * wide[1] + x)[order] * n + np.arange(n)
    key.sort()
    rank = key % n
    supported = np.zeros(n, bool)
    for down, right in AROUND[neighbours]:
        asked = key + (down * wide[1] + right) * n
        before = np.searchsorted(key, asked) - 1
        there = (before >= 0) & (key[before] // n == asked // n)
        supported[rank] |= there & (t_us[rank] - t_us[rank[before]] <= dt_us)
    kept = np.empty(n, bool)
    kept[order] = supported
    return events.select(kept)


def shrunk(events: Events, size: tuple[int, int], k: int) -> tuple[Events, tuple[int, int]]:
    """(all events, with every k x k pixels joined into one, the new size): spatial down-sampling
    that keeps counts. `size`: (H, W); what is left at the right and below is a pixel too."""
    if k == 1:
        return events, size
    assert events.y is not None
    joined = Events(events.t_us, events.x // k, events.y // k, events.p)
    return joined, seen_size(size, k)


def seen_size(size: tuple[int, int], k: int) -> tuple[int, int]:
    """(H, W) of a sensor after every k x k pixels are joined into one."""
    return -(-size[0] // k), -(-size[1] // k)


def thinned(events: Events, size: tuple[int, int], dt_us: int) -> Events:
    """The first event of each pixel and polarity in every stretch of `dt_us` from time 0 on, in the
    order as stored: temporal down-sampling. `size`: (H, W)."""
    place = _places(events, size) * 2 + np.asarray(events.p, np.int64)
    order = np.lexsort((events.t_us, place))
    stretch = events.t_us[order] // dt_us
    first = np.ones(len(events), bool)
    first[1:] = (np.diff(place[order]) != 0) | (np.diff(stretch) != 0)
    kept = np.empty(len(events), bool)
    kept[order] = first
    return events.select(kept)


def _places(events: Events, size: tuple[int, int]) -> np.ndarray:
    """Pixel of every event, row by row, int64 (n,)."""
    return np.asarray(events.y, np.int64) * size[1] + np.asarray(events.x, np.int64)
