"""Samples of one set with the classes of another, by their names."""

from dataclasses import replace
from typing import TypeVar

import numpy as np

from ..errors import DataError
from .audio.sets import ClipSet
from .audio.waves import WaveSet
from .names import same_name
from .vision.sets import RecordingSet

Samples = TypeVar("Samples", ClipSet, WaveSet, RecordingSet)


def by_name(
    samples: Samples, classes: list[str], skip_unknown: bool
) -> tuple[Samples, int, list[str]]:
    """The samples with labels that count in `classes`, whatever the order of their own; how many
    are left out because their class is none of these; and what there is to say about it.

    Errors: DataError if there are such samples and they are not to be skipped, or if all are.
    """
    labels, unknown = _places(samples, classes)
    n_out, n = int((labels < 0).sum()), len(labels)
    if n and n_out == n:
        raise DataError(
            f"no sample of {samples.name} has a class of the run: it has {_some(unknown)}, "
            f"and the run {_some(classes)}"
        )
    if unknown and not skip_unknown:
        raise DataError(
            f"{n_out} of {n} samples of {samples.name} have classes that the run does not know "
            f"({_some(unknown)}): leave these out with --skip-unknown"
        )
    text = f"left out {n_out} of {n} samples, of classes unknown to the run: {_some(unknown)}"
    if samples.classes != classes:
        keep = np.flatnonzero(labels >= 0)
        kept = samples.subset(keep) if n_out else samples
        samples = replace(kept, labels=labels[keep], classes=classes)
    return samples, n_out, [text] * bool(n_out) + absent(samples.labels, classes, samples.name)


def of_training(samples: Samples, classes: list[str], part: str) -> Samples:
    """The samples of a `part` of a data set, its test clips say, with labels that count in
    `classes`, those of training. Errors: DataError if a sample is of none of them."""
    labels, unknown = _places(samples, classes)
    if unknown:
        raise DataError(
            f"{(labels < 0).sum()} of {len(labels)} {part} are of classes that no training sample "
            f"has ({_some(unknown)}): take them away, or train on such samples too"
        )
    if samples.classes == classes:
        return samples
    return replace(samples, labels=labels, classes=classes)


def absent(labels: np.ndarray, classes: list[str], what: str) -> list[str]:
    """One line if some of `classes` have no sample among `labels` (n,), integers; `what`: the
    samples."""
    found = {*labels.tolist()}
    lacking = [name for k, name in enumerate(classes) if k not in found]
    if not lacking:
        return []
    has = "has" if len(lacking) == 1 else "have"
    n = f"{len(lacking)} of the {len(classes)} classes {has} no sample"
    return [f"{n} in {what}: {_some(lacking)}"]


def _places(samples: Samples, classes: list[str]) -> tuple[np.ndarray, list[str]]:
    """(labels int64 (n,) in `classes`, -1 for a class that is none of them; these by name)."""
    if samples.classes == classes:
        return samples.labels, []
    for names in (classes, samples.classes):
        if why := same_name(names):
            raise DataError(f"{samples.name}: {why}")
    place = np.array([classes.index(c) if c in classes else -1 for c in samples.classes], np.int64)
    labels = place[samples.labels]
    return labels, sorted({samples.classes[k] for k in samples.labels[labels < 0].tolist()})


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + ", ..." * (len(names) > 5)
