"""What all pictures share: colours, labels, saving, and the confusion matrix.

Colours: Okabe and Ito (2008), told apart by colour-blind readers too.
"""

from functools import cache
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from ...data.names import escape, printable

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]


def label_axes(ax: Axes, title: str, y: str, legend: bool = False) -> None:
    """Title, label of y and a light grid; with a legend of the lines if asked for."""
    ax.set_title(title)
    ax.set_ylabel(y)
    ax.grid(alpha=0.25)
    if legend and ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=8)


def drawable(name: str, most: int = 24) -> str:
    """A name as a picture can show it: in at most so many characters, those that its font lacks as
    escapes, and nothing of it taken for mathematics."""
    text = printable(name)
    text = "".join(c if ord(c) in _characters() else escape(c) for c in text)
    text = text if len(text) <= most else f"{text[: most - 3]}..."
    return text.replace("$", r"\$")


@cache
def _characters() -> frozenset[int]:
    """Those that the font of the pictures has, as numbers."""
    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def save(figure: Figure, path: Path) -> None:
    """Writes the picture and frees the figure."""
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)  # type: ignore
    figure.savefig(path, dpi=130)
    plt.close(figure)


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
    names = [*map(drawable, classes)]
    ax.set_xticks(range(n), names, rotation=90 if n > 10 else 45)
    ax.set_yticks(range(n), names)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    ax.set_title(title)
    for i, j in zip(*np.nonzero(counts), strict=True):
        colour = "black" if share[i, j] > 55 else "white"
        ax.text(j, i, str(counts[i, j]), ha="center", va="center", color=colour, fontsize=7)
    figure.colorbar(image, label="part of the true class (%)", shrink=0.8)
    save(figure, path)
