"""Runs on event cameras: convolutional networks on recordings, with or without static images.

Static-to-event transfer is that of He et al., AAAI 2024 (arXiv 2303.13077); the step-by-step
gradient that of Meng et al., ICCV 2023 (arXiv 2302.14311).

Legend: T time steps, B batch, P polarity, N classes.
"""

import hashlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR

from ..blocks import LIF
from ..data.vision.images import Partners, open_images
from ..data.vision.loader import (
    FrameSet,
    PairLoader,
    Pairs,
    StaticPool,
    image_frames,
    recording_frames,
)
from ..data.vision.sets import open_recordings
from ..data.vision.sliding import replaced, replacement_probability
from ..data.vision.split import split_recordings
from ..errors import ConfigError, DataError
from ..gradients import recompute_, set_temporal_gradient
from ..learning import sigma_in_epoch
from ..networks import ConvNet
from ..transfer import transfer_loss
from .evaluation import Evaluation, evaluate
from .machine import autocast, seed_init
from .report import Report, read_metrics
from .session import Session, backend_of, update
from .settings import DataConfig, ModelConfig, TrainConfig

if TYPE_CHECKING:
    from ..data.vision.images import StaticImages
    from ..data.vision.sets import RecordingSet
    from ..data.vision.split import Split

LR_START = 1e-6  # of the warm-up, as published


