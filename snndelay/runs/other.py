"""Samples that a run was not given when it was trained: what is asked for, and each as it comes."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.catalog import DATASETS
from ..data.classes import by_name


@dataclass
class Other:
    """Which samples to evaluate on: `data`, a name, a file or a folder, None: the run's own test
    samples; `skip_unknown`: leave out those of classes that the run does not know, `n_unknown`
    of them; `sensor`: height and width of that of the recordings, None: that of the run."""

    data: str | None = None
    skip_unknown: bool = False
    sensor: tuple[int, int] | None = None
    n_unknown: int = 0

    def matched(self, samples: Any, classes: list[str]) -> tuple[Any, list[str]]:
        """The samples, clips or recordings, with the run's classes, and what to say about them.
        DataError as `by_name`."""
        samples, self.n_unknown, said = by_name(samples, classes, self.skip_unknown)
        return samples, said


def same_place(one: str, other: str) -> bool:
    """Whether both are the same file or folder, by whatever way; names of data sets are none."""
    if {one, other} & DATASETS.keys():
        return False
    places = [Path(place).expanduser() for place in (one, other)]
    return all(place.exists() for place in places) and os.path.samefile(*places)


class Sample(NamedTuple):
    """One sample on its way to the network. `label`: its class by name, None if it is not known;
    `x`: its frames, float32 (T, ...), None: it cannot be used, `error` says why; `n_inside` of its
    `n_events` events lie in them; `seconds` it took to read and frame it."""

    name: str
    label: str | None = None
    x: np.ndarray | None = None
    n_inside: int = 0
    n_events: int = 0
    seconds: float = 0.0
    error: str | None = None
