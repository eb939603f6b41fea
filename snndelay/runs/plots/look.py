"""The picture of `snndelay data`: samples, and what is in them on average.

Legend: C units, H height, W width.
"""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ...data.events import Events
from ...errors import ConfigError, DataError
from .style import COLOURS, drawable, label_axes
from .vision import POLARITY

MARK = "snndelay data"  # written into our pictures, so that only these are replaced
POLARITIES = tuple(enumerate(POLARITY))
MOST_DOTS = 10_000  # of a sample; more only cover each other
MOST_NAMES = 40  # classes whose names fit below a bar chart


def may_write(path: Path) -> Path:
    """Itself, if a picture can go there. Errors: ConfigError for another ending than .png,
    DataError if there is no such folder, or a file that this command has not drawn."""
    if path.suffix.lower() != ".png":
        raise ConfigError(f"--plot draws a .png, not {path.name!r}: give a name that ends in .png")
    if not path.parent.is_dir():
        raise DataError(f"there is no folder {path.parent} for the picture: make it first")
    if path.is_dir():
        raise DataError(f"{path} is a folder: give the picture another name")
    if path.exists():
        with open(path, "rb") as file:
            if MARK.encode() not in file.read(4096):
                raise DataError(f"{path} is no picture of {MARK}: give another name")
    return path


def overview(look: Any, path: Path) -> None:
    """Draws a `runs.look.Look` with figures into the PNG at `path`: samples of different classes,
    histograms of events, duration and rate, samples per class, and rates per unit or pixel."""
    figure = plt.figure(figsize=(13, 11.5), layout="constrained")
    figure.suptitle(drawable(look.found["name"], 80), fontsize=13)
    high = 1.15 if len(look.size) == 1 else 0.95
    rows: Any = figure.subfigures(3, 1, height_ratios=(high, 0.9, 1.0))
    samples, middle, below = rows
    _samples(samples, look)
    for ax, how in zip(middle.subplots(1, 3), HISTOGRAMS, strict=True):
        _histogram(ax, look.parts, *how)
    classes, places = below.subplots(1, 2, width_ratios=(1.5, 1))
    _classes(classes, look)
    _places(places, look)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)  # type: ignore
    figure.savefig(path, dpi=110, metadata={"Software": MARK})
    plt.close(figure)


HISTOGRAMS = (
    ("Events of a sample", "events", lambda part: part.n_events),
    ("Duration, first to last event", "seconds", lambda part: part.duration_s),
    ("Rate of a sample", "events per second", lambda part: part.rate_s),
)


def _samples(figure: Any, look: Any) -> None:
    """One sample of each of up to four classes, those of the first parts first."""
    shown: dict[int, tuple[str, Events]] = {}
    for part in look.parts:
        for label, (place, events) in part.shown.items():
            shown.setdefault(label, (part.identity(place), events))
    chosen = list(shown.items())[:4]
    flat = len(look.size) == 1
    for k, (label, (name, events)) in enumerate(chosen):
        ax: Any = figure.add_subplot(1, len(chosen), k + 1, projection=None if flat else "3d")
        (_raster if flat else _space_time)(ax, events, look.size, k == 0)
        name = drawable(name if len(name) < 34 else f"...{name[-30:]}", 34)
        ax.set_title(f"{drawable(look.classes[label])}, {len(events):,} events\n{name}", fontsize=9)
    if chosen and not flat:
        names = {"marker": "s", "ls": ""}
        dots = [Line2D([], [], color=c, label=f"polarity {k}", **names) for k, c in POLARITIES]
        figure.legend(handles=dots, loc="lower left", fontsize=8, frameon=False)
    if not chosen:
        figure.text(0.5, 0.5, "no sample can be used", ha="center")


