"""Width of the delay kernel over the epochs: wide at first, one step at the end."""

from .runs.settings import ModelConfig, TrainConfig


def sigma_at(epoch: int, start: float, end: float, final_epoch: int) -> float:
    """Width parameter SIG during ``epoch``: falls exponentially from ``start`` to ``end`` at
    ``final_epoch``, then stays.

    Args:
        epoch: counted from 0.
        start, end: SIG in steps, > 0; the effective width of the ``gauss`` kernel is SIG + 0.27.
        final_epoch: first epoch with ``end``; 0 or less: ``end`` from the start.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.4: SIG *=
    (end/start)^(1/final_epoch) per epoch.
    """
    if epoch >= final_epoch:
        return end
    return start * (end / start) ** (epoch / final_epoch)


def sigma_in_epoch(epoch: int, model: ModelConfig, train: TrainConfig) -> float:
    """Width parameter SIG in steps during an epoch (counted from 0)."""
    start = train.sigma_start or max(model.max_delay_steps // 2, train.sigma_end)
    final = train.sigma_epochs or max(1, train.epochs // 4)
    return sigma_at(epoch, start, train.sigma_end, final)
