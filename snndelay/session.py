"""One training session: network, two Adam optimizers (weights, positions), schedules per epoch.

Dropout is seeded by (seed, epoch, step), so that a restored session ends with the same bits.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from .config import ModelConfig, TrainConfig
from .losses import LOSSES, SCORES
from .models import DelayNet
from .report import Report
from .runtime import RunError, seed_step
from .sigma import sigma_at


class NonFiniteError(RunError):
    """The loss or a gradient became NaN or infinite."""


@dataclass
class Session:
    """Everything that changes while a network trains; `state` and `restore` are its checkpoint."""

    net: DelayNet
    optimizers: list[torch.optim.Optimizer]  # weights first, then positions if they are trained
    schedules: list
    epoch: int = 0  # completed epochs
    seconds: float = 0.0
    best: dict = field(default_factory=dict)  # accuracy and epoch of the best one so far

    def state(self) -> dict:
        """Plain values for a checkpoint."""
        return {
            "epoch": self.epoch,
            "seconds": self.seconds,
            "best": self.best,
            "model": self.net.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "schedules": [s.state_dict() for s in self.schedules],
        }

    def restore(self, state: dict) -> None:
        """Go back to what `state` returned."""
        self.epoch, self.seconds, self.best = state["epoch"], state["seconds"], state["best"]
        self.net.load_state_dict(state["model"])
        for name in ("optimizers", "schedules"):
            for part, saved in zip(getattr(self, name), state[name], strict=True):
                part.load_state_dict(saved)


def new_session(net: DelayNet, train: TrainConfig) -> Session:
    """Optimizers and schedules for net as published (arXiv 2306.17670, section 4).

    Weights: Adam, one-cycle from lr_max/25 to lr_max and down over the epochs, decay on synaptic
    weights only. Positions: Adam, cosine from lr_position to 0. Both step once per epoch.
    """
    layers = net.delay_layers()
    weights = [layer.weight for layer in layers]
    positions = [p for p in (layer.position for layer in layers) if isinstance(p, nn.Parameter)]
    taken = {id(p) for p in weights + positions}
    others = [p for p in net.parameters() if id(p) not in taken]
    groups = [{"params": weights, "weight_decay": train.weight_decay}, {"params": others}]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.Adam(groups, lr=train.lr)]
    schedules: list = []
    if train.lr_max is not None:
        # below 4 epochs torch's one-cycle has no rising phase and would start at its end
        steps = max(train.epochs, 4)
        schedules.append(OneCycleLR(optimizers[0], train.lr_max, total_steps=steps))
    if positions:
        optimizers.append(torch.optim.Adam(positions, lr=train.lr_position))
        schedules.append(CosineAnnealingLR(optimizers[1], T_max=train.epochs))
    return Session(net, optimizers, schedules)


def sigma_in_epoch(epoch: int, model: ModelConfig, train: TrainConfig) -> float:
    """Width parameter SIG in steps during an epoch (counted from 0)."""
    start = train.sigma_start or max(model.max_delay_steps // 2, train.sigma_end)
    final = train.sigma_epochs or max(1, train.epochs // 4)
    return sigma_at(epoch, start, train.sigma_end, final)


def train_step(session: Session, batch, train: TrainConfig, step: int) -> tuple[float, int, list]:
    """One update on a batch. Returns loss, correct clips and the spike rate of each hidden layer.

    Raises NonFiniteError before the weights change if the loss or a gradient is NaN or infinite.
    """
    net, device = session.net, next(session.net.parameters()).device
    x_TBC, label_B = batch.x_TBC.to(device), batch.label_B.to(device)
    seed_step(train.seed, session.epoch, step)
    v_TBN, hidden = net.activity(x_TBC)
    loss = LOSSES[train.loss](v_TBN, label_B, train.label_smoothing)
    value = loss.item()
    if not np.isfinite(value):
        _stop(f"the loss is {value}", session, step)
    for optimizer in session.optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(net.parameters(), train.grad_clip or float("inf"))
    if not norm.isfinite():
        _stop(f"the norm of the gradient is {norm.item()}", session, step)
    for optimizer in session.optimizers:
        optimizer.step()
    net.clamp_()
    correct = int((SCORES[train.loss](v_TBN.detach()).argmax(-1) == label_B).sum())
    return value, correct, [s.detach().mean().item() for s in hidden]


def _stop(what: str, session: Session, step: int) -> None:
    where = f"in epoch {session.epoch + 1}, step {step + 1}"
    raise NonFiniteError(f"{what} {where}: lower --lr-max, or set or lower --grad-clip")


def train_epoch(session: Session, batches, train: TrainConfig, report: Report) -> dict:
    """One pass over the training clips. Returns mean loss, accuracy and spike rates, each over
    the clips, and how far the mean position moved in steps."""
    positions = [layer.position for layer in session.net.delay_layers()]
    before = [p.detach().clone() for p in positions]
    n, loss_sum, correct_sum = 0, 0.0, 0
    rate_sum = np.zeros(session.net.config.n_layers)
    session.net.train()
    for step, batch in enumerate(batches):
        size = len(batch.label_B)
        loss, correct, rates = train_step(session, batch, train, step)
        n, loss_sum, correct_sum = n + size, loss_sum + loss * size, correct_sum + correct
        rate_sum += np.array(rates) * size
        report.step(session.epoch, loss_sum / n, correct_sum / n, rate_sum / n)
    moved = [(p.detach() - b).abs().flatten() for p, b in zip(positions, before, strict=True)]
    return {
        "loss": loss_sum / n,
        "accuracy": correct_sum / n,
        "spike_rates": (rate_sum / n).tolist(),
        "position_change_steps": torch.cat(moved).mean().item(),
    }
