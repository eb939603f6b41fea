"""Pictures of runs on clips: learning curves, delays, one clip's raster.

Legend: T time steps, C input channels, N neurons or classes.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from .style import COLOURS, drawable, label_axes, save

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
    for ax, key in ((axes[1, 0], "sigma"), (axes[1, 2], "position_change_steps")):
        if key in records[0]:  # a network with delays
            draw(ax, [r[key] for r in records], None)
    for i, (key, label) in enumerate((("lr", "weights"), ("lr_position", "positions"))):
        if key in records[0]:
            draw(axes[1, 1], [r[key] for r in records], label, i)
    label_axes(axes[0, 0], "Loss", "cross-entropy", legend=True)
    label_axes(axes[0, 1], "Accuracy", "accuracy (%)", legend=True)
    label_axes(axes[0, 2], "Activity in training", "spikes per neuron and step", legend=True)
    label_axes(axes[1, 0], "Width of the delay kernel", "SIG (steps)")
    label_axes(axes[1, 1], "Learning rates", "learning rate", legend=True)
    label_axes(axes[1, 2], "Movement of the delays", "mean change per epoch (steps)")
    axes[0, 1].set_ylim(0, 100)
    axes[0, 2].set_ylim(0, 1.1 * max((max(r) for r in rates), default=1.0) + 1e-6)
    axes[1, 1].set_yscale("log")
    for ax in axes.flat:
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
    save(figure, path)


def delay_histograms(
    start: dict[str, np.ndarray],
    end: dict[str, np.ndarray],
    dt_ms: float,
    n_taps: int,
    path: Path,
) -> None:
    """Delays of every layer before and after training. start, end: where (`into hidden layer 1`) ->
    delays in steps, any shape."""
    figure, axes = plt.subplots(
        1, len(end), figsize=(3.8 * len(end) + 0.4, 3.6), layout="constrained", squeeze=False
    )
    edges = (np.arange(n_taps + 1) - 0.5) * dt_ms
    for ax, (place, after) in zip(axes[0], end.items(), strict=True):
        before = start[place]
        ax.hist(after.ravel() * dt_ms, edges, color=COLOURS[5], label="after training")
        counts, _ = np.histogram(before.ravel() * dt_ms, edges)
        ax.stairs(counts, edges, color=COLOURS[6], lw=1.2, label="before training")
        label_axes(ax, f"Delays {place}", "delays", legend=ax is axes[0, 0])
        ax.set_xlabel("delay (ms)")
        ax.yaxis.get_major_locator().set_params(integer=True)
        ax.margins(x=0)
    save(figure, path)


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
    T' may exceed T (padding `right`): the input's end is marked. A spike at step t is drawn at
    t * dt_ms in every panel, so what stands below each other happens at the same time.
    """
    panels = [("input channel", x_TC), *((f"layer {i + 1}", s) for i, s in enumerate(spikes))]
    figure, axes = plt.subplots(
        len(panels) + 1, 1, figsize=(9, 2.1 * len(panels) + 2.6), layout="constrained", sharex=True
    )
    for ax, (name, events_TN) in zip(axes, panels, strict=False):
        if (events_TN % 1).any():  # decibels
            extent = (0, len(events_TN) * dt_ms, -0.5, events_TN.shape[1] - 0.5)
            ax.imshow(events_TN.T, aspect="auto", origin="lower", extent=extent, cmap="magma")
            ax.set_ylabel(name)
            continue
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
        name = f"{drawable(classes[i])} ({text})" if text else "other high classes"
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
    true, taken = (drawable(classes[i]) for i in (label, prediction))
    axes[0].set_title(
        f"One clip of class '{true}', predicted '{taken}' (dotted: end of the input)", loc="left"
    )
    save(figure, path)
