"""What a finished run says about samples, one by one, labelled or not.

    for p in snndelay.predict("runs/shd-0", "new.h5"):
        print(p.name, p.classes[0], p.probabilities[0])

Legend: T time steps, B batch, N classes.
"""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data.vision.loader import channels_last
from ..errors import ConfigError
from ..losses import LOSSES, logit_sum_score
from ..recorded import Graphed
from .evaluation import evaluating
from .flat import to_flat
from .machine import autocast, pick_device
from .other import Other, Sample
from .precision import float32_precision
from .saved import opened, samples_of, with_reading
from .session import graphs_of_evaluation
from .settings import Settings

Score = Callable[[Tensor], Tensor]


class Prediction(NamedTuple):
    """What a run says about one sample.

    `name`: its file, seen from the folder, and its number where a file has several. `classes`: the
    most likely first, as many as were asked for. `probabilities`: of these classes, the softmax
    that the run's loss was the cross-entropy of; scores where its loss takes none, see
    `Predictions.scored`. `label`: its class, None where that is not known. `latency_ms`: time of
    its batch from reading the files to the scores, divided by the samples in it; kernels have been
    started before. `in_frames`: part of its events that the network was shown. `error`: why it
    cannot be used, one sentence; there are no classes then.
    """

    name: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    label: str | None = None
    latency_ms: float = 0.0
    in_frames: float = 0.0
    error: str | None = None


class Predictions(NamedTuple):
    """Predictions that are made while they are iterated, once. `notes`: said before them.
    `scored`: "probability", or what stands in its place. `n_classes`: of the run; `batch_size`:
    samples at once."""

    each: Iterator[Prediction]
    notes: list[str]
    scored: str
    n_classes: int
    batch_size: int


def predict(
    run: str | Path,
    data: str | Path,
    *,
    which: str = "last",
    device: str = "auto",
    top: int = 1,
    batch_size: int | None = None,
    sensor: tuple[int, int] | None = None,
    **reading: Any,
) -> Iterator[Prediction]:
    """What a run says about samples, in the order of their files, a batch at a time.

    Args:
        run, which: as for `load`.
        data: one file, a folder at any depth, a named data set (its test part), or "-": events as
            text on standard input, `t unit` of a clip (t in the run's time_unit) or `t x y p` of a
            recording (t in the time_unit that is given, else seconds if one has a fraction, else
            us). A file of clips needs no labels.
        device: ``auto``, ``cpu`` or ``cuda``.
        top: how many classes of each sample.
        batch_size: samples at once; None: that of the run.
        sensor: (height, width) of the recordings' sensor; None: that of the run.
        reading: settings of READING, where they are others than the run's.

    Yields:
        A `Prediction` of every sample, also of those that cannot be used, which have an `error`.

    Raises:
        RunError, DataError, EventFormatError, ConfigError or CheckpointCorrupt, with one sentence,
        before the first prediction.
    """
    other = Other(str(data), sensor=sensor)
    return open_predictions(run, other, which, device, top, batch_size, **reading).each


def open_predictions(
    run: str | Path,
    other: Other,
    which: str = "last",
    device: str = "auto",
    top: int = 1,
    batch_size: int | None = None,
    **reading: Any,
) -> Predictions:
    """See `predict`; with what to say about all of them."""
    for name, value in (("top", top), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}: give at least 1")
    place = pick_device(device)
    (net, settings, classes), state = opened(run, which, place)
    if settings.kind == "memory":
        raise ConfigError(
            "the trials of a memory task are drawn, so that there is nothing to predict: see "
            "snndelay evaluate"
        )
    settings = with_reading(settings, reading)
    text = sys.stdin.buffer.read() if other.data == "-" else None
    samples, notes = samples_of(settings.kind).samples(settings, state, other, text)
    scorer = Scorer(net, settings)
    n_top, size = min(top, len(classes)), batch_size or settings.data.batch_size
    each = (
        prediction
        for batch in _batches(samples, size)
        for prediction in _predicted(batch, scorer, classes, n_top)
    )
    scored = "probability" if scorer.probability else "score"
    if scorer.probability is None:
        text = f"loss {to_flat(settings)['loss']} makes no probabilities"
        notes = [*notes, f"{text}: scores stand in their place"]
    return Predictions(each, notes, scored, len(classes), size)


