"""Long clips of events cut into windows.

A split is made before, so that the windows of one clip stay on one side of it.

Legend: N clips, M windows of all of them.
"""

from dataclasses import replace

import numpy as np

from ...errors import DataError
from ..events import Clips
from .sets import ClipSet

MOST = 10_000_000  # windows of a set: more is a window that is far too short


def cut(clips: ClipSet, window_ms: float, overlap: float = 0.0) -> tuple[ClipSet, str]:
    """Every clip as windows of `window_ms`, each beginning (1 - `overlap`) of that after the one
    before, from time 0 on and until one holds the clip's last event; time 0 of a window is where it
    begins. Also a sentence that says how many there are.

    Windows without events are left out; a clip without any stays as it is, for whoever looks for
    bad ones. Errors: DataError if there would be over MOST windows.
    """
    stored, length = clips.whole(), round(window_ms * 1000)
    step = max(1, round(window_ms * 1000 * (1 - overlap)))
    last_N = _last(stored)
    count_N = 1 + np.maximum(0, -(-(last_N + 1 - length) // step))
    if count_N.sum() > MOST:
        i = int(last_N.argmax())
        raise DataError(
            f"{clips.identity(i)} lasts {last_N[i] / 1e6:g} s, and cut into windows of "
            f"{window_ms:g} ms the clips become {count_N.sum():,}: see --time-unit"
        )
    windows, owner, number = _windows(stored, length, step)
    bad = {k: why for k, i in enumerate(owner.tolist()) if (why := clips.why_bad(i))}
    names = [f"{clips.identity(i)}, window {k}" for i, k in zip(owner, number, strict=True)]
    speakers = None if clips.speakers is None else clips.speakers[owner]
    made = replace(
        clips, source=replace(windows, bad=bad), labels=clips.labels[owner], speakers=speakers,
        index=None, names=names,
    )  # fmt: skip
    empty = int(count_N.sum()) - len(owner)
    left = f", {empty} more hold no event and are left out" if empty else ""
    return made, f"{len(clips)} clips are cut into {len(owner)} windows of {window_ms:g} ms{left}"


def _last(stored: Clips) -> np.ndarray:
    """Time of the last event of every clip, int64 (N,), -1 where there is none."""
    size, last = np.diff(stored.offsets), np.full(len(stored), -1, np.int64)
    if len(stored.t_us):
        last[size > 0] = np.maximum.reduceat(stored.t_us, stored.offsets[:-1][size > 0])
    return last


def _windows(stored: Clips, length: int, step: int) -> tuple[Clips, np.ndarray, np.ndarray]:
    """The windows, and of each its clip and its number there, int64 (M,)."""
    size = np.diff(stored.offsets)
    clip_n, t_n = np.repeat(np.arange(len(stored)), size), stored.t_us.astype(np.int64)
    last_n = t_n // step  # the last window that begins before an event
    first_n = np.maximum(0, -(-(t_n + 1 - length) // step))
    # a clip ends with the first window that holds its last event
    final_N = np.maximum(0, -(-(_last(stored) + 1 - length) // step))
    last_n = np.minimum(last_n, final_N[clip_n])
    held_n = np.maximum(0, last_n - first_n + 1)
    place = np.repeat(np.arange(len(t_n)), held_n)
    number_e = (
        first_n[place] + np.arange(len(place)) - np.repeat(np.cumsum(held_n) - held_n, held_n)
    )
    order = np.lexsort((place, number_e, clip_n[place]))
    place, number_e = place[order], number_e[order]
    pair = np.stack([clip_n[place], number_e], 1)
    empty = np.flatnonzero(size == 0)
    pairs, count = np.unique(pair, axis=0, return_counts=True)
    pairs = np.concatenate([pairs, np.stack([empty, np.zeros_like(empty)], 1)])
    count = np.concatenate([count, np.zeros_like(empty)])
    sort = np.lexsort((pairs[:, 1], pairs[:, 0]))
    pairs, count = pairs[sort], count[sort]
    offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    return Clips(t_n[place] - number_e * step, stored.x[place], offsets), pairs[:, 0], pairs[:, 1]
