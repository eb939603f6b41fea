"""Runs on sounds: delay networks on clips of cochlea spikes, trained as published.

Two Adam optimizers (weights, positions), schedules per epoch, a width of the delay kernel that
shrinks (Hammouamri et al. 2024, arXiv 2306.17670).
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from ..data.audio.loader import Batch, Loader, loader
from ..data.audio.sets import Dataset, splits
from ..errors import ConfigError, DataError
from ..gradients import recompute_, set_temporal_gradient
from ..learning import sigma_in_epoch
from ..losses import LOSSES, SCORES
from ..models import DelayNet
from .evaluation import Evaluation, evaluate, unrounded
from .machine import autocast, seed_init
from .report import Report, read_metrics
from .session import Session, backend_of, update
from .settings import DataConfig, ModelConfig, TrainConfig


@dataclass(frozen=True)
class SoundJob:
    """What stays the same during a run on sounds: its settings and its clips."""

    data: DataConfig
    model: ModelConfig  # with n_in and n_out
    train: TrainConfig
    train_clips: Dataset
    valid_clips: Dataset | None
    test_clips: Dataset | None

    def batches(self, clips: Dataset, epoch: int | None = None) -> Loader:
        """Batches of clips: shuffled and augmented for an epoch, or as stored without one."""
        train = epoch is not None
        return loader(clips, self.data, train=train, seed=self.train.seed, epoch=epoch or 0)

    def evaluate(self, net: DelayNet, clips: Dataset) -> Evaluation:
        """Accuracy and spikes of net, delays rounded."""
        return evaluate(net, self.batches(clips), self.train.loss, amp=self.train.amp)

    def new_net(self, device: torch.device) -> DelayNet:
        """The network as it is before training: the same for the same seed."""
        seed_init(self.train.seed)
        net = DelayNet(self.model, self.train.backend, self.data.dt_ms).to(device)
        set_temporal_gradient(net, self.train.temporal_gradient)
        if self.train.recompute:
            recompute_(net)
        return net

    def digest(self) -> str:
        """Hash of classes and labels of all clips."""
        parts = (self.train_clips, self.valid_clips, self.test_clips)
        labels = [part and part.labels.tolist() for part in parts]
        return hashlib.sha256(json.dumps([self.train_clips.classes, labels]).encode()).hexdigest()

    def check_same(self, state: dict) -> None:
        """DataError if the clips are not those that a checkpoint's run was trained on."""
        if state["clips"] != self.digest():
            raise DataError(
                f"{self.data.dataset} has changed since this run was started: restore it, or start "
                "a new run"
            )

    def new_session(self, net: DelayNet) -> Session:
        """Optimizers and schedules for net."""
        return new_session(net, self.train)

    def one_epoch(self, session: Session, report: Report) -> dict:
        """Train one epoch; returns its record."""
        sigma = sigma_in_epoch(session.epoch, self.model, self.train)
        session.net.set_sigma(sigma)
        rates = [optimizer.param_groups[0]["lr"] for optimizer in session.optimizers]
        record = {"epoch": session.epoch + 1, "sigma": sigma}
        record |= dict(zip(("lr", "lr_position"), rates, strict=False))
        batches = self.batches(self.train_clips, session.epoch)
        return record | train_epoch(session, batches, self.train, report)

    def try_network(self, net: DelayNet) -> None:
        """One silent step: a backend that cannot run says so before the run's folder exists."""
        device = next(net.parameters()).device
        with torch.no_grad():
            net.eval()(torch.zeros(1, 1, self.model.n_in or 1, device=device))
        net.train()

    def notes(self) -> list[str]:
        """What to tell a user about the data before training."""
        if self.data.n_steps is None:
            return []
        seconds = self.data.n_steps * self.data.dt_ms / 1000
        return [f"every clip is cut or padded to {self.data.n_steps} steps ({seconds:g} s)"]

    def backends(self, net: DelayNet) -> dict[str, str]:
        """Backend that runs each op of the network on its device."""
        parameter, neuron = next(net.parameters()), net.blocks[0].neuron
        one_tap = net.delay_out.max_delay_steps == 1
        refusal = "a single tap is a plain product" if one_tap else None
        direct = tuple((b, refusal) for b in ("cpu", "fft"))
        return {
            "delay_linear": backend_of("delay_linear", neuron, parameter, direct),
            "lif": backend_of("lif", neuron, parameter),
            "readout": backend_of("readout", neuron, parameter, ()),
        }

    def more_figures(self, net: DelayNet, clips: Dataset, result: Evaluation) -> dict:
        """Figures of a finished run that only runs on sounds have."""
        exact = self.evaluate(unrounded(net), clips)
        return {"rounding_gap": exact.accuracy - result.accuracy}

    def draw(
        self, session: Session, folder: Path, clips: Dataset, result: Evaluation, title: str
    ) -> list[Path]:
        """The pictures of a finished run. result: what evaluating clips gave."""
        from .plots.audio import draw_run  # matplotlib is slow to import

        first = self.new_net(session.device)
        alone = replace(self.data, workers=0, batch_size=1, n_steps=result.steps)
        return draw_run(
            folder,
            records=read_metrics(folder / "metrics.jsonl"),
            net=session.net,
            start=[layer.delay_steps.cpu().numpy() for layer in first.delay_layers()],
            example=next(iter(loader(clips, alone, train=False))),
            prediction=int(result.predictions[0]),
            result=result,
            classes=self.train_clips.classes,
            title=title,
            dt_ms=self.data.dt_ms,
        )