class Scorer:
    """Frames of a batch -> the scores by which a run decides, in evaluation mode.

    net: of the run. settings: those of the run, which say how it was trained.
    """

    def __init__(self, net: Any, settings: Settings):
        self.net, self.settings = net, settings
        self.device = next(net.parameters()).device
        self.score, self.probability = scores_of(settings)
        graph = graphs_of_evaluation(net, settings)
        self._graphed = Graphed(self._batch, self.device, graph=graph)
        self.warm = False  # whether the kernels have been started

    @torch.no_grad()
    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x float32 (T, B, ...) -> (scores, probabilities or again scores), (B, N) on the host."""
        with float32_precision(self.settings.machine.precision), evaluating(self.net):
            score_BN, shown_BN = self._graphed(x)
        self.warm = True
        return score_BN.cpu(), shown_BN.cpu()

    def _batch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(self.device, self.settings.training.amp):
            v_TBN, _ = self.net.activity(x)
        v_TBN = v_TBN.float()
        score_BN = self.score(v_TBN)
        if self.probability is None:
            return score_BN, score_BN
        return score_BN, self.probability(v_TBN).softmax(-1)


def scores_of(settings: Settings) -> tuple[Score, Score | None]:
    """By what a run decides, and that of which the softmax are its probabilities, if it has any;
    see `losses.Loss`. Runs on recordings have one loss."""
    if settings.kind != "audio":
        return logit_sum_score, logit_sum_score
    loss = LOSSES[settings.recipe.loss]
    return loss.score, loss.probability


def _batches(samples: Iterator[Sample], size: int) -> Iterator[list[Sample]]:
    """Samples of which all that can be used have frames of one shape, at most `size` at once."""
    batch: list[Sample] = []
    shape = None
    for sample in samples:
        other = sample.x is not None and shape not in (None, sample.x.shape)
        if len(batch) == size or other:
            yield batch
            batch, shape = [], None
        batch.append(sample)
        shape = shape if sample.x is None else sample.x.shape
    if batch:
        yield batch


def _stacked(samples: list[Sample]) -> Tensor:
    """The frames of samples as a batch, (T, B, ...)."""
    x = torch.from_numpy(np.stack([np.asarray(sample.x) for sample in samples], axis=1))
    return channels_last(x) if x.ndim == 5 else x


def _predicted(
    batch: list[Sample], scorer: Scorer, classes: list[str], n_top: int
) -> Iterator[Prediction]:
    """The predictions of a batch, in its order."""
    good = [sample for sample in batch if sample.x is not None]
    rows = iter(())
    if good:
        if not scorer.warm:  # else the first batch would say how long kernels take to compile
            scorer(_stacked(good))
        started = time.perf_counter()
        score_BN, shown_BN = scorer(_stacked(good))
        order_BN = score_BN.sort(stable=True, dim=-1, descending=True).indices[:, :n_top]
        rows = zip(order_BN.tolist(), shown_BN.gather(-1, order_BN).tolist(), strict=True)
        seconds = time.perf_counter() - started + sum(sample.seconds for sample in good)
        latency_ms = 1000 * seconds / len(good)
    for sample in batch:
        label = sample.label if sample.label in classes else None
        if sample.x is None:
            yield Prediction(sample.name, label=label, error=sample.error)
            continue
        places, values = next(rows)
        names = tuple(classes[k] for k in places)
        share = sample.n_inside / max(1, sample.n_events)
        yield Prediction(sample.name, names, tuple(values), label, latency_ms, share)