@dataclass(frozen=True)
class VisionJob:
    """What stays the same during a run on recordings: its settings, recordings and images."""

    data: DataConfig
    model: ModelConfig  # with n_in and n_out
    train: TrainConfig
    train_clips: FrameSet
    valid_clips: FrameSet | None
    test_clips: FrameSet | None
    static: StaticPool | None
    cameras: "RecordingSet"
    images: "StaticImages | None"
    split: "Split"

    def batches(self, clips: FrameSet, epoch: int | None = None) -> PairLoader:
        """Batches of recordings: shuffled, augmented and paired for an epoch, or as stored."""
        static = self.static if epoch is not None else None
        return PairLoader(clips, static, self.data, self.train.seed, epoch)

    def evaluate(self, net: ConvNet, clips: FrameSet) -> Evaluation:
        """Accuracy and spikes of net on recordings, by the head for events."""
        return evaluate(net, self.batches(clips), "tet", self.train.amp, clips.steps)

    def new_net(self, device: torch.device) -> ConvNet:
        """The network as it is before training: the same for the same seed."""
        seed_init(self.train.seed)
        c, align = self.model, self.train.transfer == "align"
        net = ConvNet(
            c.network,
            c.n_out,
            self.train_clips.size,
            n_steps=self.train_clips.steps,
            two_heads=align,
            dropout=c.dropout,
            max_delay_steps=0 if c.delays == "none" else c.max_delay_steps,
            backend=self.train.backend,
            tau=c.tau,
            **c.neuron_options(),
        ).to(device)
        for layer in net.delay_layers():
            layer.position.requires_grad_(c.delays == "learned")
        set_temporal_gradient(net, self.train.temporal_gradient)
        if self.train.recompute:
            recompute_(net)
        return net

    def digest(self) -> str:
        """Hash of classes and split: which recordings and images do what."""
        parts = [[self.cameras.identities[i] for i in part] for part in (*self.split,)[:3]]
        shown = [self.images.identities[i] for i in self.split.static] if self.images else []
        text = json.dumps([self.cameras.classes, parts, shown])
        return hashlib.sha256(text.encode()).hexdigest()

    def check_same(self, state: dict) -> None:
        """DataError if the data are not those that a checkpoint's run was trained on: the split is
        drawn anew, and could test on what it trained on."""
        if state["clips"] != self.digest():
            raise DataError(
                f"{self.data.dataset} or its images have changed since this run was started: "
                "restore them, or start a new run"
            )

    def new_session(self, net: ConvNet) -> Session:
        """Optimizer and schedule for net."""
        return new_session(net, self.train)

    def one_epoch(self, session: Session, report: Report) -> dict:
        """Train one epoch; returns its record."""
        record = {"epoch": session.epoch + 1}
        record["lr"] = session.optimizers[0].param_groups[0]["lr"]
        if session.net.delay_layers():
            record["sigma"] = sigma_in_epoch(session.epoch, self.model, self.train)
            session.net.set_sigma(record["sigma"])
        batches = self.batches(self.train_clips, session.epoch)
        if self.train.transfer == "finetune" and not phase(session.epoch, self.train)[2]:
            batches = replace(batches, partners=None)
        return record | train_epoch(self, session, batches, report)

    def try_network(self, net: ConvNet) -> None:
        """Two silent samples: a backend that cannot run says so before the run's folder exists."""
        x = torch.zeros(1, 2, 2, *self.train_clips.size, device=next(net.parameters()).device)
        with torch.no_grad(), autocast(x.device, self.train.amp):
            net.eval()(x)
        net.train()

    def notes(self) -> list[str]:
        """What to tell a user about the data before training."""
        c, (H, W) = self.data, self.train_clips.size
        lines = [f"frames: {self.train_clips.steps} x 2 x {H} x {W}, {c.framing}"]
        if self.static is not None:
            n, total = len(self.static.images), len(self.images)
            lines.append(f"images: {n} of {total} from {c.static}; split {self.split.name}")
        if c.framing == "time_window":
            lines.append(f"of every recording the first {c.n_steps * c.dt_ms:g} ms are used")
        return lines

    def backends(self, net: ConvNet) -> dict[str, str]:
        """Backend that runs each op of the network on its device."""
        neuron = next(m for m in net.modules() if isinstance(m, LIF))
        return {"lif": backend_of("lif", neuron, next(net.parameters()))}

    def more_figures(self, net: ConvNet, clips: FrameSet, result: Evaluation) -> dict:
        """Figures of a finished run that only runs on recordings have."""
        return {
            "split": self.split.name,
            "n_static": len(self.static.images) if self.static else 0,
            "transfer": self.train.transfer,
            "temporal_gradient": self.train.temporal_gradient,
        }

    def draw(
        self, session: Session, folder: Path, clips: FrameSet, result: Evaluation, title: str
    ) -> list[Path]:
        """The pictures of a finished run. result: what evaluating clips gave."""
        from .plots import vision as plots  # matplotlib is slow to import
        from .plots.audio import confusion

        names = ["learning_curves", "confusion", "recording"]
        names += ["pair", "alignment"] if self.static else []
        path = {name: folder / f"{name}.png" for name in names}
        classes = self.train_clips.classes
        plots.transfer_curves(read_metrics(folder / "metrics.jsonl"), path["learning_curves"])
        confusion(result.labels, result.predictions, classes, title, path["confusion"])
        events, label, identity = self.cameras[int(self.split.test[0])]
        text = f"{identity}, class {classes[label]}"
        plots.event_sample(
            clips.sequence(0), events, f"A test recording: {text}", path["recording"]
        )
        if self.static:
            rng = np.random.default_rng(self.train.seed)
            images, partner = self.static.images, self.static.partners.partner
            known = np.flatnonzero(np.isin(clips.labels, self.train_clips.labels))
            some = known[np.linspace(0, len(known) - 1, min(200, len(known))).round().astype(int)]
            labels = clips.labels[some]
            chosen = np.array([partner(label, rng) for label in labels])
            image = images.sequence(chosen[0]).mean((0, 1))
            title = f"An image and a recording of class {classes[labels[0]]}"
            plots.pair(image, clips.sequence(some[0]), title, path["pair"])
            static, event = (
                features(self, session.net, part.subset(shown))
                for part, shown in ((images, chosen), (clips, some))
            )
            title = "Membrane potentials of the last layer, test recordings and training images"
            plots.alignment_view(static, event, labels, classes, title, path["alignment"])
        return list(path.values())


@torch.no_grad()
def features(job: VisionJob, net: ConvNet, clips: FrameSet) -> np.ndarray:
    """Mean membrane potentials of the last layer over time, float32 (n, F), in evaluation mode."""
    device, found = next(net.parameters()).device, []
    net.eval()
    for batch in job.batches(clips):
        with autocast(device, job.train.amp):
            _, u_TBF, _ = net.scan(batch.x.to(device), potentials=True)
        found.append(u_TBF.float().mean(0).cpu().numpy())
    return np.concatenate(found)


