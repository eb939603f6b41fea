"""Runs on audio: delay networks on clips of cochlea spikes, trained as published.

Two Adam optimizers (weights, positions), schedules per epoch, a width of the taps that shrinks
(Hammouamri et al. 2024, arXiv 2306.17670).

Legend: T time steps, B batch, C input channels, N classes.
"""

import hashlib
import json
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from ..data.audio.frames import Framing
from ..data.audio.held import Held, held_bytes, hold
from ..data.audio.loader import Batch, Loader, loader
from ..data.audio.sets import ClipSet
from ..data.audio.shd import Reading
from ..data.audio.split import split_clips
from ..data.audio.survey import coverage, few_units, left_out, survey, usable
from ..data.audio.waves import FrameSet, WaveSet
from ..data.audio.windows import cut
from ..data.batches import ALL, Shard
from ..data.catalog import DATASETS
from ..data.classes import absent
from ..data.coverage import coverage_lines
from ..data.placing import goes_there
from ..delays import KINDS, RecurrentDelay, SharedDelayLinear
from ..errors import ConfigError, DataError
from ..learning import delay_layers, parameter_groups, unrounded
from ..losses import LOSSES
from .evaluation import Evaluation, Evaluator, angle_error, evaluating
from .machine import autocast, pick_device
from .report import Report, read_metrics
from .schedule import moving_epochs
from .session import MADE, Session, graphs_of_evaluation, new_net
from .settings import AudioSettings
from .steps import backpropagate, steps_left, take_step, totals
from .waves import dense_loader, framed, of_frames

PARTS = ("training", "validation", "test")


@dataclass(frozen=True)
class AudioJob:
    """What stays the same during a run on clips; `Job` in session.py says what each method does."""

    settings: AudioSettings
    sizes: dict[str, Any]  # n_in, n_out
    train: ClipSet
    valid: ClipSet | None
    test: ClipSet | None
    held: tuple[Held, ...] = ()  # those of the three that lie on the device
    steps: int = 0  # of the first batch as stored
    said: tuple[str, ...] = ()  # about the clips: which were left out, what the frames hold
    shard: Shard = ALL  # what batches hold

    @property
    def shape(self) -> tuple[int, ...]:
        """(C,)"""
        return (self.sizes["n_in"],)

    def digest(self) -> str:
        """Hash of classes and labels of all clips."""
        parts = (self.train, self.valid, self.test)
        labels = [part and part.labels.tolist() for part in parts]
        return hashlib.sha256(json.dumps([MADE, self.train.classes, labels]).encode()).hexdigest()

    @property
    def of_waves(self) -> bool:
        """Whether clips are audio files."""
        return isinstance(self.train, FrameSet)

    def notes(self) -> list[str]:
        """Where clips are cut, if they are, which were left out, and what the frames hold."""
        frames = self.settings.frames
        if frames.n_steps is None or isinstance(self.test or self.train, FrameSet):
            return [*self.said]  # those of audio files say how long they are
        seconds = frames.n_steps * frames.dt_ms / 1000
        cut = f"every clip is cut or padded to {frames.n_steps} steps ({seconds:g} s)"
        return [cut, *self.said]

    def new_session(self, net: nn.Module) -> Session:
        """See `new_session` below."""
        return new_session(net, self.settings)

    def batches(self, samples: ClipSet, epoch: int | None = None, **changes: Any) -> Loader:
        """Batches of clips, on the device where these lie there. changes: arguments of `loader` in
        place of the settings."""
        held = next((held for held in self.held if held.clips is samples), None)
        how = _loading(self.settings) | {"epoch": epoch, "held": held, "shard": self.shard}
        return _loader(samples, how | changes)

    def train_epoch(self, session: Session, report: Report) -> dict:
        """See `train_epoch` below."""
        return train_epoch(self, session, report)

    def loss(self, v_TBN: Tensor, label_B: Tensor) -> Tensor:
        """The loss of a batch, the same in training and evaluation."""
        recipe = self.settings.recipe
        return LOSSES[recipe.loss](v_TBN, label_B, recipe.label_smoothing)

    def evaluator(self, net: nn.Module) -> Evaluator:
        """By the loss and the scores of the recipe."""
        score, amp = LOSSES[self.settings.recipe.loss].score, self.settings.training.amp
        graph = graphs_of_evaluation(net, self.settings)
        return Evaluator(net, self.loss, score, amp=amp, graph=graph)

    def evaluate(
        self, net: nn.Module, samples: ClipSet, evaluator: Evaluator | None = None
    ) -> Evaluation:
        """Loss, accuracy and spikes of net on clips."""
        batches = every = self.batches(samples)
        if self.shard != ALL:  # clips are as long as the longest of all, also of other processes
            every = replace(self, shard=ALL).batches(samples)
        steps = every.longest() or max(len(batch.x) for batch in every)
        result = (evaluator or self.evaluator(net))(batches, steps)
        return of_frames(result) if isinstance(samples, FrameSet) else result

    def figures(self, net: nn.Module, samples: ClipSet, result: Evaluation) -> dict:
        """How much rounding the delays costs and, of directions, the mean error in degrees."""
        exact = self.evaluate(unrounded(net), samples)
        found = {"rounding_gap": exact.accuracy - result.accuracy}
        entry = DATASETS.get(self.settings.data.dataset)
        if entry is not None and entry.angles:
            found["angle_error"] = angle_error(result, self.train.classes)
        return found

    def draw(
        self, session: Session, folder: Path, samples: ClipSet, result: Evaluation, title: str
    ) -> list[Path]:
        """Curves, delays, confusion matrix and the raster of one clip."""
        from .plots import audio as plots  # matplotlib is slow to import
        from .plots import style

        first = new_net(self.settings, self.sizes, session.device)
        start, end = delays_of(first), delays_of(session.net)
        names = ["learning_curves", *(["delays"] if end else []), "confusion", "raster"]
        path = {name: folder / f"{name}.png" for name in names}
        classes, dt_ms = self.train.classes, self.settings.frames.dt_ms
        plots.learning_curves(read_metrics(folder / "metrics.jsonl"), path["learning_curves"])
        if end:
            n_taps = self.settings.delays.max_delay_steps
            n_taps = 1 if self.settings.delays.delays == "none" else n_taps
            plots.delay_histograms(start, end, dt_ms, n_taps, path["delays"])
        style.confusion(result.labels, result.predictions, classes, title, path["confusion"])
        one = next(iter(self.batches(samples, workers=0, batch_size=1, n_steps=result.steps)))
        x_TC, spikes, v_TN = activity_of(session.net, one)
        label, prediction = int(one.label_B[0]), int(result.predictions[0])
        plots.raster(
            x_TC, spikes, v_TN, classes=classes, label=label, prediction=prediction, dt_ms=dt_ms,
            path=path["raster"],
        )  # fmt: skip
        return list(path.values())


