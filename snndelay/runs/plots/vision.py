"""Pictures of runs on recordings: curves, samples, pairs, aligned features, comparisons.

Legend: T time steps, P polarity (2), H height, W width, B batch, F features. Polarities are named
by the bit in the file: which of them means brighter depends on the recording.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ...data.events import Events
from .style import COLOURS, drawable, label_axes, save

POLARITY = (COLOURS[1], COLOURS[0])
PART = {"": "training", "valid_": "validation", "test_": "test"}  # prefix of a key -> its name
STYLES = ("-", "--", ":", "-.")
# panels of a transfer run: title, label of y, key of the records -> name in the legend
LINES = (
    ("Loss", "loss", {f"{prefix}loss": name for prefix, name in PART.items()}),
    (
        "Terms of the training loss",
        "loss",
        {
            "loss_total": "total",
            "loss_static": "static",
            "loss_domain": "domain, before its weight",
        },
    ),
    ("Accuracy", "accuracy (%)", {f"{prefix}accuracy": name for prefix, name in PART.items()}),
    ("Sliding training", "static inputs replaced (%)", {"replacement": None}),
    ("Learning rate", "learning rate", {"lr": None}),
)
# panels with a line per element of a list: title, label of y, key of the records, what a line is
FANS = (
    ("Alignment of the domains", "linear CKA", "cka", "time step"),
    ("Coefficients", "weight of the alignment", "coefficient", "time step"),
    ("Activity in training", "spikes per neuron and step", "spike_rates", "hidden layer"),
)
MOST_FRAMES = 10  # in a row
MOST_DOTS = 20_000  # in a space-time picture; more only cover each other
MOST_NAMES = 20  # classes whose names fit into a picture


def event_sample(x_TPHW: np.ndarray, events: Events | None, title: str, path: Path) -> None:
    """One recording: its frames in a row, and its events in space and time.

    x_TPHW: counts; of more than 10 frames, 10 at even distances are shown. events: with y and p;
    None: frames only. Of more than 20,000 events, every n-th is shown.
    """
    x_TPHW = np.asarray(x_TPHW)
    n = min(len(x_TPHW), MOST_FRAMES)
    height = 1.3 * x_TPHW.shape[2] / x_TPHW.shape[3] + 1.3
    below = 0 if events is None else 5.6
    figure = plt.figure(figsize=(max(1.3 * n, 8), height + below), layout="constrained")
    figure.suptitle(title)
    if events is None:
        _frame_row(figure.subplots(1, n, squeeze=False)[0], x_TPHW)
    else:
        grid = figure.add_gridspec(2, n, height_ratios=(height, below))
        _frame_row([figure.add_subplot(grid[0, i]) for i in range(n)], x_TPHW)
        _space_time(figure.add_subplot(grid[1, :], projection="3d"), events, x_TPHW.shape[2:])
    _polarity_legend(figure)
    save(figure, path)


def pair(static_HW: np.ndarray, x_TPHW: np.ndarray, title: str, path: Path) -> None:
    """A training pair: the static image, and the frames of a recording of the same class.

    static_HW: grey values from 0 to 1. x_TPHW: counts, as in ``event_sample``.
    """
    x_TPHW = np.asarray(x_TPHW)
    n = min(len(x_TPHW), MOST_FRAMES)
    height = 1.3 * x_TPHW.shape[2] / x_TPHW.shape[3] + 1.3
    figure, axes = plt.subplots(1, n + 1, figsize=(1.3 * (n + 1), height), layout="constrained")
    figure.suptitle(title)
    axes[0].imshow(static_HW, cmap="gray", vmin=0, vmax=1)
    axes[0].set_title("static image", fontsize=9)
    axes[0].set(xticks=[], yticks=[])
    _frame_row(axes[1:], x_TPHW)
    _polarity_legend(figure)
    save(figure, path)


def learning_curves(records: list[dict], path: Path) -> None:
    """A run over its epochs: losses, accuracies, sliding schedule, alignment, activity, rate.

    records: lines of metrics.jsonl with the keys epoch, loss, accuracy, the same with valid_ or
    test_ before them, loss_total, loss_static, loss_domain (before its weight), replacement (mean
    p), lr, and lists: cka and coefficient (weight of the alignment) per step, spike_rates per
    hidden layer. A panel of which no key is there is left out, an epoch without a key is a gap.
    """
    known = {key for record in records for key, value in record.items() if value is not None}
    lines = [line for line in LINES if known & line[2].keys()]
    fans = [fan for fan in FANS if fan[2] in known]
    figure, axes = _panels(len(lines) + len(fans))
    epochs = [record["epoch"] for record in records]
    for ax, (title, y, keys) in zip(axes, lines, strict=False):
        scale = 100 if "%" in y else 1
        for i, (key, name) in enumerate(keys.items()):
            if key in known:
                ax.plot(epochs, scale * _values(records, key), label=name, **_look(i, len(epochs)))
        label_axes(ax, title, y, legend=len(keys) > 1)
        if "%" in y:
            ax.set_ylim(-2, 102)
        if "lr" in keys:
            ax.set_yscale("log")
    for ax, (title, y, key, line) in zip(axes[len(lines) :], fans, strict=True):
        _fan(ax, epochs, _values(records, key), line)
        label_axes(ax, title, y)
        ax.set_ylim(0, 1.02 if key != "spike_rates" else None)
    save(figure, path)


def compare_runs(runs: dict[str, tuple[list[dict], dict]], path: Path) -> None:
    """Test accuracy of several runs with its standard error, and their accuracy over the epochs on
    the recordings that they watched (without such, on those they train on).

    runs: name -> (lines of its metrics.jsonl, keys as in ``learning_curves``, and its summary with
    test_accuracy and test_standard_error).
    """
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    for i, (name, (records, summary)) in enumerate(runs.items()):
        accuracy, error = (100 * summary[f"test_{key}"] for key in ("accuracy", "standard_error"))
        axes[0].bar(i, accuracy, yerr=error, color=COLOURS[i % 7], width=0.6, capsize=4)
        axes[0].text(i, 4, f"{accuracy:.1f} %", ha="center", color="white", fontweight="bold")
        prefix = next(p for p in ("valid_", "test_", "") if f"{p}accuracy" in records[0])
        epochs = [record["epoch"] for record in records]
        watched = 100 * _values(records, f"{prefix}accuracy")
        axes[1].plot(epochs, watched, label=f"{name} ({PART[prefix]})", **_look(i, len(epochs)))
    axes[0].set_xticks(range(len(runs)), list(runs))
    axes[0].set_ylim(0, 100)
    n = next(iter(runs.values()))[1]["n_test"]
    label_axes(axes[0], f"Last epoch, {n} test recordings, standard error", "test accuracy (%)")
    label_axes(axes[1], "While training", "accuracy (%)", legend=True)
    _epoch_axis(axes[1])
    save(figure, path)


def alignment_view(
    static_BF: np.ndarray,
    event_BF: np.ndarray,
    labels: np.ndarray,
    classes: list[str],
    title: str,
    path: Path,
) -> None:
    """Whether both domains share their features: no t-SNE, so distances mean what they show.

    Left: all samples in the first two principal components of both domains together; a line joins
    the two means of a class. Right: cosines between the class means, each domain centred by its own
    mean as in CKA; a diagonal of ones: both domains hold the same classes in the same directions.

    static_BF, event_BF: features, floating. labels: int64 (B,), the class of each pair. Classes of
    which there is no sample are left out.
    """
    present = np.unique(labels)
    names = [drawable(classes[i]) for i in present]
    side = max(4.8, 0.38 * len(present) + 2) if len(present) <= MOST_NAMES else 6.5
    figure, axes = plt.subplots(1, 2, figsize=(2 * side + 2, side), layout="constrained")
    figure.suptitle(title)
    _components(axes[0], static_BF, event_BF, labels, dict(zip(present, names, strict=True)))
    _cosines(axes[1], *(_class_means(x, labels) for x in (static_BF, event_BF)), names)
    save(figure, path)


def _frame_row(axes: list[Axes] | np.ndarray, x_TPHW: np.ndarray) -> None:
    """Frames at even distances, both polarities as tints; full colour at the 95th percentile."""
    most = np.percentile(x_TPHW[x_TPHW > 0], 95) if (x_TPHW > 0).any() else 1
    absorbed = 1 - np.array([to_rgb(colour) for colour in POLARITY])
    steps = np.linspace(0, len(x_TPHW) - 1, len(axes)).round().astype(int)
    for ax, step in zip(axes, steps, strict=True):
        x_PHW = np.clip(x_TPHW[step] / most, 0, 1)
        ax.imshow(np.clip(1 - np.einsum("phw,pc->hwc", x_PHW, absorbed), 0, 1))
        ax.set_title(f"step {step}", fontsize=9)
        ax.set(xticks=[], yticks=[])


def _polarity_legend(figure: Figure) -> None:
    names = dict(zip(("polarity 0", "polarity 1", "both"), (*POLARITY, "black"), strict=True))
    handles = [Line2D([], [], marker="s", ls="", color=c, label=n) for n, c in names.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9, frameon=False)


def _space_time(ax, events: Events, size: tuple[int, ...]) -> None:
    """Events as dots over time, column and row; the rows grow downwards as in the frames."""
    order = np.arange(0, len(events), max(1, -(-len(events) // MOST_DOTS)))
    e = events.select(order)
    colours = np.array([to_rgb(colour) for colour in POLARITY])[e.p]
    dot = np.clip(12_000 / max(len(e), 1), 0.5, 8)
    ax.scatter(e.t_us / 1000, e.x, e.y, s=dot, c=colours, lw=0, depthshade=False, clip_on=False)
    ax.set_xlabel("time (ms)", labelpad=22)
    ax.set_ylabel("column (pixel)", labelpad=8)
    ax.set_zlabel("row (pixel)", labelpad=4)
    ax.set(ylim=(0, size[1]), zlim=(size[0], 0))
    ax.set_box_aspect((3.2, 1.2, 1.2 * size[0] / size[1]), zoom=1.5)
    ax.view_init(elev=18, azim=-65)
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.zaxis.set_major_locator(MaxNLocator(4))
    ax.set_title(f"{len(events):,} events", fontsize=10)


def _panels(n: int) -> tuple[Figure, list[Axes]]:
    """n panels in rows of at most 4, with epochs on their x axes."""
    columns = min(4, -(-n // 2)) if n > 3 else max(1, n)
    rows = max(1, -(-n // columns))
    figure, axes = plt.subplots(
        rows, columns, figsize=(4 * columns, 3.3 * rows), layout="constrained", squeeze=False
    )
    for ax in axes.flat[n:]:
        ax.set_axis_off()
    for ax in axes.flat[:n]:
        _epoch_axis(ax)
    return figure, list(axes.flat[:n])


def _epoch_axis(ax: Axes) -> None:
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _look(i: int, n: int) -> dict:
    """Colour and style of the i-th line; single points would not show without a marker."""
    marker = "o" if n < 30 else None
    return {"color": COLOURS[i % 7], "ls": STYLES[i // 7 % 4], "marker": marker, "ms": 3}


def _values(records: list[dict], key: str) -> np.ndarray:
    """A key over the epochs, float (epochs,) or for lists (epochs, length); NaN where missing."""
    found = [record.get(key) for record in records]
    missing = np.full_like(next(v for v in found if v is not None), np.nan, dtype=float)
    return np.array([missing if v is None else v for v in found], float)


def _fan(ax: Axes, epochs: list[int], values: np.ndarray, line: str) -> None:
    """One line per column of values (epochs, n), dark to bright, with a colour bar."""
    n = values.shape[1]
    scale = ScalarMappable(Normalize(1, max(n, 2)), "viridis")
    for i in range(n):
        look = _look(0, len(epochs)) | {"color": scale.to_rgba(i + 1)}
        ax.plot(epochs, values[:, i], **look)
    ax.figure.colorbar(scale, ax=ax, label=line, ticks=MaxNLocator(5, integer=True))


def _class_means(x_BF: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean features of every class that is there, (classes, F), classes in ascending order."""
    return np.stack([np.asarray(x_BF)[labels == i].mean(0) for i in np.unique(labels)])