def open_job(data: DataConfig, model: ModelConfig, train: TrainConfig) -> VisionJob:
    """Open recordings and images, split them, and make their frames.

    Raises ConfigError, DataError or EventFormatError, one sentence each.
    """
    if train.transfer != "off" and data.static is None:
        text = "learns from images: give --static FOLDER or --transfer off"
        raise ConfigError(f"--transfer {train.transfer} {text}")
    _check(data, model, train)
    cameras = open_recordings(data.dataset, data.root, data.download)
    images = None
    if train.transfer != "off":
        images = open_images(data.static, data.static_channel).of_classes(cameras.classes)
    split = split_recordings(
        cameras, images, data.split, train.seed, data.n_labelled, data.test_fraction,
        data.valid_fraction,
    )  # fmt: skip
    frames = recording_frames(cameras, data)
    steps = frames.steps
    if train.backward_steps is not None and train.backward_steps > steps:
        raise ConfigError(
            f"backward_steps is {train.backward_steps}, but recordings have {steps} steps: lower it"
        )
    *held, pool = split
    train_set, valid, test = (frames.subset(part) if len(part) else None for part in held)
    if train_set is None or test is None:
        raise DataError(f"{data.dataset} leaves no recordings to train or to test on")
    if train.transfer == "align" and min(len(train_set), data.batch_size) < 3:
        raise ConfigError(
            "CKA compares the pairs of a batch, and of two pairs it is always 1: give "
            "--batch-size 3 or more and as many recordings"
        )
    if model.delays != "none" and model.max_delay_steps > steps:
        raise ConfigError(
            f"max_delay_steps is {model.max_delay_steps}, but there are {steps} steps: lower it"
        )
    static = None
    if images is not None:
        shown = image_frames(images, cameras.size, frames, data).subset(pool)
        static = StaticPool(shown, Partners(shown.labels, images.classes, train_set.labels))
    found = {"n_in": 2, "n_out": len(cameras.classes)}
    return VisionJob(
        data, replace(model, **found), train, train_set, valid, test, static, cameras, images,
        split,
    )  # fmt: skip


def _check(data: DataConfig, model: ModelConfig, train: TrainConfig) -> None:
    """ConfigError for settings that do not fit recordings or each other."""
    if data.framing not in ("time_bins", "event_count", "time_window"):
        raise ConfigError("framing of recordings is bins, count or window")
    if data.n_steps is None:
        raise ConfigError("recordings need a number of frames: give --n-steps")
    if train.transfer == "finetune" and not 0 < (train.pretrain_epochs or 1) < train.epochs:
        raise ConfigError(
            f"--transfer finetune divides {train.epochs} epochs: give --pretrain-epochs below that"
        )
    for epoch in (0, train.epochs - 1):
        _, epochs, _ = phase(epoch, train)
        if train.warmup_epochs >= epochs:
            raise ConfigError(
                f"warmup_epochs {train.warmup_epochs} must be below the {epochs} epochs: lower it"
            )


def new_session(net: ConvNet, train: TrainConfig) -> Session:
    """Optimizer and schedule (per epoch) of the weights.

    No weight decay on norms, biases, delays and coefficients. Learned delay positions take
    lr_position, by the same schedule.
    """
    positions = [layer.position for layer in net.delay_layers()]
    taken = {id(p) for p in positions}
    others = [p for p in net.parameters() if id(p) not in taken]
    decayed = [p for p in others if p.ndim > 1]
    rest = [p for p in others if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": train.weight_decay},
        {"params": rest, "weight_decay": 0.0},
        {"params": positions, "weight_decay": 0.0, "lr": train.lr_position},
    ]
    groups = [group for group in groups if group["params"]]
    if train.optimizer == "sgd":
        optimizer = torch.optim.SGD(groups, lr=train.lr, momentum=train.momentum)
    else:
        kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        optimizer = kinds[train.optimizer](groups, lr=train.lr)
    schedule = LambdaLR(optimizer, lambda epoch: rate_factor(epoch, train))
    return Session(net, [optimizer], [schedule])


def phase(epoch: int, train: TrainConfig) -> tuple[int, int, bool]:
    """Epoch within its phase, epochs of the phase, and whether images alone are shown: the first
    of the two phases of transfer finetune."""
    if train.transfer != "finetune":
        return epoch, train.epochs, False
    first = train.pretrain_epochs or train.epochs // 2
    return (epoch, first, True) if epoch < first else (epoch - first, train.epochs - first, False)