def delays_of(net: nn.Module) -> dict[str, np.ndarray]:
    """Where delays are (`into hidden layer 1`) -> these, in steps, float; of axons and synapses on
    one way (`hybrid`) their sums."""
    found, parts = {}, set()
    for path, layer in net.named_modules():
        if isinstance(layer, (*KINDS, SharedDelayLinear)) and layer not in parts:
            parts |= {*layer.modules()}
            block = re.match(r"blocks\.(\d+)\.", path)
            place = f"hidden layer {int(block[1]) + 1}" if block else "readout"
            way = "within" if isinstance(layer, RecurrentDelay) else "into"
            found[f"{way} {place}"] = layer.delay_steps.cpu().numpy()
    return found


@torch.no_grad()
def activity_of(net: Any, batch: Batch) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """The first clip of a batch (T, C), the spikes of every hidden layer (T', N) and the potentials
    of the readout (T', N) in evaluation mode."""
    with evaluating(net):
        v_TBN, hidden = net.activity(batch.x.to(next(net.parameters()).device))
    x_TC, *spikes, v_TN = (part[:, 0].cpu().numpy() for part in (batch.x, *hidden, v_TBN))
    return x_TC, spikes, v_TN


def open_job(settings: AudioSettings) -> AudioJob:
    """Open the clips, and take n_in and n_out from them.

    Raises ConfigError, DataError or EventFormatError, one sentence each.
    """
    data = settings.data
    parts = split_clips(
        data.dataset,
        root=data.root,
        download=data.download,
        test_file=settings.frames.test_file,
        protocol=data.protocol,
        valid_fraction=data.valid_fraction,
        seed=settings.training.seed,
        reading=reading_of(settings),
    )
    for name, part in zip(PARTS, parts, strict=True):
        if part is not None and not len(part):
            raise DataError(f"{data.dataset} leaves no {name} clips: change --valid-fraction")
    if data.protocol == "best-on-test" and parts[2] is None:
        raise ConfigError("protocol best-on-test evaluates the test clips: give --test-file")
    parts, held, said = looked_at(settings, parts, pick_device(settings.machine.device))
    first = next(iter(_loader(parts[0], _loading(settings) | {"workers": 0})))
    sizes = {"n_in": first.x.shape[2], "n_out": len(parts[0].classes)}
    test = parts[2]
    lacking = absent(test.labels, test.classes, f"the {PARTS[2]} clips") if test is not None else []
    return AudioJob(settings, sizes, *parts, held, len(first.x), (*lacking, *said))


