"""Sliding training: static inputs give way to event inputs, from none of them to all.

Legend: B batch. Epochs and batches count from 0. The choice is a pure function of (seed, epoch,
index), so a run that is resumed, or has other workers, replaces the same samples.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ...errors import ConfigError, nearest
from ..placing import moved
from ..seeds import uniforms
from .loader import Batch

# name -> probability at a progress in [0, 1]; power: the exponent of "power"
SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "power": lambda progress, power: progress**power,
    "linear": lambda progress, power: progress,
    "cosine": lambda progress, power: (1 - math.cos(math.pi * progress)) / 2,
    "step": lambda progress, power: float(progress >= 0.5),
    "off": lambda progress, power: 0.0,
}


def replacement_probability(
    epoch: int,
    batch: int,
    n_batches: int,
    epochs: int,
    schedule: str = "power",
    power: float = 3.0,
    end: float = 1.0,
) -> float:
    """Probability p that a sample's static sequence is replaced by its own event sequence:
    ``min(1, (batch + epoch n_batches) / (end epochs n_batches))^power`` for ``power``, and the same
    progress for the other SCHEDULES.

    Args:
        epoch, batch: from 0; n_batches: in an epoch; epochs: of the run.
        schedule: one of SCHEDULES; ``off`` never replaces, whatever ``end`` is.
        power: exponent, > 0.
        end: part of the run after which the progress is 1, > 0.

    Raises:
        ConfigError: an unknown schedule, or power or end not above 0.

    Source: He et al. 2024 (arXiv 2303.13077), sliding training, with power 3 and end 1.
    """
    if schedule not in SCHEDULES:
        raise ConfigError(f"unknown schedule {schedule!r}: {nearest(schedule, SCHEDULES)}")
    if power <= 0 or end <= 0:
        raise ConfigError(f"power {power:g} and end {end:g} of the schedule must be above 0")
    progress = min(1.0, (batch + epoch * n_batches) / (end * epochs * n_batches))
    return SCHEDULES[schedule](progress, power)


def replaced(p: float, seed: int, epoch: int, draw_B: Sequence[int] | np.ndarray) -> np.ndarray:
    """Which samples are replaced at probability p, bool (B,).

    draw_B: which draw of the epoch each is, integers (B,), as in `Batch`. What is replaced at p is
    replaced at any larger p of the same epoch.
    """
    return uniforms("sliding", seed, epoch, np.asarray(draw_B), 1)[:, 0] < p


def slide(batch: Batch, p: float, seed: int, epoch: int) -> Batch:
    """The batch in which each static sequence is, with probability p, the sample's own event
    sequence (He et al. 2024, sliding training). The choice is made on the host, and nothing waits
    for it on the device."""
    chosen_B = torch.from_numpy(replaced(p, seed, epoch, batch.draw_B.numpy()))
    if batch.static is None or not chosen_B.any():
        return batch
    chosen_B = moved(chosen_B, batch.x.device)
    static = torch.where(chosen_B[None, :, None, None, None], batch.x, batch.static)
    return batch._replace(static=static)
