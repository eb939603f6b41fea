"""The picture of `snndelay profile`: how far each op and backend is from what the device allows."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from .style import COLOURS, save


def roofline(lines: list[dict], path: Path) -> None:
    """Speed of every op and backend, forward and backward together, below what the device allows.

    lines: result lines of `snndelay profile`. One panel per shape; a colour is a backend.
    """
    measured = [line for line in lines if "forward" in line]
    shapes = list(dict.fromkeys(line["preset"] for line in measured))
    backends = list(dict.fromkeys(line["backend"] for line in measured))
    colours = dict(zip(backends, COLOURS, strict=False))
    columns = min(2, max(1, len(shapes)))
    rows = -(-max(1, len(shapes)) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(8.5 * columns, 6 * rows), layout="constrained", squeeze=False
    )
    for ax in axes.flat[len(shapes) :]:
        ax.set_axis_off()
    for ax, shape in zip(axes.flat, shapes, strict=False):
        here = [line for line in measured if line["preset"] == shape]
        points = [(*_intensity_and_speed(line), line) for line in here]
        _roof(ax, here[0], [x for x, _, _ in points], [y for _, y, _ in points])
        for x, y, line in points:
            ax.plot(x, y, "o", ms=5, color=colours[line["backend"]], zorder=3)
        _stacked_labels(ax, [(x, y, line["op"], colours[line["backend"]]) for x, y, line in points])
        sizes = ", ".join(f"{letter} {size}" for letter, size in here[0]["shape"].items())
        ax.set_title(f"{shape}: {sizes}")
        ax.set_xlabel("arithmetic intensity (FLOP / byte)")
        ax.set_ylabel("speed (GFLOP/s)")
        ax.grid(alpha=0.25)
    handles = [Line2D([], [], marker="o", ls="", color=c, label=b) for b, c in colours.items()]
    if shapes:
        axes[0, 0].legend(handles=handles, title="backend", loc="upper left", fontsize=9)
        first = measured[0]
        device = f"{first['device']}, threads: {first['threads']}"
        note = "above the roof: fewer operations than the direct algorithm"
        figure.suptitle(f"{device}\nforward + backward; {note}", fontsize=10)
    save(figure, path)


def _intensity_and_speed(line: dict) -> tuple[float, float]:
    """FLOP per byte and GFLOP/s of all passes of a result line."""
    passes = [line[p] for p in ("forward", "backward") if p in line]
    flop, moved, seconds = (sum(p[k] for p in passes) for k in ("flop", "bytes", "seconds"))
    return flop / moved, flop / seconds / 1e9


def _roof(ax: Axes, line: dict, x: list[float], y: list[float]) -> None:
    """The two ceilings, and axes with room for labels right of the points."""
    limit = line["ceilings"]
    slope, flat = limit["bandwidth"] / 1e9, limit["peak"] / 1e9
    low, high = min(x) / 4, max(max(x), flat / slope) * 40
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(low, high)
    ax.set_ylim(min(min(y), slope * low) / 2, max(flat, *y) * 6)
    ax.plot([low, flat / slope, high], [slope * low, flat, flat], color=COLOURS[6], lw=1.2)
    ridge = flat / slope
    ax.annotate(
        f"matmul {limit['dtype']} {flat:,.0f} GFLOP/s", (ridge, flat), (4, 4),
        textcoords="offset points", fontsize=8,
    )  # fmt: skip
    middle = (low * ridge) ** 0.5
    ax.annotate(
        f"copy {slope:,.1f} GB/s", (middle, slope * middle), (-6, 4), ha="right",
        textcoords="offset points", fontsize=8,
    )  # fmt: skip


def _stacked_labels(ax: Axes, points: list[tuple[float, float, str, str]]) -> None:
    """Names right of each cluster of points, spread so that none covers another, with leaders."""
    bottom, top = np.log10(ax.get_ylim())
    gap = (top - bottom) / 44
    clusters: list[list] = []
    for point in sorted(points):
        if clusters and point[0] < 8 * clusters[-1][-1][0]:
            clusters[-1].append(point)
        else:
            clusters.append([point])
    for cluster in clusters:
        cluster.sort(key=lambda point: point[1])
        wanted = np.log10([y for _, y, _, _ in cluster])
        placed = wanted.copy()
        for i in range(1, len(placed)):
            placed[i] = max(placed[i], placed[i - 1] + gap)
        placed -= (placed - wanted).mean()
        placed -= min(0, placed[0] - bottom - gap) + max(0, placed[-1] - top + gap)
        right = max(x for x, _, _, _ in cluster) * 2.2
        for (x, y, name, colour), level in zip(cluster, placed, strict=True):
            ax.plot([x, right * 0.95], [y, 10**level], color=colour, lw=0.5, alpha=0.6)
            paper = {"fc": "white", "ec": "none", "pad": 0.3, "alpha": 0.8}
            ax.text(right, 10**level, name, color=colour, fontsize=8, va="center", bbox=paper)
