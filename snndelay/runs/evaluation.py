"""How well a network does on a set of clips, and what it costs in spikes.

Legend: T time steps, B batch, C input channels, N classes.
"""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..data.audio.loader import Batch, loader
from ..data.audio.sets import open_dataset
from ..errors import ConfigError, DataError, RunError
from ..losses import LOSSES, SCORES
from ..models import DelayNet
from . import checkpoint
from .machine import autocast, find_run, pick_device, write_json
from .settings import DataConfig, ModelConfig, TrainConfig, from_flat

CHECKPOINTS = ("last", "best")


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found. labels, predictions: int64 (n,); loss: mean over the clips;
    spike_rates: per hidden layer, in spikes per neuron and step; steps: length T of every clip."""

    labels: np.ndarray
    predictions: np.ndarray
    steps: int
    loss: float
    hidden_spikes_per_clip: float
    input_spikes_per_clip: float
    spike_rates: list[float]

    @property
    def n(self) -> int:
        """Number of clips."""
        return len(self.labels)

    @property
    def accuracy(self) -> float:
        """Part of the clips that were predicted correctly, in [0, 1]."""
        return float(np.mean(self.labels == self.predictions))

    @property
    def standard_error(self) -> float:
        """Binomial standard error of the accuracy, sqrt(p (1-p) / n)."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.n)

    def spikes_per_inference(self) -> dict[str, float]:
        """Mean spikes per clip: of all hidden neurons, and of the input."""
        counts = {"hidden": self.hidden_spikes_per_clip, "input": self.input_spikes_per_clip}
        return {name: round(count, 1) for name, count in counts.items()}


@torch.no_grad()
def evaluate(
    net: nn.Module,
    batches: Iterable[Batch],
    loss: str = "softmax_sum",
    amp: bool = False,
    steps: int | None = None,
) -> Evaluation:
    """Run net in evaluation mode, that is with rounded integer delays, over labelled batches.

    batches: x float32 counts (T, B, ...) and label_B int64, iterable twice. loss: a key of LOSSES.
    amp: products in bfloat16. steps: length of the clips if all are as long. Clips are zero-padded
    to the longest of all, so that the result does not depend on how they are batched. The
    parameters of net and its mode stay as they are. See `unrounded` for the other way.
    """
    steps = steps or max(len(batch.x) for batch in batches)
    device, was_training = next(net.parameters()).device, net.training
    net.eval()
    labels, predictions, loss_sum, input_sum = [], [], 0.0, 0.0
    spikes, places = np.zeros(()), np.zeros(())
    for batch in batches:
        x, missing = batch.x.to(device), steps - len(batch.x)
        x = torch.cat([x, x.new_zeros(missing, *x.shape[1:])]) if missing else x
        label_B = batch.label_B.to(device)
        with autocast(device, amp):
            v_TBN, hidden = net.activity(x)
        v_TBN = v_TBN.float()
        loss_sum += LOSSES[loss](v_TBN, label_B).item() * len(label_B)
        input_sum += x.sum(dtype=torch.float64).item()
        labels.append(batch.label_B.numpy())
        predictions.append(SCORES[loss](v_TBN).argmax(-1).cpu().numpy())
        spikes = spikes + [s.sum(dtype=torch.float64).item() for s in hidden]
        places = places + [s.numel() for s in hidden]
    net.train(was_training)
    n = sum(map(len, labels))
    return Evaluation(
        labels=np.concatenate(labels),
        predictions=np.concatenate(predictions),
        steps=steps,
        loss=loss_sum / n,
        hidden_spikes_per_clip=float(spikes.sum()) / n,
        input_spikes_per_clip=input_sum / n,
        spike_rates=(spikes / places).tolist(),
    )


def unrounded(net: DelayNet) -> DelayNet:
    """Copy of net whose delays stay as trained in evaluation mode; net itself is not touched."""
    twin = copy.deepcopy(net)
    for layer in twin.delay_layers():
        layer.rounded = False
    return twin


