"""What a layer of delays says when it turns to evaluation, where that differs from training."""

import sys
import warnings
from typing import Any

from .errors import WidthWarning, WindowWarning

SIGMA_END = 0.23  # published width at the end of training: an effective width of 0.5 steps
WIDE = 1.0  # steps; above, training and evaluation on rounded delays see different currents


def warn(layer: Any, low: int, high: int, has_width: bool) -> None:
    """Warns of a layer that is still wide, or whose positions have left the window, low to high.

    ``has_width``: whether taps have any. It waits for the layer's device: once per turn, not per
    step.
    """
    for kind, text in (
        (WidthWarning, _too_wide(layer) if has_width else None),
        (WindowWarning, _outside(layer, low, high)),
    ):
        if text:
            warnings.warn(text, kind, stacklevel=_level_of_caller())


def _level_of_caller() -> int:
    """How many frames above the function that calls this one lies the first outside torch and this
    package, as ``stacklevel`` counts: a layer turns to evaluation deep inside its network's.
    """
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in (
        "torch",
        "snndelay",
    ):
        frame, level = frame.f_back, level + 1
    return level


def _too_wide(layer: Any) -> str | None:
    """What is wrong with a layer that is still wide."""
    if (width := float(layer.sigma.detach().abs().mean())) <= WIDE:
        return None
    return (
        f"evaluation rounds delays to whole steps, but their width is still {width:.3g} "
        "steps, so training saw other currents: narrow it while training with set_sigma "
        f"(published end {SIGMA_END}), or evaluate unrounded(net)"
    )


def _outside(layer: Any, low: int, high: int) -> str | None:
    """What is wrong with a layer whose positions nobody has clamped."""
    position = layer.position.detach()
    part = float(((position < low - 0.5) | (position > high + 0.5)).float().mean())
    if not part:
        return None
    return (
        f"{max(part, 0.001):.1%} of the positions lie outside the window [{low}, {high}], where "
        "training has no taps and evaluation takes the last one: call clamp_(net) after every "
        "optimizer step"
    )
