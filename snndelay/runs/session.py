"""What changes while a network trains, and one update of it, the same for sounds and cameras.

Everything random in a step is seeded by (seed, epoch, step), so that a restored session ends with
the same bits.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..blocks import LIF
from ..errors import NonFiniteError
from ..gradients import backward
from ..kernels import OPS
from ..kernels.dispatch import choose
from ..kernels.lif import why_not_compiled
from .machine import seed_step
from .settings import TrainConfig


@dataclass
class Session:
    """Everything that changes while a network trains; `state` and `restore` are its checkpoint."""

    net: nn.Module
    optimizers: list[torch.optim.Optimizer]  # weights first, then positions if they are trained
    schedules: list
    epoch: int = 0  # completed epochs
    seconds: float = 0.0
    best: dict = field(default_factory=dict)  # accuracy and epoch of the best one so far

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return next(self.net.parameters()).device

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


def backend_of(op: str, neuron: LIF, parameter: Tensor, why_not: tuple | None = None) -> str:
    """Backend that runs an op of a network with this neuron on the parameter's device. why_not:
    pairs (backend, reason or None); None: those of the neuron's scan."""
    if why_not is None:
        why_not = (("cpu", why_not_compiled(parameter.dtype, neuron.neuron, neuron.options)),)
    return choose(op, OPS[op].backends, neuron.backend, parameter.device.type, why_not)


def update(
    session: Session, run: Callable, n_steps: int, train: TrainConfig, step: int
) -> tuple[float, list[Any]]:
    """One update of the weights. Returns the loss and what `run` returned beside it.

    run: (steps, state) -> (loss, outputs, state), as `sltt.backward` takes it, over `n_steps`.
    Raises NonFiniteError before the weights change if the loss or a gradient is NaN or infinite.
    """
    net = session.net
    for optimizer in session.optimizers:
        optimizer.zero_grad(set_to_none=True)
    seed_step(train.seed, session.epoch, step)
    loss, outputs = backward(
        run,
        n_steps,
        gradient=train.temporal_gradient,
        backward_steps=train.backward_steps,
        generator=np.random.default_rng((train.seed, session.epoch, step)),
    )
    value = float(loss)
    if not np.isfinite(value):
        _stop(f"the loss is {value}", session, step)
    norm = nn.utils.clip_grad_norm_(net.parameters(), train.grad_clip or float("inf"))
    if not norm.isfinite():
        _stop(f"the norm of the gradient is {norm.item()}", session, step)
    for optimizer in session.optimizers:
        optimizer.step()
    net.clamp_()
    return value, outputs


def _stop(what: str, session: Session, step: int) -> None:
    where = f"in epoch {session.epoch + 1}, step {step + 1}"
    raise NonFiniteError(f"{what} {where}: lower the learning rate, or set or lower --grad-clip")
