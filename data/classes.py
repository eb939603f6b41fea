"""Samples of one set with the classes of another, by their names."""

from dataclasses import replace
from typing import TypeVar

import numpy as np

from ..errors import DataError
from .audio.sets import ClipSet
from .audio.waves import WaveSet
from .vision.sets import RecordingSet

Samples = TypeVar("Samples", ClipSet, WaveSet, RecordingSet)


def by_name(
    samples: Samples, classes: list[str], skip_unknown: bool
) -> tuple[Samples, int, list[str]]:
    """The samples with labels that count in `classes`, whatever the order of their own; how many
    are left out because their class is none of these; and what there is to say about it.

    Errors: DataError if there are such samples and they are not to be skipped, or if all are.
    """
    if samples.classes == classes:
        return samples, 0, []
    place = np.array([classes.index(c) if c in classes else -1 for c in samples.classes], np.int64)
    labels = place[samples.labels]
    unknown = sorted({samples.classes[k] for k in samples.labels[labels < 0].tolist()})
    n_out, n = int((labels < 0).sum()), len(labels)
    names = ", ".join(unknown[:5]) + ", ..." * (len(unknown) > 5)
    if n_out == n:
        raise DataError(
            f"no sample of {samples.name} has a class of the run: it has {names}, "
            f"and the run {', '.join(classes[:5])}{', ...' * (len(classes) > 5)}"
        )
    if unknown and not skip_unknown:
        raise DataError(
            f"{n_out} of {n} samples of {samples.name} have classes that the run does not know "
            f"({names}): leave these out with --skip-unknown"
        )
    said = [f"left out {n_out} of {n} samples, of classes unknown to the run: {names}"]
    keep = np.flatnonzero(labels >= 0)
    kept = samples.subset(keep) if n_out else samples
    return replace(kept, labels=labels[keep], classes=classes), n_out, said if n_out else []