def looked_at(
    settings: AudioSettings, parts: tuple[ClipSet | None, ...], device: torch.device
) -> tuple[tuple[Any, ...], tuple[Held, ...], tuple[str, ...]]:
    """The parts without the clips that are left out, those of them that are to lie in the memory of
    the device, brought there, and what to tell about them. So a bad clip is found before the first
    epoch, wherever the clips lie. Errors as `goes_there`, `survey` and `usable`."""
    kept, held, left, covered = [], [], [], []
    for name, clips in zip(PARTS, parts, strict=True):
        if clips is None:
            kept.append(None)
            continue
        if isinstance(clips, WaveSet):
            clips, notes = framed(settings, clips, name, device)
            kept.append(clips)
            left += notes
            continue
        if settings.frames.window_ms is not None:
            clips, note = cut(clips, settings.frames.window_ms, settings.frames.window_overlap)
            left.append(f"{name}: {note}")
        how = framing_of(settings, clips)
        what = f"the clips of {clips.name}"
        there = goes_there(held_bytes(clips), device, settings.machine.data_on, what)
        stored = clips.whole() if there else None
        found = survey(clips, how, stored)
        good = usable(clips, found, settings.data.skip_bad)
        covered.append(coverage(found, how, name))
        left += few_units(found, how, name) if name == PARTS[0] else []
        if found.why:
            left.append(left_out(clips, found, name))
            clips, stored = clips.subset(good), stored and stored.take(good)
        kept.append(clips)
        if there:
            held.append(hold(clips, device, stored))
    return tuple(kept), tuple(held), (*left, *coverage_lines(covered))


def _loader(clips: ClipSet | FrameSet, how: dict[str, Any]) -> Loader:
    """Batches of clips, with the arguments of `loader`."""
    return dense_loader(clips, how) if isinstance(clips, FrameSet) else loader(clips, **how)


def framing_of(settings: AudioSettings, clips: ClipSet) -> Framing:
    """How the events of clips become frames. DataError if they cannot."""
    frames = settings.frames
    dt_us, n_steps = round(frames.dt_ms * 1000), frames.n_steps
    how = Framing(dt_us, frames.units_per_channel, clips.n_units, n_steps, frames.framing)
    return how.check()


def reading_of(settings: AudioSettings) -> Reading:
    """How the files of a run are read."""
    frames = settings.frames
    how = (settings.data.skip_bad, frames.spikes_per_unit, frames.reverse, frames.n_units)
    return Reading(frames.time_unit, frames.time_zero, *how, frames.label_key)


def _loading(settings: AudioSettings) -> dict[str, Any]:
    """Arguments of `loader` that settings say."""
    frames, augment = settings.frames, settings.augment
    amounts = {line.name: getattr(augment, line.name) for line in fields(augment)}
    return dict(
        batch_size=settings.data.batch_size,
        dt_ms=frames.dt_ms,
        units_per_channel=frames.units_per_channel,
        framing=frames.framing,
        n_steps=frames.n_steps,
        workers=frames.workers,
        mix=amounts.pop("aug_mix"),
        cutmix=amounts.pop("aug_cutmix"),
        amounts=amounts,
        seed=settings.training.seed,
    )