def open_job(data: DataConfig, model: ModelConfig, train: TrainConfig) -> SoundJob:
    """Open the clips and take n_in and n_out from them.

    Raises ConfigError if the model has other sizes, DataError or EventFormatError if the clips
    cannot be used.
    """
    if data.framing not in ("grid", "event"):
        raise ConfigError(f"framing {data.framing} is for cameras: sounds take grid or event")
    if train.temporal_gradient == "sltt" and model.padding == "right":
        raise ConfigError("sltt goes step by step: add --padding causal")
    parts = splits(data, train.seed)
    for name, part in zip(("training", "validation", "test"), parts, strict=True):
        if part is not None and not len(part):
            raise DataError(f"{data.dataset} leaves no {name} clips: change --valid-fraction")
    if data.protocol == "best-on-test" and parts[2] is None:
        raise ConfigError("protocol best-on-test evaluates the test clips: give --test-file")
    first = next(iter(loader(parts[0], replace(data, workers=0, batch_size=1), train=False)))
    found = {"n_in": first.x.shape[2], "n_out": len(parts[0].classes)}
    for name, value in found.items():
        if getattr(model, name) not in (None, value):
            text = f"{name} is {getattr(model, name)}, but the data need {value}: leave it out"
            raise ConfigError(text)
    return SoundJob(data, replace(model, **found), train, *parts)


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


def train_step(
    session: Session, batch: Batch, train: TrainConfig, step: int
) -> tuple[float, int, list[float]]:
    """One update on a batch. Returns loss, correct clips and the spike rate of each hidden layer
    (none where the gradient goes step by step).

    Raises NonFiniteError before the weights change if the loss or a gradient is NaN or infinite.
    """
    net, device = session.net, session.device
    x_TBC, label_B = batch.x.to(device), batch.label_B.to(device)
    T = len(x_TBC)

    def run(steps: slice, state: list | None) -> tuple:
        with autocast(device, train.amp):
            if train.temporal_gradient == "sltt":
                v_TBN, state = net.scan(x_TBC[steps], state)
                hidden = []
            else:
                v_TBN, hidden = net.activity(x_TBC)
        loss = LOSSES[train.loss](v_TBN.float(), label_B, train.label_smoothing)
        return loss * (len(x_TBC[steps]) / T), (v_TBN, hidden), state

    value, outputs = update(session, run, T, train, step)
    v_TBN = torch.cat([v for v, _ in outputs])
    correct = int((SCORES[train.loss](v_TBN).argmax(-1) == label_B).sum())
    return value, correct, [s.mean().item() for s in outputs[0][1]]


def train_epoch(
    session: Session, batches: Iterable[Batch], train: TrainConfig, report: Report
) -> dict:
    """One pass over the training clips. Returns mean loss, accuracy and spike rates, each over
    the clips, and how far the mean position moved in steps."""
    positions = [layer.position for layer in session.net.delay_layers()]
    before = [p.detach().clone() for p in positions]
    n, loss_sum, correct_sum, rate_sum = 0, 0.0, 0, np.zeros(())
    session.net.train()
    for step, batch in enumerate(batches):
        size = len(batch.label_B)
        loss, correct, rates = train_step(session, batch, train, step)
        n, loss_sum, correct_sum = n + size, loss_sum + loss * size, correct_sum + correct
        rate_sum = rate_sum + np.array(rates) * size
        report.step(session.epoch, loss_sum / n, correct_sum / n, rate_sum / n)
    moved = [(p.detach() - b).abs().flatten() for p, b in zip(positions, before, strict=True)]
    record = {"loss": loss_sum / n, "accuracy": correct_sum / n}
    if rate_sum.size:  # step by step no layer's spikes are at hand; evaluation has them
        record["spike_rates"] = (rate_sum / n).tolist()
    return record | {"position_change_steps": torch.cat(moved).mean().item()}
