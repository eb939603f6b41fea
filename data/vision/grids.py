"""Events of a recording -> frames that are no counts: time surfaces and voxel grids [T, P, H, W].

Legend: n events, T steps, P polarities (2), H rows, W columns.
"""

import numpy as np

from ..events import Events
from .counting import decaying, share_steps

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
    t_us, place = np.asarray(events.t_us, np.int64), _places(events, size)
    if not (t_us[1:] >= t_us[:-1]).all():
        order = np.argsort(t_us, kind="stable")
        t_us, place = t_us[order], place[order]
    x = np.empty((n_steps, 2 * size[0] * size[1]), np.float32)
    decaying(t_us, place, dt_us, float(tau_us), surface == "sum", x)
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
    t_us, first_us = np.asarray(events.t_us, np.int64), int(events.t_us.min())
    x = np.zeros((n_steps, 2 * size[0] * size[1]), np.float32)
    share_steps(t_us, _places(events, size), first_us, max(int(t_us.max()) - first_us, 1), x)
    x = x.reshape(n_steps, 2, *size)
    if voxel == "signed":
        signed = x[:, 1] - x[:, 0]
        x = np.stack([np.maximum(-signed, 0), np.maximum(signed, 0)], 1)
    return x


def _places(events: Events, size: tuple[int, int]) -> np.ndarray:
    """Polarity and pixel of every event, row by row, int64 (n,)."""
    p, y, x = (np.asarray(part, np.int64) for part in (events.p, events.y, events.x))
    return (p * size[0] + y) * size[1] + x