def new_session(net: nn.Module, settings: AudioSettings) -> Session:
    """Optimizers and schedules for net as published (arXiv 2306.17670, section 4).

    Weights: Adam, one-cycle from lr_max/25 to lr_max and down over the epochs, decay on synaptic
    weights only. Positions: Adam, cosine from lr_position to 0, over the epochs before delays are
    rounded. Both step once per epoch.

    Raises ConfigError if nothing of the network is trained.
    """
    recipe, epochs = settings.recipe, settings.training.epochs
    groups = parameter_groups(net, recipe.lr, recipe.lr_position, settings.training.weight_decay)
    positions = [group for group in groups if group["name"] == "positions"]
    others = [group for group in groups if group["name"] != "positions"]
    if not groups:
        raise ConfigError("weights are frozen, and nothing else is trained: add --delays learned")
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Adam(g) for g in (others, positions) if g
    ]
    schedules: list = []
    if others and recipe.lr_max is not None:
        # below 4 epochs torch's one-cycle has no rising phase and would start at its end
        schedules.append(OneCycleLR(optimizers[0], recipe.lr_max, total_steps=max(epochs, 4)))
    if positions:
        schedules.append(CosineAnnealingLR(optimizers[-1], T_max=moving_epochs(settings)))
    return Session(net, optimizers, schedules)


def train_step(job: AudioJob, session: Session, batch: Batch) -> None:
    """One update on a batch; `session.totals` and its errors say how it went."""

    def gradients(x_TBC: Tensor, label_B: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return step_gradients(job, session, x_TBC, label_B)

    target = batch.label_B if batch.target_BN is None else batch.target_BN
    take_step(session, job.settings, gradients, batch.x, target)


def step_gradients(
    job: AudioJob, session: Session, x_TBC: Tensor, label_B: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Gradients of a step: its loss, and sums over its `n` clips, float64: of `loss`, of the
    `correct` ones and, unless the gradient goes step by step, of the spike `rates` of the hidden
    layers."""
    net: Any = session.net
    T, B, train = len(x_TBC), len(label_B), job.settings.training

    def run(x_TBC: Tensor, label_B: Tensor, state: list | None) -> tuple:
        with autocast(session.device, train.amp):
            if train.temporal_gradient == "sltt":
                v_TBN, state = net.scan(x_TBC, state)
                hidden = []
            else:
                v_TBN, hidden = net.activity(x_TBC)
        loss = job.loss(v_TBN.float(), label_B)
        return loss * (len(x_TBC) / T), (v_TBN, hidden), state

    loss, outputs = backpropagate(session, job.settings, run, [x_TBC], [label_B])
    v_TBN = torch.cat([v for v, _ in outputs])
    scores_BN = LOSSES[job.settings.recipe.loss].score(v_TBN)
    most_B = label_B if label_B.ndim == 1 else label_B.argmax(-1)  # of a mixed clip
    correct = (scores_BN.argmax(-1) == most_B).sum().double()
    sums = {"n": torch.full_like(correct, B), "loss": loss.double() * B, "correct": correct}
    if rates := [s.mean().double() * B for s in outputs[0][1]]:
        sums["rates"] = torch.stack(rates)
    return loss, sums


def figures_so_far(session: Session) -> tuple[float, float, np.ndarray]:
    """Loss, accuracy and spike rates of the clips of the epoch so far; errors as `totals`."""
    sums = totals(session).sums
    n = sums["n"].item() or np.nan
    rates = sums["rates"].numpy() if "rates" in sums else np.zeros(0)
    return sums["loss"].item() / n, int(sums["correct"]) / n, rates / n


def train_epoch(job: AudioJob, session: Session, report: Report) -> dict:
    """One pass over the training clips. Returns mean loss, accuracy and spike rates, each over
    the clips, and how far the mean position moved in steps."""
    positions = [layer.position for layer in delay_layers(session.net)]
    positions = [p for p in positions if p.requires_grad] or positions  # not the fixed of hybrid
    if session.step == 0:
        session.begun = [p.detach().clone() for p in positions]
    session.net.train()
    batches = job.batches(job.train, session.epoch, start_batch=session.step)
    for batch in steps_left(session, batches, report, figures_so_far):
        train_step(job, session, batch)
    loss, accuracy, rates = figures_so_far(session)
    pairs = zip(positions, session.begun, strict=True)
    moved = [(now.detach() - before).abs().flatten() for now, before in pairs]
    record: dict[str, Any] = {"loss": loss, "accuracy": accuracy}
    if rates.size:  # step by step no layer's spikes are at hand; evaluation has them
        record["spike_rates"] = rates.tolist()
    if moved:
        record["position_change_steps"] = torch.cat(moved).mean().item()
    return record