def _components(
    ax: Axes, static_BF: np.ndarray, event_BF: np.ndarray, labels: np.ndarray, names: dict[int, str]
) -> None:
    """Samples and class means in the first two principal components of both domains."""
    both = np.concatenate([static_BF, event_BF]).astype(np.float64)
    both -= both.mean(0)
    u, s, _ = np.linalg.svd(both, full_matrices=False)
    xy = np.pad(u * s, ((0, 0), (0, 1)))[:, :2]
    share = np.pad(100 * s**2 / max((s**2).sum(), 1e-30), (0, 1))
    domains = (("static", xy[: len(labels)], 0), ("event", xy[len(labels) :], 1))
    means = [_class_means(part, labels) for _, part, _ in domains]
    few = len(names) <= MOST_NAMES
    for (name, part, i), mean in zip(domains, means, strict=True):
        look = {"color": COLOURS[i], "marker": "os"[i]}
        text = f"{name} (large: mean of a class)"
        ax.scatter(*part.T, s=9, alpha=0.35, linewidths=0, **look)
        ax.scatter(
            *mean.T, s=45 if few else 14, edgecolors="black", lw=0.8, zorder=3, label=text, **look
        )
    for a, b in zip(*means, strict=True):
        ax.plot(*zip(a, b, strict=True), color="black", lw=0.9 if few else 0.4, zorder=2)
    ax.set_xlabel(f"component 1 ({share[0]:.0f} % of the variance)")
    label_axes(ax, "Principal components", f"component 2 ({share[1]:.0f} % of the variance)")
    ax.figure.legend(fontsize=9, loc="outside lower left", ncols=2, frameon=False)
    if few:
        _name_points(ax, means[0], means[1], list(names.values()))


