"""How the time constants of a network spread: over training, or over anything else.

points = [(n, quantiles(time_constants(net))) for n, net in nets.items()]
time_constants(points, Path("over_n.png"), x="N")
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.ticker import LogFormatter

from ...timescales import QUANTILES
from .style import COLOURS, label_axes, save

COLUMNS = 4
BINS = 30
# of the bands, from the outside in: name and part of the colour, the rest is white
BANDS = (("lowest to highest", 0.2), ("middle 80 %", 0.4), ("middle half", 0.65))


def time_constants(
    points: Sequence[tuple[float, Mapping[str, Sequence[float]]]],
    path: Path,
    *,
    x: str = "epoch",
    dt_ms: float | None = None,
    start: Mapping[str, np.ndarray] | None = None,
    end: Mapping[str, np.ndarray] | None = None,
) -> None:
    """One panel per name: bands of quantiles over ``x``, and below it histograms if there are some.

    points: (x, {name: its QUANTILES, in steps}) in order; see ``timescales.quantiles``. A name may
    be missing from some. dt_ms: length of a step, for a second axis in milliseconds; None: no such
    axis. start, end: {name: values in steps, any shape} before and after, of the same names.
    """
    names = list(dict.fromkeys(name for _, found in points for name in found))
    columns = min(COLUMNS, len(names))
    kinds = 1 if end is None else 2
    rows = kinds * -(-len(names) // columns)
    size = (3.9 * columns + 0.4, 3.1 * rows)
    figure, axes = plt.subplots(*(rows, columns), figsize=size, layout="constrained", squeeze=False)
    for i, name in enumerate(names):
        row, column = kinds * (i // columns), i % columns
        there = [(at, found[name]) for at, found in points if name in found]
        _bands(axes[row, column], there, name, x, dt_ms, legend=i == 0)
        if end is not None:
            before = start[name] if start else None
            _histogram(axes[row + 1, column], before, end[name], dt_ms, legend=i == 0)
    for i in range(len(names), columns * (rows // kinds)):
        for more in range(kinds):
            axes[kinds * (i // columns) + more, i % columns].set_axis_off()
    save(figure, path)


def _bands(
    ax: Axes,
    points: Sequence[tuple[float, Sequence[float]]],
    name: str,
    x: str,
    dt_ms: float | None,
    legend: bool,
) -> None:
    at, steps = [at for at, _ in points], np.array([found for _, found in points])
    half = len(QUANTILES) // 2
    for i, (label, part) in enumerate(BANDS):
        colour = [1 - part * (1 - value) for value in to_rgb(COLOURS[0])]
        ax.fill_between(at, steps[:, i], steps[:, -1 - i], color=colour, lw=0, label=label)
    ax.plot(at, steps[:, half], color=COLOURS[6], lw=1.4, label="median")
    ax.set_yscale("log")
    label_axes(ax, name, "time constant (steps)", legend=legend)
    ax.set_xlabel(x)
    ax.margins(x=0)
    if all(value == int(value) for value in at):
        ax.xaxis.get_major_locator().set_params(integer=True)
    _plain(ax.yaxis)
    if dt_ms is not None:
        ms = ax.secondary_yaxis("right", _to_ms(dt_ms))
        ms.set_ylabel("(ms)")
        _plain(ms.yaxis)


def _histogram(
    ax: Axes, before: np.ndarray | None, after: np.ndarray, dt_ms: float | None, legend: bool
) -> None:
    both = np.concatenate([np.ravel(v) for v in (before, after) if v is not None])
    edges = np.geomspace(both.min() / 1.02, both.max() * 1.02, BINS + 1)
    ax.hist(np.ravel(after), edges, color=COLOURS[5], label="after training")
    if before is not None:
        counts, _ = np.histogram(before, edges)
        ax.stairs(counts, edges, color=COLOURS[6], lw=1.2, label="before training")
    ax.set_xscale("log")
    label_axes(ax, "", "neurons", legend=legend)
    ax.set_xlabel("time constant (steps)")
    ax.margins(x=0)
    _plain(ax.xaxis)
    if dt_ms is not None:
        ms = ax.secondary_xaxis("top", _to_ms(dt_ms))
        ms.set_xlabel("(ms)")
        _plain(ms.xaxis)


def _to_ms(dt_ms: float) -> Any:
    """Steps to milliseconds, and back."""
    return partial(np.multiply, dt_ms), partial(np.multiply, 1 / dt_ms)


def _plain(axis: Axis) -> None:
    """Numbers in full, on an axis within a decade too."""
    axis.set_major_formatter(LogFormatter())
    axis.set_minor_formatter(LogFormatter(minor_thresholds=(1.0, 0.5)))
