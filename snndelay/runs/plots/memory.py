"""Pictures of runs on memory tasks: the curriculum, and the time constants."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from .style import COLOURS, label_axes, save


def curriculum(
    records: list[dict], accuracy_per_n: dict[int, float], threshold: float, path: Path
) -> None:
    """N, loss and accuracy over the epochs, and what every head does in the end.

    records: lines of metrics.jsonl. accuracy_per_n: N -> part of the test trials.
    """
    figure, axes = plt.subplots(2, 2, figsize=(10, 6.5), layout="constrained")
    epochs = [r["epoch"] for r in records]
    axes[0, 0].step(epochs, [r["n"] for r in records], where="mid", color=COLOURS[0])
    axes[0, 1].plot(epochs, [r["loss"] for r in records], color=COLOURS[0])
    train, valid = ([100 * r[k] for r in records] for k in ("accuracy", "valid_accuracy"))
    axes[1, 0].plot(epochs, train, color=COLOURS[0], label="training trials")
    axes[1, 0].plot(epochs, valid, color=COLOURS[1], label="balanced bits")
    heads = list(accuracy_per_n)
    axes[1, 1].bar(heads, [100 * a for a in accuracy_per_n.values()], color=COLOURS[0])
    for ax in axes[1]:
        ax.axhline(100 * threshold, color=COLOURS[2], lw=1, label="threshold")
        ax.axhline(50, color=COLOURS[6], lw=1, ls="--", label="chance")
        ax.set_ylim(0, 103)
    label_axes(axes[0, 0], "N that is learned", "N (bits)")
    label_axes(axes[0, 1], "Loss", "cross-entropy")
    label_axes(axes[1, 0], "Accuracy of the heads that learn", "accuracy (%)", legend=True)
    label_axes(axes[1, 1], "Every head in the end, test trials", "accuracy (%)")
    for ax in axes.flat:
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].yaxis.get_major_locator().set_params(integer=True)
    axes[1, 1].set_xlabel("N (bits)")
    save(figure, path)


def timescales(records: list[dict], path: Path) -> None:
    """Time constants of the neurons over the epochs, and of them and of their activity within the
    network when each N was solved. records: lines of metrics.jsonl."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    _spread(axes[0], [r["epoch"] for r in records], records, "tau", 0, None)
    solved = [r for r in records if "tau_net_mean" in r]
    at = [r["solved"] for r in solved]
    _spread(axes[1], at, solved, "tau", 0, "neurons")
    _spread(axes[1], at, solved, "tau_net", 1, "activity within the network")
    label_axes(axes[0], "Time constants of the neurons", "steps")
    label_axes(axes[1], "Time constants when N was solved", "steps", legend=True)
    axes[0].set_xlabel("epoch")
    axes[1].set_xlabel("N (bits)")
    for ax in axes:
        ax.xaxis.get_major_locator().set_params(integer=True)
    save(figure, path)


def delays(start: np.ndarray, end: np.ndarray, n_taps: int, path: Path) -> None:
    """Delays before and after training, in steps, any shape."""
    figure, ax = plt.subplots(figsize=(5, 4), layout="constrained")
    edges = np.arange(n_taps + 1) - 0.5
    ax.hist(end.ravel(), edges, color=COLOURS[5], label="after training")
    counts, _ = np.histogram(start.ravel(), edges)
    ax.stairs(counts, edges, color=COLOURS[6], lw=1.2, label="before training")
    label_axes(ax, "Delays among the neurons", "delays", legend=True)
    ax.set_xlabel("delay (steps)")
    ax.margins(x=0)
    save(figure, path)


def _spread(
    ax: Axes, x: list[int], records: list[dict], name: str, i: int, label: str | None
) -> None:
    """Mean of a time constant, and the range from its first to its last quantile."""
    quantiles = [r[f"{name}_quantiles"] for r in records]
    ax.plot(x, [r[f"{name}_mean"] for r in records], "o-", ms=3, color=COLOURS[i], label=label)
    low, high = [q[0] for q in quantiles], [q[-1] for q in quantiles]
    ax.fill_between(x, low, high, color=COLOURS[i], alpha=0.2, lw=0)
