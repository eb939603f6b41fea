"""The whole published recipe on SHD against the clock, from the first step to the last epoch.

    python benchmarks/speedrun.py --root FOLDER --what "what has changed"      # SHD in FOLDER
    python benchmarks/speedrun.py [--epochs 150] [--device cuda]               # a set of its size

Protocol clean: all training clips train, the last epoch's weights are tested once, delays rounded.
Clips become frames once, lie on the device as bytes, and a batch is gathered there. On CUDA
forward, loss and backward of a batch are a replay of one graph; a graph per length and size of
batches, lengths rounded up to a multiple of STRIDE (a batch is padded with silence to its longest
clip anyway). The optimizers step beside the graph, which would hold on to the momentum of the first
epoch: the one-cycle schedule moves it. Optimizers, schedules, width, clamp and loss are those of a
run of `train.py shd`. Opening the data and compiling are timed beside it. One JSON line is appended
to benchmarks/results/speedrun.jsonl; a run of all epochs that is faster than any before it on the
same card is a record of docs/records.md.

Legend: T time steps, B batch, C input channels, N classes, S clips of a set.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import shd_size
import torch
from common import RESULTS, append, changes
from common_gpu import PRECISIONS, captured, here, set_precision, synchronize
from torch import Tensor, nn

from snndelay.data.audio.frames import frames
from snndelay.data.audio.loader import Batch
from snndelay.data.audio.sets import ClipSet
from snndelay.data.audio.split import split_clips
from snndelay.data.batches import batches, epoch_batches
from snndelay.errors import NonFiniteError, UserError
from snndelay.learning import clamp_, set_sigma
from snndelay.losses import LOSSES
from snndelay.runs.audio import new_session
from snndelay.runs.evaluation import Evaluation, Evaluator
from snndelay.runs.machine import keep_freed_memory, pick_device, seed_step
from snndelay.runs.presets import preset_settings
from snndelay.runs.schedule import sigma_in_epoch
from snndelay.runs.session import new_net
from snndelay.runs.settings import FROM_DATA, AudioSettings, from_flat

STRIDE = 16  # steps; fewer lengths, fewer graphs


class DeviceClips(NamedTuple):
    """Clips as frames on a device: counts (T, S, C), uint8 where they fit; classes int64 (S,), also
    on the host; steps of every clip int64 (S,)."""

    frames_TSC: Tensor
    label_S: Tensor
    labels: np.ndarray
    steps_S: np.ndarray

    def length(self, part: np.ndarray) -> int:
        """Steps of a batch: its longest clip, rounded up."""
        longest = int(self.steps_S[part].max())
        return min(-(-longest // STRIDE) * STRIDE, len(self.frames_TSC))

    def gather(self, index_B: Tensor, T: int) -> tuple[Tensor, Tensor]:
        """Frames (T, B, C) float32 and classes (B,) of the clips at `index_B`."""
        x_TBC = self.frames_TSC[:T].index_select(1, index_B).float()
        return x_TBC, self.label_S.index_select(0, index_B)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """All clips in order, as long as the longest."""
        for part in batches(np.arange(len(self.labels)), batch_size, train=False):
            index_B = torch.from_numpy(part)
            x_TBC, _ = self.gather(index_B.to(self.label_S.device), len(self.frames_TSC))
            yield Batch(x_TBC, torch.from_numpy(self.labels[part]), index_B)


def on_device(clips: ClipSet, settings: AudioSettings, device: torch.device) -> DeviceClips:
    """Frames of all clips, made once."""
    f, made = settings.frames, []
    for i in range(len(clips)):
        shape = (round(f.dt_ms * 1000), f.units_per_channel, clips.n_units, f.n_steps, f.framing)
        x_TC = frames(clips[i][0], *shape)
        made.append(x_TC.astype(np.uint8) if x_TC.max() < 256 else x_TC)
    steps_S = np.array([len(x) for x in made])
    dtype = np.result_type(*{x.dtype for x in made})
    x_STC = np.zeros((len(made), steps_S.max(), made[0].shape[1]), dtype)
    for x, clip in zip(x_STC, made, strict=True):
        x[: len(clip)] = clip
    frames_TSC = torch.from_numpy(x_STC).to(device).transpose(0, 1).contiguous()
    return DeviceClips(frames_TSC, torch.tensor(clips.labels, device=device), clips.labels, steps_S)


class Speedrun:
    """A network, its session and the graphs of its batches."""

    def __init__(self, settings: AudioSettings, train: DeviceClips, n_out: int):
        self.settings, self.train = settings, train
        self.device = train.label_S.device
        sizes = {"n_in": train.frames_TSC.shape[2], "n_out": n_out}
        self.net = new_net(settings, sizes, self.device)
        self.session = new_session(self.net, settings)
        if self.device.type == "cuda":  # one launch a group
            for group in (g for o in self.session.optimizers for g in o.param_groups):
                group |= {"fused": True, "foreach": False}
        self.loss_sum = torch.zeros((), device=self.device)
        self.graphs: dict[tuple[int, int], Callable[[Tensor], list]] = {}

    @property
    def epochs(self) -> int:
        """Epochs of the recipe."""
        return self.settings.training.epochs

    @cached_property
    def plan(self) -> list[list[np.ndarray]]:
        """Clips of every batch of every epoch."""
        n, size = len(self.train.labels), self.settings.data.batch_size
        seed = self.settings.training.seed
        return [epoch_batches(n, size, seed, epoch) for epoch in range(self.epochs)]

    @property
    def steps(self) -> int:
        """Batches of all epochs."""
        return sum(map(len, self.plan))

    def loss(self, v_TBN: Tensor, label_B: Tensor) -> Tensor:
        """The loss of a batch, of the recipe."""
        recipe = self.settings.recipe
        return LOSSES[recipe.loss](v_TBN.float(), label_B, recipe.label_smoothing)

    def shape(self, part: np.ndarray) -> tuple[int, int]:
        """(T, B) of a batch: what a graph is for."""
        return self.train.length(part), len(part)

    def compile(self) -> None:
        """Makes the graph of every shape that the plan has."""
        for T, B in sorted({self.shape(part) for epoch in self.plan for part in epoch}):
            self.graphs[T, B] = self._graph(T, B)
        self.loss_sum.zero_()

    def _graph(self, T: int, B: int) -> Callable[[Tensor], list]:
        net, index_B = self.net.train(), torch.arange(B, device=self.device)
        parameters = [p for p in net.parameters() if p.requires_grad]
        set_sigma(net, sigma_in_epoch(self.settings, 0))

        def run() -> list:
            for p in parameters:
                p.grad = None
            x_TBC, label_B = self.train.gather(index_B, T)
            loss = self.loss(net(x_TBC), label_B)
            loss.backward()
            self.loss_sum.add_(loss.detach(), alpha=B)
            return [p.grad for p in parameters]

        replay = captured(run, net)

        def gradients(part_B: Tensor) -> list:
            index_B.copy_(part_B)
            for p, grad in zip(parameters, replay(), strict=True):
                p.grad = grad  # a graph has gradients of its own
            return parameters

        return gradients

    def epoch(self) -> None:
        """One pass over the training clips; nothing in it waits for the device."""
        session, epoch = self.session, self.session.epoch
        order = np.concatenate(self.plan[epoch])
        order_S = torch.from_numpy(order).to(self.device)
        set_sigma(self.net, sigma_in_epoch(self.settings, epoch))
        start = 0
        for step, part in enumerate(self.plan[epoch]):
            seed_step(self.settings.training.seed, epoch, step)
            gradients = self.graphs[self.shape(part)]
            parameters = gradients(order_S[start : start + len(part)])
            if norm := self.settings.training.grad_clip:
                nn.utils.clip_grad_norm_(parameters, norm)
            for optimizer in session.optimizers:
                optimizer.step()
            clamp_(self.net)
            start += len(part)
        for schedule in session.schedules:
            schedule.step()
        session.epoch += 1

    def fit(self, say: Callable[[str], None]) -> tuple[float, float]:
        """All epochs. Returns seconds and the mean loss of the last; NonFiniteError if that is
        none: the weights then are not worth a test."""
        synchronize(self.device)
        start = time.perf_counter()
        for epoch in range(self.epochs):
            if epoch == self.epochs - 1:
                self.loss_sum.zero_()
            self.epoch()
            if self.device.type == "cpu":
                say(f"epoch {epoch + 1} of {self.epochs}")
        synchronize(self.device)
        seconds = time.perf_counter() - start
        loss = self.loss_sum.item() / len(self.train.labels)
        if not np.isfinite(loss):
            raise NonFiniteError(f"the loss of the last epoch is {loss}: lower the learning rate")
        return seconds, loss

    def test(self, clips: DeviceClips) -> Evaluation:
        """What the trained network makes of the test clips."""
        size, recipe = self.settings.data.batch_size, self.settings.recipe
        steps = len(clips.frames_TSC)
        made = clips.batches(size)
        return Evaluator(self.net, self.loss, LOSSES[recipe.loss].score)(made, steps)


def settings_of(root: str | None, n_clips: tuple[int, int], folder: str, **changed) -> dict:
    """Flat settings of the recipe on SHD under root, or on a set of its size that is made."""
    flat = {k: v for k, v in preset_settings("shd").items() if k not in FROM_DATA}
    flat |= {"valid_fraction": 0.0} | changed
    if root is not None:
        return flat | {"dataset": "shd", "root": root}
    train, test = shd_size.files(folder, n_clips)
    return flat | {"dataset": str(train), "test_file": str(test)}


def run(settings: AudioSettings, precision: str, say: Callable[[str], None] = print) -> dict:
    """Opens, compiles, trains and tests; returns the figures of a result line."""
    device, data = pick_device(settings.machine.device), settings.data
    set_precision(precision)
    clock = [time.perf_counter()]
    files = dict(root=data.root, test_file=settings.frames.test_file, valid_fraction=0.0)
    clips = split_clips(data.dataset, seed=settings.training.seed, **files)
    train, test = (on_device(part, settings, device) for part in (clips[0], clips[2]))
    clock.append(time.perf_counter())
    race = Speedrun(settings, train, len(clips[0].classes))
    race.compile()
    synchronize(device)
    clock.append(time.perf_counter())
    shapes = [list(shape) for shape in sorted(race.graphs)]
    say(f"{len(train.labels)} clips, shapes (T, B) {shapes}, {race.steps} steps")
    seconds, loss = race.fit(say)
    start = time.perf_counter()
    result = race.test(test)
    return {
        "seconds": seconds,
        "ms_per_step": 1e3 * seconds / race.steps,
        "epochs": race.epochs,
        "steps": race.steps,
        "shapes": shapes,
        "data": "shd" if data.dataset == "shd" else "spoken digits repeated",
        "n_train": len(train.labels),
        "n_test": result.n,
        "test_accuracy": result.accuracy,
        "loss": loss,
        "open_seconds": clock[1] - clock[0],
        "compile_seconds": clock[2] - clock[1],
        "test_seconds": time.perf_counter() - start,
        "precision": precision,
        "graph": device.type == "cuda",
        "seed": settings.training.seed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    add = parser.add_argument
    add("--root", help="Folder with SHD; without it a set of SHD's size is made.")
    add("--cache", default=shd_size.FOLDER, help="Keep the set that is made here.")
    add("--clips", type=int, nargs=2, default=shd_size.N_CLIPS, help="Clips of that set.")
    add("--epochs", type=int, default=150, help="Train so many epochs; a record has 150.")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="Run there.")
    add("--precision", choices=PRECISIONS, default="default", help="Of matrix products.")
    add("--seed", type=int, default=0, help="Seed of weights, order and dropout.")
    add("--set", nargs="+", default=[], metavar="NAME=VALUE", help="Change settings.")
    add("--what", default="", help="What has changed since the last record.")
    add("--commit", help="Say this in the line where git cannot.")
    add("--out", type=Path, default=RESULTS / "speedrun.jsonl", help="Append a JSON line here.")
    o = parser.parse_args()
    keep_freed_memory()  # as train.py does
    changed = changes(o.set)
    try:
        flat = settings_of(
            o.root,
            tuple(o.clips),
            o.cache,
            epochs=o.epochs,
            seed=o.seed,
            device=o.device,
            **changed,
        )
        line = run(from_flat(flat), o.precision)
    except UserError as error:
        sys.exit(str(error))
    device = pick_device(o.device)
    append(line | {"what": o.what, "settings": changed} | here(device, o.commit), o.out)
    print(
        f"{line['epochs']} epochs in {line['seconds']:.2f} s ({line['ms_per_step']:.2f} ms a step; "
        f"opening {line['open_seconds']:.1f} s, compiling {line['compile_seconds']:.1f} s), "
        f"test {line['test_accuracy']:.1%} of {line['n_test']}"
    )


if __name__ == "__main__":
    main()