def _name_points(ax: Axes, a: np.ndarray, b: np.ndarray, names: list[str]) -> None:
    """Name beside each pair of points (n, 2), at a height where it covers no name and no point."""
    ax.margins(0.08)
    ax.autoscale_view()
    to_axes = ax.transData + ax.transAxes.inverted()
    middle = (a + b) / 2
    size = 5.8 / ax.figure.get_figheight()  # of letters, against those in a figure 5.8 inches high
    taken = [(x - 0.02, y, 0.04) for x, y in to_axes.transform(np.concatenate([a, b]))]
    paper = {"fc": "white", "ec": "none", "pad": 0.6, "alpha": 0.8}
    for point, (x, y), name in zip(middle, to_axes.transform(middle), names, strict=True):
        width = size * (0.0135 * len(name) + 0.02)
        left = min(x + 0.02, 1 - width)
        height = _free_height(taken, left, y + 0.03, width, 0.045 * size)
        taken.append((left, height, width))
        ax.annotate(
            name, point, (left, height), textcoords="axes fraction", fontsize=8, va="center",
            bbox=paper, zorder=4, arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "#666666"},
        )  # fmt: skip


def _free_height(
    taken: list[tuple], left: float, wanted: float, width: float, apart: float
) -> float:
    """Height nearest to the wanted one at which a name meets no box (left, height, width)."""
    beside = [y for x, y, w in taken if left < x + w and x < left + width]
    heights = np.arange(0.03, 0.97, 0.01)
    free = heights[(abs(heights[:, None] - np.array(beside)) > apart).all(1)]
    return min(free, key=lambda y: abs(y - wanted), default=wanted)


