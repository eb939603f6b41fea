"""The picture of a study: accuracy along every axis, and what learned delays bring there."""

import statistics
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from ..help import shown
from ..statistics import half_interval, welch
from ..study_file import Study
from ..study_table import Group, per_seed
from .style import COLOURS, drawable, label_axes, save

KINDS = ("learned", "fixed", "none", "frozen")  # each has its colour in every study


def draw_study(study: Study, groups: list[Group], path: Path) -> None:
    """A column of panels for every axis with several values, averaged over the other axes seed by
    seed: accuracy with 95 % confidence bands and chance, and below it learned - fixed with
    Welch's p. A study of delays alone has one panel, with delays along it, and one of seeds alone
    too; memory tasks know no delays."""
    axes = [a for a, v in study.grid.items() if len(v) > 1 and a not in ("delays", "seed")]
    kinds = study.grid.get("delays", [study.base.get("delays", "none")])
    gain = bool(axes) and {"learned", "fixed"} <= {*kinds}
    columns = axes or ["delays"]
    figure, panels = plt.subplots(
        1 + gain, len(columns), figsize=(4.6 * len(columns) + 0.8, 3.8 + 2.8 * gain),
        layout="constrained", squeeze=False, sharex="col", sharey="row",
    )  # fmt: skip
    judge = "validation" if study.base.get("protocol") == "validation" else "test"
    chance = {line["n_classes"] for group in groups for line in group.lines.values()}
    for axis, column in zip(columns, panels.T, strict=True):
        values = _ordered(study.grid.get(axis, kinds))
        apart = axis != "delays" and "delays" in study.base
        found = {kind: _along(groups, axis, values, kind) for kind in kinds if apart}
        found = found or {None: _along(groups, axis, values, None)}
        for kind, accuracies in found.items():
            _line(column[0], accuracies, kind, joined=any(map(_number, values)))
        if len(chance) == 1:
            classes = next(iter(chance))
            column[0].axhline(100 / classes, color="#777777", ls="--", lw=1, label="chance")
        if gain:
            _gain(column[1], found["learned"], found["fixed"])
        column[-1].set_xticks(range(len(values)), [drawable(shown(value)) for value in values])
        column[-1].set_xlim(-0.4, len(values) - 0.6)
        column[-1].set_xlabel(axis)
        label_axes(column[0], f"Along {axis}", f"{judge} accuracy (%)", legend=axis == columns[0])
        low, high = column[0].get_ylim()
        column[0].set_ylim(max(low, 0), min(high, 100))  # bands of few seeds go beyond
    means = "means over the other axes; " if len(axes) > 1 else ""
    figure.suptitle(f"{means}bands and bars: 95 % confidence over seeds", fontsize=10)
    save(figure, path)


def _ordered(values: list[Any]) -> list[Any]:
    """Numbers from small to large, other values as the grid has them."""
    return sorted(values) if all(map(_number, values)) else values


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _along(
    groups: list[Group], axis: str, values: list[Any], kind: str | None
) -> list[list[float]]:
    """Percent of every seed for each value of an axis, empty where none is finished."""
    found = []
    for value in values:
        of = [g for g in groups if g.values.get(axis, value) == value]
        of = [g for g in of if kind is None or g.values.get("delays", kind) == kind]
        found.append([100 * accuracy for accuracy in per_seed(of)])
    return found


def _line(ax: Axes, accuracies: list[list[float]], kind: str | None, joined: bool) -> None:
    """Means with their bars; joined: a line with its band, which words along an axis have not,
    since they have no order."""
    colour = COLOURS[KINDS.index(kind)] if kind in KINDS else COLOURS[0]
    x = [i for i, seeds in enumerate(accuracies) if seeds]
    mean = np.array([statistics.mean(accuracies[i]) for i in x])
    half = np.array([half_interval(accuracies[i]) for i in x])
    if joined:
        ax.fill_between(x, mean - half, mean + half, color=colour, alpha=0.18, lw=0)
    ax.errorbar(
        x, mean, half, color=colour, marker="o", ms=4, ls="-" if joined else "none", lw=1.8,
        elinewidth=0.8, capsize=3, label=kind,
    )  # fmt: skip


def _gain(ax: Axes, learned: list[list[float]], fixed: list[list[float]]) -> None:
    """Learned - fixed in points with its confidence interval, and the p over each."""
    for i, (a, b) in enumerate(zip(learned, fixed, strict=True)):
        if not (a and b):
            continue
        mean, found = statistics.mean(a) - statistics.mean(b), welch(a, b)
        ends = [[mean - found.low], [found.high - mean]] if found else None
        ax.errorbar([i], [mean], ends, color=COLOURS[6], marker="o", ms=5, capsize=4)
        if found:
            ax.annotate(
                found.words(), (i, found.high), (0, 4), textcoords="offset points", ha="center",
                fontsize=8, fontweight="bold" if found.p < 0.05 else "normal",
            )  # fmt: skip
    ax.axhline(0, color="#777777", lw=1)
    ax.margins(y=0.18)
    label_axes(ax, "", "learned - fixed (points)")
