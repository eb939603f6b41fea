"""What changes with the epoch: width of the delays, learning rate of vision runs, what is shown."""

import math

from ..learning import sigma_at
from .settings import Settings, VisionSettings

LR_START = 1e-6  # of the warm-up, as published


def sigma_in_epoch(settings: Settings, epoch: int) -> float:
    """Width parameter SIG of the delays in steps during an epoch (counted from 0)."""
    s = settings.learning
    start = s.sigma_start or max(settings.delays.max_delay_steps // 2, s.sigma_end)
    final = s.sigma_epochs or max(1, settings.training.epochs // 4)
    return sigma_at(epoch, start, s.sigma_end, final)
