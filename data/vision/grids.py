"""Events of a recording -> frames that are no counts: time surfaces and voxel grids [T, P, H, W].

Legend: n events, T steps, P polarities (2), H rows, W columns.
"""

from itertools import pairwise

import numpy as np

from ..events import Events

SURFACES = ("last", "sum")  # of a pixel's events: only the last one decays, or all, added up
VOXELS = ("per-polarity", "signed")


def time_surface(
    events: Events,
    size: tuple[int, int],
    n_steps: int,
    dt_us: int,
    tau_us: float,
    surface: str = "last",
) -> np.ndarray:
    """What the events before the end of each step have left there, float32 [T, 2, H, W].

        last:  exp(-(t_k - t_last) / tau),          t_last the time of the pixel's last event
        sum:   sum over events  exp(-(t_k - t_i) / tau)

    of each pixel and polarity, at the ends t_k = (k + 1) `dt_us` of T = `n_steps` steps; an event
    at t_k belongs to the next step. Events of earlier steps are remembered. `size` is (H, W); times
    are at least 0. Source: "last", the time surface of HOTS, Lagorce et al. 2017
    (10.1109/TPAMI.2016.2574707), here of the whole sensor; "sum", the local memory time surface of
    HATS, Sironi et al. 2018 (arXiv 1803.07913), with all of the past in its memory and without its
    cells.
    """
    order = np.argsort(events.t_us, kind="stable")
    t_us, place = events.t_us[order], _places(events, size)[order]
    n = 2 * size[0] * size[1]
    x = np.empty((n_steps, n), np.float32)
    last_us, added = np.full(n, -np.inf), np.zeros(n)
    edges = np.searchsorted(t_us, np.arange(n_steps + 1) * dt_us)
    for k, (begin, stop) in enumerate(pairwise(edges)):
        now, where, end_us = t_us[begin:stop], place[begin:stop], (k + 1) * dt_us
        if surface == "last":
            last_us[where] = now  # of several numpy takes the last, which is the latest
            x[k] = np.exp((last_us - end_us) / tau_us)
        else:
            added *= np.exp(-dt_us / tau_us)
            added += np.bincount(where, np.exp((now - end_us) / tau_us), n)
            x[k] = added
    return x.reshape(n_steps, 2, *size)


def voxel_grid(
    events: Events, size: tuple[int, int], n_steps: int, voxel: str = "per-polarity"
) -> np.ndarray:
    """Every event shared by the two steps around it, float32 [T, 2, H, W].

        t*_i = (T - 1) (t_i - t_first) / (t_last - t_first)
        V_k  = sum over events  max(0, 1 - |k - t*_i|)

    for T = `n_steps`, so that every event counts 1 in all. "per-polarity": V of each polarity
    apart. "signed": the published one, in which an event of polarity 0 counts -1; what is above 0
    lies at polarity 1 and what is below, without its sign, at 0, so that V = x[:, 1] - x[:, 0].
    `size` is (H, W). Source: Zhu et al. 2019 (arXiv 1812.08156), equations 1 to 3.
    """
    if not len(events):
        return np.zeros((n_steps, 2, *size), np.float32)
    n, first_us = 2 * size[0] * size[1], events.t_us.min()
    at = (n_steps - 1) * (events.t_us - first_us) / max(events.t_us.max() - first_us, 1)
    step = at.astype(np.int64)
    later = at - step
    place = _places(events, size) + step * n
    x = np.bincount(place, 1 - later, (n_steps + 1) * n)
    x += np.bincount(place + n, later, (n_steps + 1) * n)  # at the last step nothing is later
    x = x[: n_steps * n].reshape(n_steps, 2, *size)
    if voxel == "signed":
        signed = x[:, 1] - x[:, 0]
        x = np.stack([np.maximum(-signed, 0), np.maximum(signed, 0)], 1)
    return x.astype(np.float32)


def _places(events: Events, size: tuple[int, int]) -> np.ndarray:
    """Polarity and pixel of every event, row by row, int64 (n,)."""
    p, y, x = (np.asarray(part, np.int64) for part in (events.p, events.y, events.x))
    return (p * size[0] + y) * size[1] + x
