"""How well a network does on a set of samples, and what it costs in spikes.

Legend: T time steps, B batch, C input channels, N classes.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import WidthWarning
from ..losses import softmax_sum, softmax_sum_score
from .machine import autocast


class Labelled(Protocol):
    """A batch: `x` float32 counts (T, B, ...), `label_B` int64."""

    @property
    def x(self) -> Tensor: ...

    @property
    def label_B(self) -> Tensor: ...


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found. labels, predictions: int64 (n,); loss: mean over the samples;
    spike_rates: per hidden layer, in spikes per neuron and step; steps: length T of all samples."""

    labels: np.ndarray
    predictions: np.ndarray
    steps: int
    loss: float
    hidden_spikes: float  # per sample, of all hidden neurons
    input_spikes: float  # per sample
    spike_rates: list[float]

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.labels)

    @property
    def accuracy(self) -> float:
        """Part of the samples that were predicted correctly, in [0, 1]."""
        return float(np.mean(self.labels == self.predictions))

    @property
    def standard_error(self) -> float:
        """Binomial standard error of the accuracy, sqrt(p (1-p) / n)."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.n)

    def spikes_per_inference(self) -> dict[str, float]:
        """Mean spikes per sample: of all hidden neurons, and of the input."""
        counts = {"hidden": self.hidden_spikes, "input": self.input_spikes}
        return {name: round(count, 1) for name, count in counts.items()}


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Within, net is in evaluation mode. Its delays may still be wide: a run narrows them epoch by
    epoch, so that a warning would tell nothing."""
    was_training = net.training
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WidthWarning)
        net.eval()
    try:
        yield
    finally:
        net.train(was_training)


@torch.no_grad()
def evaluate(
    net: nn.Module,
    batches: Iterable[Labelled],
    loss: Callable[[Tensor, Tensor], Tensor] = softmax_sum,
    score: Callable[[Tensor], Tensor] = softmax_sum_score,
    *,
    amp: bool = False,
    steps: int | None = None,
) -> Evaluation:
    """Run net in evaluation mode, that is with rounded integer delays, over labelled batches.

    Args:
        net: with ``activity(x) -> (v_TBN, spikes of every hidden layer)``. Its parameters and its
            mode stay as they are. See ``learning.unrounded`` for the other way to evaluate.
        batches: iterable twice. Samples are zero-padded to the longest of all, so that the result
            does not depend on how they are batched.
        loss: (v_TBN, label_B) -> the mean over a batch; the very one that training minimises.
        score: v_TBN -> (B, N), of which the largest is the prediction.
        amp: products in bfloat16.
        steps: length of the samples if all are as long.
    """
    steps = steps or max(len(batch.x) for batch in batches)
    device = next(net.parameters()).device
    labels, predictions, sums = [], [], []
    with evaluating(net):
        for batch in batches:
            x, label_B = _padded(batch.x.to(device), steps), batch.label_B.to(device)
            with autocast(device, amp):
                v_TBN, hidden = net.activity(x)  # type: ignore[operator]
            v_TBN = v_TBN.float()
            labels.append(batch.label_B.numpy())
            predictions.append(score(v_TBN).argmax(-1))
            counted = [loss(v_TBN, label_B).double() * len(label_B), *map(_total, (x, *hidden))]
            places = [torch.full_like(counted[0], s.numel()) for s in hidden]
            sums.append(torch.stack([*counted, *places]))
    loss_sum, input_sum, *rest = reduce(torch.add, sums).tolist()  # only here a GPU is waited for
    spikes, places = np.split(np.array(rest), 2)
    n = sum(map(len, labels))
    return Evaluation(
        labels=np.concatenate(labels),
        predictions=torch.cat(predictions).cpu().numpy(),
        steps=steps,
        loss=loss_sum / n,
        hidden_spikes=float(spikes.sum()) / n,
        input_spikes=input_sum / n,
        spike_rates=(spikes / places).tolist(),
    )


def _total(x: Tensor) -> Tensor:
    return x.sum(dtype=torch.float64)


def _padded(x_TB: Tensor, steps: int) -> Tensor:
    """x (T, B, ...) with silence up to so many steps."""
    missing = steps - len(x_TB)
    return torch.cat([x_TB, x_TB.new_zeros(missing, *x_TB.shape[1:])]) if missing else x_TB


def class_table(result: Evaluation, classes: list[str]) -> list[dict[str, Any]]:
    """One row per class that occurs: name, samples n, correct ones and accuracy."""
    rows = []
    for label, name in enumerate(classes):
        mine = result.labels == label
        if n := int(mine.sum()):
            correct = int((result.predictions[mine] == label).sum())
            rows.append({"class": name, "n": n, "correct": correct, "accuracy": correct / n})
    return rows
