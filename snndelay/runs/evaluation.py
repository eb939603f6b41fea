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

from ..delays import whole
from ..errors import WidthWarning
from ..learning import delay_layers
from ..losses import softmax_sum, softmax_sum_score
from ..recorded import Graphed
from .machine import autocast


class Labelled(Protocol):
    """A batch: `x` float32 counts (T, B, ...), `label_B` int64."""

    @property
    def x(self) -> Tensor: ...

    @property
    def label_B(self) -> Tensor: ...


@dataclass(frozen=True)
class Evaluation:
    """What an `Evaluator` found. labels, predictions: int64 (n,); loss: mean over the samples;
    spike_rates: per hidden layer, in spikes per neuron and step; steps: length T of all samples."""

    labels: np.ndarray
    predictions: np.ndarray
    steps: int
    loss: float
    hidden_spikes: float | None  # per sample, of all hidden neurons; None: these have rates
    input_spikes: float | None  # per sample; None: the input is no spikes
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
        """Mean spikes per sample: of all hidden neurons, if they spike, and of the input."""
        counts = {"hidden": self.hidden_spikes, "input": self.input_spikes}
        return {name: round(count, 1) for name, count in counts.items() if count is not None}


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


def rounds(net: nn.Module) -> bool:
    """Whether net evaluates on rounded delays and trains on others."""
    return not all(whole(layer) for layer in delay_layers(net))


class Evaluator:
    """Runs net in evaluation mode, that is with rounded integer delays, over labelled batches; on
    CUDA as graphs, one for each shape of a batch, which further calls use again.

    Args:
        net: with ``activity(x) -> (v_TBN, spikes of every hidden layer)``. Its parameters and its
            mode stay as they are. See ``learning.unrounded`` for the other way to evaluate.
        loss: (v_TBN, label_B) -> the mean over a batch; the very one that training minimises.
        score: v_TBN -> (B, N), of which the largest is the prediction.
        amp: products in bfloat16.
        graph: None: graphs on CUDA and none elsewhere.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor] = softmax_sum,
        score: Callable[[Tensor], Tensor] = softmax_sum_score,
        *,
        amp: bool = False,
        graph: bool | None = None,
    ):
        self.net, self.loss, self.score, self.amp = net, loss, score, amp
        self.device = next(net.parameters()).device
        self._graphed = Graphed(self._batch, self.device, graph=graph)

    @torch.no_grad()
    def __call__(self, batches: Iterable[Labelled], steps: int | None = None) -> Evaluation:
        """Batches are iterable twice. Samples are zero-padded to the longest of all, or to
        ``steps`` if that is known, so that the result does not depend on how they are batched.
        """
        steps = steps or max(len(batch.x) for batch in batches)
        labels, predictions, sums = [], [], []
        with evaluating(self.net):
            for batch in batches:
                x, label_B = padded(batch.x, steps), batch.label_B
                found_B, counted = self._graphed(x, label_B)
                labels.append(label_B)
                predictions.append(found_B)
                sums.append(counted)
        loss_sum, input_sum, *rest = reduce(torch.add, sums).tolist()  # the first wait for a GPU
        spikes, places = np.split(np.array(rest), 2)
        n = sum(map(len, labels))
        return Evaluation(
            labels=torch.cat(labels).cpu().numpy(),
            predictions=torch.cat(predictions).cpu().numpy(),
            steps=steps,
            loss=loss_sum / n,
            hidden_spikes=float(spikes.sum()) / n,
            input_spikes=input_sum / n,
            spike_rates=(spikes / places).tolist(),
        )

    def _batch(self, x: Tensor, label_B: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions (B,), and sums over the batch, float64: loss, events, spikes of every hidden
        layer, and their places."""
        with autocast(self.device, self.amp):
            v_TBN, hidden = self.net.activity(x)  # type: ignore[operator]
        v_TBN = v_TBN.float()
        counted = [self.loss(v_TBN, label_B).double() * len(label_B), *map(_total, (x, *hidden))]
        places = [torch.full_like(counted[0], s.numel()) for s in hidden]
        return self.score(v_TBN).argmax(-1), torch.stack([*counted, *places])


def _total(x: Tensor) -> Tensor:
    return x.sum(dtype=torch.float64)


def padded(x_TB: Tensor, steps: int) -> Tensor:
    """x (T, B, ...) with silence up to so many steps."""
    missing = steps - len(x_TB)
    return torch.cat([x_TB, x_TB.new_zeros(missing, *x_TB.shape[1:])]) if missing else x_TB


def angle_error(result: Evaluation, classes: list[str]) -> float:
    """How far predicted directions lie from the true ones, in degrees, the shorter way round: the
    mean over the samples. classes: the directions by their names, numbers of degrees."""
    degrees = np.array([float(name) for name in classes])
    off = np.abs(degrees[result.predictions] - degrees[result.labels]) % 360
    return float(np.minimum(off, 360 - off).mean())


def class_table(result: Evaluation, classes: list[str]) -> list[dict[str, Any]]:
    """One row per class that occurs: name, samples n, correct ones and accuracy."""
    rows = []
    for label, name in enumerate(classes):
        mine = result.labels == label
        if n := int(mine.sum()):
            correct = int((result.predictions[mine] == label).sum())
            rows.append({"class": name, "n": n, "correct": correct, "accuracy": correct / n})
    return rows