def read_run(run: str | Path, which: str, device: torch.device | str) -> tuple[dict, tuple]:
    """State in a run's checkpoint, and its three configs. run: folder, or name under runs/.

    Raises RunError if there is no such run or checkpoint, CheckpointCorrupt if it is damaged.
    """
    path = find_run(run) / f"{which}.pt"
    if not path.is_file():
        reason = "best.pt needs a validation set" if which == "best" else "no epoch was completed"
        raise RunError(f"{path.parent} has no {path.name}: {reason}")
    state = checkpoint.load(path, device)
    return state, from_flat(state["config"])


def load_run(
    run: str | Path, which: str = "last", device: torch.device | str = "cpu"
) -> tuple[DelayNet, DataConfig, TrainConfig, list[str]]:
    """Network of a finished or interrupted run on sounds, its data and training settings, and its
    classes. which: "last" or "best". Raises as `read_run`.
    """
    state, (data, model, train) = read_run(run, which, device)
    return _sound_net(state, data, model, train, device), data, train, state["classes"]


def _sound_net(
    state: dict,
    data: DataConfig,
    model: ModelConfig,
    train: TrainConfig,
    device: torch.device | str,
) -> DelayNet:
    net = DelayNet(model, train.backend, data.dt_ms).to(device)
    net.load_state_dict(state["model"])
    return net.eval()


def evaluate_run(
    run: str | Path, *, test_file: str | None = None, which: str = "last", device: str = "auto"
) -> dict:
    """Evaluate a run on its test clips, or those of test_file (sounds, same classes), and write
    evaluation.json into its folder.

    Returns accuracy with n and standard error, accuracy without rounding, spikes per inference
    and a row per class. Raises RunError, DataError, EventFormatError or CheckpointCorrupt.
    """
    place = pick_device(device)
    state, (data, model, train) = read_run(run, which, place)
    if model.network != "delay":
        if test_file is not None:
            raise ConfigError("--test-file is for sounds: this run has test recordings of its own")
        from .vision import open_job  # its readers are slow to import

        job = open_job(data, model, train)
        job.check_same(state)
        net, classes = job.new_net(place), state["classes"]
        net.load_state_dict(state["model"])
        rounded = exact = job.evaluate(net, job.test_clips)
        if net.delay_layers():
            exact = job.evaluate(unrounded(net), job.test_clips)
    else:
        net, classes = _sound_net(state, data, model, train, place), state["classes"]
        clips = open_dataset(data.dataset, data.root, "test", False, test_file or data.test_file)
        if clips.classes != classes:
            raise DataError("the test clips have other classes than the run was trained on")
        batches = loader(clips, data, train=False)
        rounded, exact = (
            evaluate(n, batches, train.loss, train.amp) for n in (net, unrounded(net))
        )
    result = {
        "checkpoint": which,
        "test_clips": test_file or data.test_file or data.dataset,
        "accuracy": rounded.accuracy,
        "n": rounded.n,
        "standard_error": rounded.standard_error,
        "accuracy_unrounded": exact.accuracy,
        "rounding_gap": exact.accuracy - rounded.accuracy,
        "spikes_per_inference": rounded.spikes_per_inference(),
        "classes": class_table(rounded, classes),
    }
    path = find_run(run) / "evaluation.json"
    try:
        write_json(path, result)
    except OSError as error:
        raise RunError(f"cannot write {path} ({error.strerror})") from error
    return result


def class_table(result: Evaluation, classes: list[str]) -> list[dict]:
    """One row per class that occurs: name, clips n, correct ones and accuracy."""
    rows = []
    for label, name in enumerate(classes):
        mine = result.labels == label
        if n := int(mine.sum()):
            correct = int((result.predictions[mine] == label).sum())
            rows.append({"class": name, "n": n, "correct": correct, "accuracy": correct / n})
    return rows