def _cosines(ax: Axes, static: np.ndarray, event: np.ndarray, names: list[str]) -> None:
    """Matrix of cosines between class means (classes, F) of both domains."""
    unit = [x - x.mean(0) for x in (static, event)]
    unit = [x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in unit]
    cosine = unit[0] @ unit[1].T
    n = len(names)
    image = ax.imshow(cosine, cmap="RdBu_r", vmin=-1, vmax=1)
    ax.set(xlabel="event, class", ylabel="static, class")
    if n <= MOST_NAMES:
        ax.set_xticks(range(n), names, rotation=90 if max(map(len, names)) > 2 else 0)
        ax.set_yticks(range(n), names)
        for i, j in np.ndindex(n, n):
            colour = "white" if abs(cosine[i, j]) > 0.65 else "black"
            text = f"{cosine[i, j]:.1f}".replace("-0.0", "0.0")
            ax.text(j, i, text, ha="center", va="center", color=colour, fontsize=7)
    same = cosine.trace() / n
    other = (cosine.sum() - cosine.trace()) / max(n * (n - 1), 1)
    ax.set_title(f"Cosine of class means: same class {same:.2f}, others {other:.2f}", fontsize=11)
    ax.figure.colorbar(image, ax=ax, label="cosine", shrink=0.8)