def rate_factor(epoch: int, train: TrainConfig) -> float:
    """Learning rate of an epoch (from 0) over lr: linear warm-up from 1e-6, then a cosine to
    lr_end; each phase of a run has its own. Source: He et al. 2024 (arXiv 2303.13077)."""
    e, epochs, _ = phase(min(epoch, train.epochs - 1), train)
    start, end = LR_START / train.lr, train.lr_end / train.lr
    if e < train.warmup_epochs:
        return start + (1 - start) * e / train.warmup_epochs
    progress = (e - train.warmup_epochs) / max(1, epochs - train.warmup_epochs)
    return end + (1 - end) * (1 + math.cos(math.pi * progress)) / 2


def train_epoch(job: VisionJob, session: Session, batches: PairLoader, report: Report) -> dict:
    """One pass over the training recordings. Returns losses and accuracy over the recordings, and
    with transfer the mean replacement probability, CKA and coefficients of every step."""
    train, epoch = job.train, session.epoch
    _, _, images_alone = phase(epoch, train)
    n, n_batches, correct, sums, chances = 0, len(batches), 0, {}, []
    session.net.train()
    for step, pairs in enumerate(batches):
        if images_alone:
            pairs = pairs._replace(x=pairs.static, static=None)
        elif train.transfer == "align":
            p = replacement_probability(
                epoch, step, n_batches, train.epochs, train.sliding, train.sliding_power,
                train.sliding_end,
            )  # fmt: skip
            pairs = slide(pairs, p, train.seed, epoch)
            chances.append(p)
        size = len(pairs.label_B)
        values, hits = train_step(session, pairs, train, step)
        n, correct = n + size, correct + hits
        for name, value in values.items():
            sums[name] = sums.get(name, 0) + value * size
        report.step(epoch, float(sums["loss"]) / n, correct / n)
    record = {name: (value / n).tolist() for name, value in sums.items()}
    record["accuracy"] = correct / n
    if chances:
        record["replacement"] = float(np.mean(chances))
        if train.fixed_coefficient() == "learned":
            record["coefficient"] = session.net.coefficient.detach().sigmoid().tolist()
    return record


def slide(pairs: Pairs, p: float, seed: int, epoch: int) -> Pairs:
    """Pairs in which each static sequence is, with probability p, the sample's own event sequence
    (He et al. 2024, sliding training)."""
    chosen_B = torch.from_numpy(replaced(p, seed, epoch, pairs.index_B.numpy()))
    if not chosen_B.any():
        return pairs
    return pairs._replace(
        static=torch.where(chosen_B[None, :, None, None, None], pairs.x, pairs.static)
    )


def train_step(
    session: Session, pairs: Pairs, train: TrainConfig, step: int
) -> tuple[dict[str, np.ndarray], int]:
    """One update on a batch. Returns the parts of the loss by name (and the CKA of each step), and
    how many recordings were recognised.

    Raises NonFiniteError before the weights change if the loss or a gradient is NaN or infinite.
    """
    net, device = session.net, session.device
    x, label_B = pairs.x.to(device), pairs.label_B.to(device)
    static = None if pairs.static is None else pairs.static.to(device)
    T, align = len(x), pairs.static is not None

    eta_T = net.coefficient if align else None

    def run(steps: slice, state: tuple | None) -> tuple:
        of_static, of_event = state or (None, None)
        o_static = u_static = None
        with autocast(device, train.amp):
            if align:
                o_static, u_static, of_static = net.scan(
                    static[steps], of_static, head="static", potentials=True
                )
            o_event, u_event, of_event = net.scan(x[steps], of_event, potentials=align)
        parts = transfer_loss(
            o_static, o_event, u_static, u_event, label_B, eta_T[steps] if align else None,
            coefficient=train.fixed_coefficient(), domain_weight=train.domain_weight,
            lam=train.step_lambda, target=train.step_target, n_steps=T, transfer=align,
        )  # fmt: skip
        losses = (parts.static, parts.event, parts.domain)
        return parts.total, (o_event, parts.cka_T, losses), (of_static, of_event)

    value, outputs = update(session, run, T, train, step)
    o_TBN, cka, losses = zip(*outputs, strict=True)
    correct = int((torch.cat(o_TBN).float().mean(0).argmax(-1) == label_B).sum())
    values = {"loss": np.array(value)}
    if align:
        names = ("loss_static", "loss_event", "loss_domain")
        parts = [sum(chunk) for chunk in zip(*losses, strict=True)]
        values |= {k: v.cpu().numpy() for k, v in zip(names, parts, strict=True)}
        values["cka"] = torch.cat(cka).cpu().numpy()
    return values, correct
