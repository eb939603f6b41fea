"""What changes with the epoch: width of the delays, learning rate of vision runs, what is shown."""

import math

from ..learning import sigma_at
from .settings import Settings, VisionSettings

LR_START = 1e-6  # of the warm-up, as published
ONE_TAP = 1e-6  # width at which the tap at a whole step is all that counts


def sigma_in_epoch(settings: Settings, epoch: int) -> float:
    """Width parameter SIG of the delays in steps during an epoch (counted from 0)."""
    s = settings.learning
    if is_rounded(settings, epoch):
        return ONE_TAP
    start = s.sigma_start or max(settings.delays.max_delay_steps // 2, s.sigma_end)
    final = s.sigma_epochs or max(1, settings.training.epochs // 4)
    return sigma_at(epoch, start, s.sigma_end, final)


def is_rounded(settings: Settings, epoch: int) -> bool:
    """Whether delays are whole steps in an epoch (counted from 0), and stay."""
    return epoch >= moving_epochs(settings)


def is_averaged(settings: Settings, epoch: int) -> bool:
    """Whether the weights after an epoch (counted from 0) count in the mean."""
    return epoch >= _before(settings, settings.training.average_fraction)


def moving_epochs(settings: Settings) -> int:
    """Epochs before delays become whole steps."""
    return _before(settings, settings.learning.round_fraction)


def _before(settings: Settings, fraction: float) -> int:
    """Epochs before the last `fraction` of them."""
    epochs = settings.training.epochs
    return epochs - int(epochs * fraction)


def phase(epoch: int, settings: VisionSettings) -> tuple[int, int, bool]:
    """Epoch within its phase, epochs of the phase, and whether images alone are shown: the first
    of the two phases of transfer finetune."""
    t, epochs = settings.transfer, settings.training.epochs
    if t.transfer != "finetune":
        return epoch, epochs, False
    first = t.pretrain_epochs or epochs // 2
    return (epoch, first, True) if epoch < first else (epoch - first, epochs - first, False)


def shows_images(epoch: int, settings: VisionSettings) -> bool:
    """Whether images are shown in an epoch of training."""
    return settings.transfer.transfer == "align" or phase(epoch, settings)[2]


def rate_factor(epoch: int, settings: VisionSettings) -> float:
    """Learning rate of an epoch (from 0) over lr: linear warm-up from 1e-6, then a cosine that
    counts from epoch 0 to lr_end at the start of the cool-down; each phase of a run has its own,
    and the last one the cool-down. Source: He et al. 2024 (arXiv 2303.13077), its code."""
    recipe = settings.recipe
    e, epochs, images = phase(min(epoch, settings.training.epochs - 1), settings)
    start, end = LR_START / recipe.lr, recipe.lr_end / recipe.lr
    if e < recipe.warmup_epochs:
        return start + (1 - start) * e / recipe.warmup_epochs
    progress = min(1.0, e / (epochs if images else epochs - recipe.cooldown_epochs))
    return end + (1 - end) * (1 + math.cos(math.pi * progress)) / 2
