"""Runs on vision: convolutional networks on recordings, with or without static images.

Static-to-event transfer is that of He et al., AAAI 2024 (arXiv 2303.13077); the step-by-step
gradient that of Meng et al., ICCV 2023 (arXiv 2302.14311).

Legend: T time steps, B batch, P polarity, N classes, F features.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from ..data.batches import ALL, Shard
from ..data.catalog import DATASETS, open_images, open_recordings
from ..data.classes import absent
from ..data.coverage import coverage_lines
from ..data.seeds import generator
from ..data.vision.clock import clock_lines
from ..data.vision.filters import Filters
from ..data.vision.frames import TIMED
from ..data.vision.framing import Framing, end_ms, resize_lines
from ..data.vision.images import Partners, StaticImages
from ..data.vision.loader import (
    Batch,
    FrameSet,
    Loader,
    StaticPool,
    image_frames,
    loader,
    recording_frames,
)
from ..data.vision.sets import RecordingSet
from ..data.vision.sliding import replacement_probability, slide
from ..data.vision.split import Split, split_recordings
from ..data.vision.usable import usable_images, usable_recordings
from ..errors import ConfigError, DataError
from ..learning import parameter_groups
from ..losses import logit_sum_score
from .evaluation import Evaluation, Evaluator, evaluating
from .files import frames_folder
from .machine import autocast, pick_device
from .report import Report, read_metrics
from .schedule import phase, rate_factor, shows_images
from .session import MADE, Session, graphs_of_evaluation
from .settings import OPTIMIZERS, VisionSettings
from .steps import steps_left, take_step, totals
from .vision_steps import class_loss, step_gradients


@dataclass(frozen=True)
class VisionJob:
    """What stays the same during a run on recordings. `Job` in session.py says what each method is
    for."""

    settings: VisionSettings
    sizes: dict[str, Any]  # size, n_out
    train: FrameSet
    valid: FrameSet | None
    test: FrameSet | None
    static: StaticPool | None
    recordings: RecordingSet
    images: StaticImages | None
    split: Split
    device: torch.device  # where batches are made
    said: tuple[str, ...] = ()  # which recordings and images were left out
    shard: Shard = ALL  # what batches hold

    @property
    def shape(self) -> tuple[int, ...]:
        """(P, H, W)"""
        return (2, *self.train.size)

    @property
    def sensor(self) -> list[int]:
        """Height and width of the sensor, of which the frames may be a smaller picture."""
        return [*self.recordings.size]

    @property
    def steps(self) -> int:
        """T, that of all."""
        return self.train.steps

    def digest(self) -> str:
        """Hash of classes and split: which recordings and images do what."""
        parts = [[self.recordings.identities[i] for i in part] for part in (*self.split,)[:3]]
        shown = [self.images.identities[i] for i in self.split.static] if self.images else []
        text = json.dumps([MADE, self.recordings.classes, parts, shown])
        return hashlib.sha256(text.encode()).hexdigest()

    def notes(self) -> list[str]:
        """Shape of the frames, the images, and what is left out."""
        c, (H, W) = self.settings.frames, self.train.size
        lines = [f"frames: {self.train.steps} x 2 x {H} x {W}, {c.framing}"]
        if self.device.type != "cpu":
            lines[0] += ", in memory of the " + ("host" if self.train.on_host else "device")
        if self.static is not None and self.images is not None:
            n, total, source = len(self.static.images), len(self.images), self.settings.transfer
            lines.append(f"images: {n} of {total} from {source.static}; split {self.split.name}")
        if c.framing in TIMED:
            last_ms = end_ms(framing_of(self.settings))
            lines.append(f"of every recording the first {last_ms:g} ms are used")
        held, filtered = self.train.held, self.train.said
        return [*lines, *self.said, *filtered, *(coverage_lines([held]) if held else [])]

    def new_session(self, net: nn.Module) -> Session:
        """See `new_session` below."""
        return new_session(net, self.settings)

    def batches(self, samples: FrameSet, epoch: int | None = None, start_batch: int = 0) -> Loader:
        """Batches of recordings, in an epoch of training beside images where those are shown;
        `start_batch`: how many of them are already done."""
        wanted = epoch is not None and shows_images(epoch, self.settings)
        amounts = asdict(self.settings.augment)
        size, seed = self.settings.data.batch_size, self.settings.training.seed
        static, frames = self.static if wanted else None, self.settings.frames
        how = dict(batch_size=size, seed=seed, epoch=epoch, device=self.device)
        how |= dict(start_batch=start_batch, shard=self.shard)
        how |= dict(sampling=frames.sampling, drop_last=frames.drop_last)
        return loader(samples, static, **how, **amounts)

    def train_epoch(self, session: Session, report: Report) -> dict:
        """See `train_epoch` below."""
        return train_epoch(self, session, report)

    def loss(self, o_TBN: Tensor, label_B: Tensor, n_steps: int | None = None) -> Tensor:
        """The classification loss of a batch, the same in training and evaluation; n_steps: of the
        whole, where these are some of its steps."""
        return class_loss(self.settings, o_TBN, label_B, n_steps)

    def evaluator(self, net: nn.Module) -> Evaluator:
        """By the head for events."""
        amp, graph = self.settings.training.amp, graphs_of_evaluation(net, self.settings)
        return Evaluator(net, self.loss, logit_sum_score, amp=amp, graph=graph)

    def evaluate(
        self, net: nn.Module, samples: FrameSet, evaluator: Evaluator | None = None
    ) -> Evaluation:
        """Loss, accuracy and spikes of net on recordings, by the head for events."""
        return (evaluator or self.evaluator(net))(self.batches(samples), samples.steps)

    def figures(self, net: nn.Module, samples: FrameSet, result: Evaluation) -> dict:
        """What the run was taught by."""
        return {
            "split": self.split.name,
            "n_static": len(self.static.images) if self.static else 0,
            "transfer": self.settings.transfer.transfer,
            "temporal_gradient": self.settings.training.temporal_gradient,
        }

    def draw(
        self, session: Session, folder: Path, samples: FrameSet, result: Evaluation, title: str
    ) -> list[Path]:
        """Curves, confusion matrix, a recording, and with images a pair and the alignment."""
        from .plots import style  # matplotlib is slow to import
        from .plots import vision as plots

        names = ["learning_curves", "confusion", "recording"]
        names += ["pair", "alignment"] if self.static else []
        path = {name: folder / f"{name}.png" for name in names}
        classes = self.train.classes
        kind, shown = ("test", self.split.test) if self.test else ("validation", self.split.valid)
        plots.learning_curves(read_metrics(folder / "metrics.jsonl"), path["learning_curves"])
        style.confusion(result.labels, result.predictions, classes, title, path["confusion"])
        events, label, identity = self.recordings[int(shown[0])]
        name, label = style.drawable(identity, 40), style.drawable(classes[label])
        text = f"A {kind} recording: {name}, class {label}"
        plots.event_sample(samples.sequence(0), events, text, path["recording"])
        if self.static:
            seed = self.settings.training.seed
            static, event = some_pairs(self.static, samples, self.train.labels, seed)
            image_HW, label = static.sequence(0).mean((0, 1)), classes[event.labels[0]]
            text = f"An image and a recording of class {style.drawable(label)}"
            plots.pair(image_HW, event.sequence(0), text, path["pair"])
            text = "Membrane potentials of the last layer, test recordings and training images"
            both = (features(self, session.net, part) for part in (static, event))
            plots.alignment_view(*both, event.labels, classes, text, path["alignment"])
        return list(path.values())


def some_pairs(
    static: StaticPool, samples: FrameSet, trained: np.ndarray, seed: int
) -> tuple[FrameSet, FrameSet]:
    """At most 200 recordings of the classes in `trained` (labels, int64), at even distances, behind
    an image of the class of each."""
    rng = generator("pictures", seed)
    known = np.flatnonzero(np.isin(samples.labels, trained))
    some = known[np.linspace(0, len(known) - 1, min(200, len(known))).round().astype(int)]
    chosen = static.partners.draw(samples.labels[some], rng.random(len(some)))
    return static.images.subset(chosen), samples.subset(some)


@torch.no_grad()
def features(job: VisionJob, net: Any, samples: FrameSet) -> np.ndarray:
    """Mean membrane potentials of the last layer over time, float32 (n, F), in evaluation mode."""
    device, found = next(net.parameters()).device, []
    for batch in job.batches(samples):
        with evaluating(net), autocast(device, job.settings.training.amp):
            _, u_TBF, _ = net.scan(batch.x.to(device), potentials=True)
        found.append(u_TBF.float().mean(0))
    return torch.cat(found).cpu().numpy()


def open_job(settings: VisionSettings, device: torch.device | None = None) -> VisionJob:
    """Open recordings and images, split them, and make their frames.

    device: where batches are made; None: where the settings want the network.

    Raises ConfigError, DataError or EventFormatError, one sentence each.
    """
    data, c, t = settings.data, settings.frames, settings.transfer
    if data.dataset in DATASETS:
        _check(settings)  # before a download
    recordings = open_recordings(data.dataset, data.root, data.download, c.sensor, c.time_unit)
    _check(settings)
    device = device or pick_device(settings.machine.device)
    data_on = settings.machine.data_on
    folder = frames_folder(settings)
    framing = framing_of(settings)
    images, said = None, [*recordings.said, *clock_lines(recordings, framing)]
    said += resize_lines(recordings.size, framing)
    if data.skip_bad:
        recordings, more = usable_recordings(recordings, framing, folder)
        said += more
    if t.static is not None and t.transfer != "off":
        images = open_images(t.static, t.static_channel).of_classes(recordings.classes)
        if data.skip_bad:
            images, more = usable_images(images, folder)
            said += more
    split = split_recordings(
        recordings, images, c.split, settings.training.seed, c.n_labelled, c.test_fraction,
        data.valid_fraction,
    )  # fmt: skip
    frames = recording_frames(recordings, framing, folder).placed(device, data_on)
    *held, pool = split
    train, valid, test = (frames.subset(part) if len(part) else None for part in held)
    if data.protocol == "validation":
        test = None
        if valid is None:
            text = "protocol validation judges by recordings held out: give --valid-fraction"
            raise ConfigError(text)
    if train is None or (test or valid) is None:
        raise DataError(f"{data.dataset} leaves no recordings to train or to test on")
    _check_sizes(settings, len(train), frames.steps)
    static = None
    if images is not None:
        shown = image_frames(
            images, recordings.size, frames, framing, t.static_as, t.static_fit, folder
        )
        shown = shown.placed(device, data_on).subset(pool)
        static = StaticPool(shown, Partners(shown.labels, images.classes, train.labels))
    sizes = {"size": tuple(train.size), "n_out": len(recordings.classes)}
    if test is not None:
        said += absent(test.labels, recordings.classes, "the test recordings")
    found = (train, valid, test, static, recordings, images, split)
    return VisionJob(settings, sizes, *found, device, tuple(said))


def framing_of(settings: VisionSettings) -> Framing:
    """How the events of recordings become frames."""
    c, f = settings.frames, settings.filters
    filters = Filters(f.hot_pixels, f.noise_ms, f.shrink, f.thin_ms)
    return Framing(
        c.framing, c.n_steps, c.dt_ms, c.events_per_step, c.frame_size, c.frame_resize, c.time_zero,
        c.stride_ms, c.surface, c.surface_tau_ms, c.voxel, filters,
    )  # fmt: skip


def _check(settings: VisionSettings) -> None:
    """ConfigError for settings that do not fit each other."""
    t, epochs = settings.transfer, settings.training.epochs
    if t.transfer != "off" and t.static is None:
        text = "learns from images: give --static FOLDER or --transfer off"
        raise ConfigError(f"--transfer {t.transfer} {text}")
    if t.transfer == "finetune" and not 0 < (t.pretrain_epochs or 1) < epochs:
        raise ConfigError(
            f"--transfer finetune divides {epochs} epochs: give --pretrain-epochs below that"
        )
    _check_schedule(settings)


def _check_schedule(settings: VisionSettings) -> None:
    """ConfigError if a phase has no epochs between its warm-up and the cool-down."""
    recipe, epochs = settings.recipe, settings.training.epochs
    for epoch in (0, epochs - 1):
        _, length, images = phase(epoch, settings)
        around = {"warmup_epochs": recipe.warmup_epochs}
        around |= {} if images else {"cooldown_epochs": recipe.cooldown_epochs}
        if sum(around.values()) >= length:
            taken = " and ".join(f"{name} {n}" for name, n in around.items() if n)
            options = " ".join(f"--{name.replace('_', '-')} 0" for name, n in around.items() if n)
            verb = "leave" if all(around.values()) and len(around) > 1 else "leaves"
            raise ConfigError(
                f"{taken} {verb} no epoch of {length}: raise --epochs or give {options}"
            )


def _check_sizes(settings: VisionSettings, n_train: int, steps: int) -> None:
    """ConfigError for settings that do not fit the number of recordings or their steps."""
    train, delays = settings.training, settings.delays
    if train.temporal_gradient == "sltt" and (train.backward_steps or 0) > steps:
        text = f"backward_steps is {train.backward_steps}, but recordings have {steps} steps"
        raise ConfigError(f"{text}: lower it")
    align = settings.transfer.transfer == "align"
    if align and min(n_train, settings.data.batch_size) < 3:
        raise ConfigError(
            "CKA compares the pairs of a batch, and of two pairs it is always 1: give "
            "--batch-size 3 or more and as many recordings"
        )
    if delays.delays != "none" and delays.max_delay_steps > steps:
        text = f"max_delay_steps is {delays.max_delay_steps}, but there are {steps} steps"
        raise ConfigError(f"{text}: lower it")


def new_session(net: nn.Module, settings: VisionSettings) -> Session:
    """One optimizer, one schedule per epoch. Weight decay on delays never, on norms, biases and
    coefficients if weight_decay_on says so. Learned delay positions take lr_position, by the same
    schedule."""
    recipe = settings.recipe
    decay = settings.training.weight_decay
    groups = parameter_groups(net, recipe.lr, recipe.lr_position, decay)
    for group in groups:
        if group["name"] == "others" and recipe.weight_decay_on == "all":
            group["weight_decay"] = decay
    more = {"momentum": recipe.momentum} if recipe.optimizer == "sgd" else {}
    optimizer = OPTIMIZERS[recipe.optimizer](groups, lr=recipe.lr, **more)
    schedule = LambdaLR(optimizer, lambda epoch: rate_factor(epoch, settings))
    return Session(net, [optimizer], [schedule])


def train_epoch(job: VisionJob, session: Session, report: Report) -> dict:
    """One pass over the training recordings. Returns means over the recordings: `accuracy` and
    `loss`, the classification loss on events as evaluation computes it (without the coefficients;
    of images while those alone are shown). With transfer also `loss_total`, which is minimised, its
    parts `loss_static` and `loss_domain`, the replacement probability, and of every step the CKA
    and the coefficient."""
    epoch, t = session.epoch, job.settings.transfer
    batches = job.batches(job.train, epoch, session.step)
    images_alone = phase(epoch, job.settings)[2]
    aligned = t.transfer == "align" and not images_alone
    chances = _chances(job.settings, epoch, session.step + len(batches)) if aligned else []
    session.net.train()
    for batch in steps_left(session, batches, report, figures_so_far):
        if images_alone:
            batch = batch._replace(x=batch.static, static=None)
        elif aligned:
            batch = slide(batch, chances[session.step], job.settings.training.seed, epoch)
        train_step(job, session, batch)
    sums = {name: total.numpy() for name, total in totals(session).sums.items()}
    n, correct = sums.pop("n").item() or np.nan, int(sums.pop("correct"))
    record = {name: (value / n).tolist() for name, value in sums.items()}
    record["accuracy"] = correct / n
    if chances:
        record["replacement"] = float(np.mean(chances))
        if t.coefficient == "learned":
            net: Any = session.net
            record["coefficient"] = net.coefficient.detach().sigmoid().tolist()
    return record


def _chances(settings: VisionSettings, epoch: int, n_batches: int) -> list[float]:
    """Probability with which each batch of an epoch shows recordings in place of images."""
    t, epochs = settings.transfer, settings.training.epochs - settings.recipe.cooldown_epochs
    how = (n_batches, epochs, t.sliding, t.sliding_power, t.sliding_end)
    return [replacement_probability(epoch, step, *how) for step in range(n_batches)]


def figures_so_far(session: Session) -> tuple[float, float, np.ndarray]:
    """Loss and accuracy of the recordings of the epoch so far, no spike rates; errors as
    `totals`."""
    sums = totals(session).sums
    n = sums["n"].item() or np.nan
    return sums["loss"].item() / n, int(sums["correct"]) / n, np.zeros(0)


def train_step(job: VisionJob, session: Session, batch: Batch) -> None:
    """One update on a batch; `session.totals` and its errors say how it went."""

    def gradients(
        x: Tensor, static: Tensor | None, label_B: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return step_gradients(session, job.settings, x, static, label_B)

    inputs = (batch.x, batch.static, batch.label_B)
    take_step(session, job.settings, gradients, *inputs)