def _every(events: Events) -> Events:
    return events.select(np.arange(0, len(events), -(-len(events) // MOST_DOTS)))


def _dot(events: Events) -> float:
    """Size of a dot, larger where there are few."""
    return float(np.clip(6000 / max(1, len(events)), 1.5, 40))


def _raster(ax: Axes, events: Events, size: tuple[int, ...], first: bool) -> None:
    dots = _every(events)
    ax.scatter(dots.t_us / 1000, dots.x, s=_dot(dots), color=COLOURS[6], lw=0, alpha=0.6)
    ax.set_ylim(-0.5, size[0] - 0.5)
    ax.set_xlim(left=0)
    ax.yaxis.get_major_locator().set_params(integer=True)
    ax.set_xlabel("time (ms)")
    ax.set_ylabel("unit" if first else "")


def _space_time(ax: Any, events: Events, size: tuple[int, ...], first: bool) -> None:
    dots = _every(events)
    colours = np.array([to_rgb(colour) for colour in POLARITY])[np.asarray(dots.p)]
    ax.scatter(dots.t_us / 1000, dots.x, dots.y, s=_dot(dots), c=colours, lw=0, depthshade=False)
    ax.set(ylim=(0, size[1]), zlim=(size[0], 0))
    ax.set_xlabel("time (ms)", labelpad=6)
    ax.set_ylabel("column", labelpad=0)
    ax.zaxis.set_rotate_label(False)
    ax.set_zlabel("row", labelpad=-4, rotation=90)
    ax.set_box_aspect((2, 1.2, 1.2 * size[0] / size[1]), zoom=0.96)
    ax.view_init(elev=18, azim=-60)
    ax.tick_params(labelsize=7)
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.set_major_locator(MaxNLocator(4))


def _histogram(ax: Axes, parts: list, title: str, x: str, values: Any) -> None:
    """Shares of the samples of every part, in the same bins."""
    found = {part.name: values(part) for part in parts if len(values(part))}
    everything = np.concatenate([*found.values(), np.zeros(0)])
    if len(everything):
        low, high = everything.min(), everything.max()
        if high - low < 0.01 * high:  # all alike: one bar in the middle
            low, high = low - 0.05 * (high or 1), high + 0.05 * (high or 1)
        edges = np.linspace(low, high, min(30, max(5, len(everything) // 5)) // 2 * 2)
        for k, (name, part) in enumerate(found.items()):
            share = np.histogram(part, edges)[0] * 100 / len(part)
            ax.stairs(share, edges, color=COLOURS[k], label=f"{name} ({len(part):,})", lw=1.5)
    label_axes(ax, title, "samples (%)", legend=True)
    ax.set_xlabel(x)
    ax.xaxis.set_major_locator(MaxNLocator(5))


def _classes(ax: Axes, look: Any) -> None:
    """Samples per class, parts on one another."""
    below = np.zeros(len(look.classes), int)
    for k, part in enumerate(look.parts):
        n = np.bincount(part.labels, minlength=len(look.classes))
        ax.bar(np.arange(len(n)), n, bottom=below, color=COLOURS[k], label=part.name)
        below += n
    if len(look.classes) <= MOST_NAMES:
        names = [*map(drawable, look.classes)]
        turned = (max(map(len, names)) + 2) * len(names) > 90
        ax.set_xticks(range(len(names)), names, rotation=90 if turned else 0)
    label_axes(ax, f"Classes ({len(look.classes)})", "samples")
    if len(look.parts) > 1:
        ax.set_ylim(top=1.2 * max(1, below.max()))  # room for the legend
        ax.legend(fontsize=8, ncols=len(look.parts), loc="upper right")
    ax.yaxis.get_major_locator().set_params(integer=True)


def _places(ax: Axes, look: Any) -> None:
    """Events per second of every unit or pixel."""
    counts = sum((part.counts for part in look.parts), np.zeros(look.size, np.int64))
    rate = counts / max(1e-9, sum(float(part.duration_s.sum()) for part in look.parts))
    if rate.ndim == 1:
        ax.stairs(rate, np.arange(len(rate) + 1) - 0.5, color=COLOURS[0], fill=len(rate) < 100)
        ax.set_ylim(0, 1.1 * max(rate.max(), 1e-9))
        label_axes(ax, "Rate of a unit", "events per second")
        ax.set_xlabel("unit")
        return
    some = rate[rate > 0]
    if not len(some):
        return
    low, high = some.min(), max(some.max(), some.min() * 1.01)
    norm = LogNorm(low, high) if high > 10 * low else Normalize(0, high)
    image = ax.imshow(np.where(rate > 0, rate, np.nan), norm=norm, cmap="viridis")
    ax.set_facecolor("#dddddd")
    ax.set_title("Rate of a pixel (grey: silent)")
    ax.set(xlabel="column", ylabel="row")
    figure: Figure = ax.figure  # type: ignore
    figure.colorbar(image, ax=ax, label="events per second", shrink=0.85)
