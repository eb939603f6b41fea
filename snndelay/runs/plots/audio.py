"""The four pictures of a run folder: learning curves, delays, confusion matrix, one clip's raster.

Legend: T time steps, C input channels, N neurons or classes. Colours: Okabe and Ito (2008), told
apart by colour-blind readers too.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

if TYPE_CHECKING:
    from ...data.audio.loader import Batch
    from ...models import DelayNet
    from ..evaluation import Evaluation

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
NAMES = {"valid": "validation clips", "test": "test clips (protocol best-on-test)"}


def learning_curves(records: list[dict], path: Path) -> None:
    """Loss, accuracy, spike rates, schedules and movement of the delays over the epochs.

    records: lines of metrics.jsonl.
    """
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.5), layout="constrained")
    epochs = [r["epoch"] for r in records]

    def draw(ax: Axes, values: list, label: str | None, i: int = 0, style: str = "-") -> None:
        marker = "o" if len(epochs) < 30 else None
        ax.plot(epochs, values, style, color=COLOURS[i % 7], label=label, marker=marker, ms=3)

    for ax, key in ((axes[0, 0], "loss"), (axes[0, 1], "accuracy")):
        scale = 100 if key == "accuracy" else 1
        draw(ax, [r[key] * scale for r in records], "training clips (with dropout)")
        for name, label in NAMES.items():
            if f"{name}_{key}" in records[0]:
                draw(ax, [r[f"{name}_{key}"] * scale for r in records], label, 1)
    rates = [r["spike_rates"] for r in records if "spike_rates" in r]
    for i, layer in enumerate(zip(*rates, strict=True) if len(rates) == len(records) else ()):
        draw(axes[0, 2], list(layer), f"hidden layer {i + 1}", i)
    draw(axes[1, 0], [r["sigma"] for r in records], None)
    for i, (key, label) in enumerate((("lr", "weights"), ("lr_position", "positions"))):
        if key in records[0]:
            draw(axes[1, 1], [r[key] for r in records], label, i)
    draw(axes[1, 2], [r["position_change_steps"] for r in records], None)
    _label(axes[0, 0], "Loss", "cross-entropy", legend=True)
    _label(axes[0, 1], "Accuracy", "accuracy (%)", legend=True)
    _label(axes[0, 2], "Activity in training", "spikes per neuron and step", legend=True)
    _label(axes[1, 0], "Width of the delay kernel", "SIG (steps)")
    _label(axes[1, 1], "Learning rates", "learning rate", legend=True)
    _label(axes[1, 2], "Movement of the delays", "mean change per epoch (steps)")
    axes[0, 1].set_ylim(0, 100)
    axes[0, 2].set_ylim(0, 1.1 * max((max(r) for r in rates), default=1.0) + 1e-6)
    axes[1, 1].set_yscale("log")
    for ax in axes.flat:
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
    _save(figure, path)


def delay_histograms(
    start: list[np.ndarray], end: list[np.ndarray], dt_ms: float, n_taps: int, path: Path
) -> None:
    """Delays of every layer before and after training. start, end: delays in steps, any shape."""
    figure, axes = plt.subplots(
        1, len(end), figsize=(3.8 * len(end) + 0.4, 3.6), layout="constrained", squeeze=False
    )
    edges = (np.arange(n_taps + 1) - 0.5) * dt_ms
    for i, (ax, before, after) in enumerate(zip(axes[0], start, end, strict=True)):
        ax.hist(after.ravel() * dt_ms, edges, color=COLOURS[5], label="after training")
        counts, _ = np.histogram(before.ravel() * dt_ms, edges)
        ax.stairs(counts, edges, color=COLOURS[6], lw=1.2, label="before training")
        name = f"hidden layer {i + 1}" if i + 1 < len(end) else "readout"
        _label(ax, f"Delays into {name}", "synapses", legend=i == 0)
        ax.set_xlabel("delay (ms)")
        ax.margins(x=0)
    _save(figure, path)


def confusion(
    labels: np.ndarray, predictions: np.ndarray, classes: list[str], title: str, path: Path
) -> None:
    """Which class is taken for which. labels, predictions: int64 (n,). Rows sum to 100 %."""
    n = len(classes)
    counts = np.zeros((n, n), int)
    np.add.at(counts, (labels, predictions), 1)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1) * 100
    side = max(4.5, 0.36 * n + 2)
    figure, ax = plt.subplots(figsize=(side + 1, side), layout="constrained")
    image = ax.imshow(share, cmap="cividis", vmin=0, vmax=100)
    ax.set_xticks(range(n), classes, rotation=90 if n > 10 else 45)
    ax.set_yticks(range(n), classes)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    ax.set_title(title)
    for i, j in zip(*np.nonzero(counts), strict=True):
        colour = "black" if share[i, j] > 55 else "white"
        ax.text(j, i, str(counts[i, j]), ha="center", va="center", color=colour, fontsize=7)
    figure.colorbar(image, label="part of the true class (%)", shrink=0.8)
    _save(figure, path)


def raster(
    x_TC: np.ndarray,
    spikes: list[np.ndarray],
    v_TN: np.ndarray,
    *,
    classes: list[str],
    label: int,
    prediction: int,
    dt_ms: float,
    path: Path,
) -> None:
    """One clip on its way through the network, all on one time axis.

    x_TC: input counts; spikes: 0/1 (T', neurons) of each hidden layer; v_TN: readout potentials.
    T' may exceed T (padding `published`): the input's end is marked. A spike at step t is drawn at
    t * dt_ms in every panel, so what stands below each other happens at the same time.
    """
    panels = [("input channel", x_TC), *((f"layer {i + 1}", s) for i, s in enumerate(spikes))]
    figure, axes = plt.subplots(
        len(panels) + 1, 1, figsize=(9, 2.1 * len(panels) + 2.6), layout="constrained", sharex=True
    )
    for ax, (name, events_TN) in zip(axes, panels, strict=False):
        t, unit = np.nonzero(events_TN)
        ax.scatter(t * dt_ms, unit, s=3, marker="|", color=COLOURS[6], linewidths=0.8)
        ax.set_ylim(-1, events_TN.shape[1])
        ax.set_ylabel(name if name.startswith("input") else f"{name} neuron")
        ax.set_title(f"{int(events_TN.sum()):,} spikes", loc="right", fontsize=9)
    for i in {*np.argsort(v_TN.mean(0))[-5:], label, prediction}:
        strong = i in (label, prediction)
        colour = COLOURS[2] if i == label else COLOURS[1] if i == prediction else "#999999"
        text = {label: "true", prediction: "predicted"}.get(i, "")
        text = "true and predicted" if label == prediction == i else text
        name = f"{classes[i]} ({text})" if text else "other high classes"
        known = axes[-1].get_legend_handles_labels()[1]
        time_ms = np.arange(len(v_TN)) * dt_ms
        axes[-1].plot(
            time_ms, v_TN[:, i], color=colour, lw=1.8 if strong else 0.8, zorder=2 + strong,
            label="_" if name in known else name,
        )  # fmt: skip
    axes[-1].legend(fontsize=8)
    axes[-1].set_ylabel("readout potential")
    axes[-1].set_xlabel("time (ms)")
    for ax in axes:
        ax.axvline(len(x_TC) * dt_ms, color=COLOURS[0], ls=":", lw=1)
    axes[0].set_title(
        f"One clip of class {classes[label]!r}, predicted {classes[prediction]!r}"
        " (dotted: end of the input)", loc="left",
    )  # fmt: skip
    _save(figure, path)


def draw_run(
    folder: Path,
    *,
    records: list[dict],
    net: "DelayNet",
    start: list[np.ndarray],
    example: "Batch",
    prediction: int,
    result: "Evaluation",
    classes: list[str],
    title: str,
    dt_ms: float,
) -> list[Path]:
    """All pictures of a run into its folder. start: delays in steps of each layer before training;
    example: a batch of one clip, and its prediction; result: what the confusion matrix shows.
    Returns the paths."""
    paths = {n: folder / f"{n}.png" for n in ("learning_curves", "delays", "confusion", "raster")}
    learning_curves(records, paths["learning_curves"])
    end = [layer.delay_steps.cpu().numpy() for layer in net.delay_layers()]
    delay_histograms(start, end, dt_ms, net.delay_layers()[0].max_delay_steps, paths["delays"])
    confusion(result.labels, result.predictions, classes, title, paths["confusion"])
    device = next(net.parameters()).device
    with torch.no_grad():
        v_TBN, hidden = net.eval().activity(example.x.to(device))
    raster(
        example.x[:, 0].numpy(),
        [s[:, 0].cpu().numpy() for s in hidden],
        v_TBN[:, 0].cpu().numpy(),
        classes=classes,
        label=int(example.label_B[0]),
        prediction=prediction,
        dt_ms=dt_ms,
        path=paths["raster"],
    )
    return list(paths.values())


def _label(ax: Axes, title: str, y: str, legend: bool = False) -> None:
    ax.set_title(title)
    ax.set_ylabel(y)
    ax.grid(alpha=0.25)
    if legend:
        ax.legend(fontsize=8)


def _save(figure: Figure, path: Path) -> None:
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)  # type: ignore
    figure.savefig(path, dpi=130)
    plt.close(figure)


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
    _save(figure, path)


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
