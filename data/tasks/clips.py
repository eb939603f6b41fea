"""What the generated data sets of clips share: counts that carry nothing, and their random streams.

Legend: N clips, M spikes of each.
"""

import numpy as np

from ...errors import DataError
from ..audio.sets import ClipSet
from ..events import Clips
from ..seeds import file_seed, generator

STEP_US = 1000  # one step of a task: use --dt-ms 1
PARTS = ("train", "test")
SEED = 1  # of the clips that are reported; those of 0 and 7 chose sizes and settings of presets


def part_of(name: str, split: str) -> int:
    """0 for "train" and 1 for "test". Errors: DataError for another split of the task `name`."""
    if split not in PARTS:
        raise DataError(f"{name} has no {split} split: use a part of its training clips")
    return PARTS.index(split)


def draws(name: str, split: str, seed: int) -> np.random.Generator:
    """The random numbers of one split of a task. Errors: as `part_of`."""
    return generator("task", seed, file_seed(name), part_of(name, split), 0)


def clip_set(
    name: str, split: str, step_NM: np.ndarray, unit_M: np.ndarray, labels: np.ndarray,
    classes: list[str],
) -> ClipSet:  # fmt: skip
    """Clips of which all have the spikes of the same units, so that they differ in times only.

    `step_NM`: when each spike falls, integer steps >= 0 (N, M). `unit_M`: whose it is, integers
    (M,). `labels` int64 (N,), index into `classes`."""
    n, m = step_NM.shape
    t_us = (step_NM * STEP_US).astype(np.int64).ravel()
    unit = np.tile(unit_M.astype(np.uint16), n)
    clips = Clips(t_us, unit, np.arange(n + 1) * m)
    return ClipSet(f"{name} {split}", clips, labels, classes, None, int(unit_M.max()) + 1)
