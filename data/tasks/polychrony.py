"""Polychrony: a class is the order in which the units fire, and nothing else.

Every class is a permutation of UNITS units, which fire one after the other, GAP steps apart. A clip
of STEPS steps is one class at a random onset; every spike is then moved by a jitter of JITTER steps
(standard deviation), and with probability STRAY it falls anywhere in the clip instead. So

- every unit fires once in every clip, and the population fires alike in all classes: neither counts
  nor the time course of their sum say anything, and the onset hides when a single unit fires;
- a membrane that forgets within GAP steps hears one spike at a time: without delays the score is
  that of chance, 1 in CLASSES;
- a neuron whose delays turn one order into a coincidence hears many spikes at once. Random delays
  bring few of them together, and jitter and strays spoil small coincidences.

800 clips for training and 800 others for testing, as many of every class; the seed of the data
makes the classes.
Source: Izhikevich 2006 (doi 10.1162/089976606775093882), groups of neurons that fire in such
patterns; the task is this project's own.
"""

import numpy as np

from ..audio.sets import ClipSet
from ..seeds import file_seed, generator
from .clips import SEED, clip_set, part_of

NAME = "polychrony"
CLASSES, UNITS, GAP, STEPS = 10, 8, 5, 60
JITTER, STRAY = 0.3, 0.1
CLIPS = 800  # of each split


def open_polychrony(root: str, split: str, download: bool, seed: int = SEED) -> ClipSet:
    """Orders of firing; splits train and test, nothing to download. `seed`: of classes and
    clips."""
    part = part_of(NAME, split)
    rng = generator("task", seed, file_seed(NAME), 0, 0)
    n, each = 4 * CLIPS, CLIPS // CLASSES
    label_N = np.arange(n) % CLASSES
    onset_N1 = rng.integers(0, STEPS - UNITS * GAP + 1, (n, 1))
    jitter_NM = np.rint(rng.normal(0, JITTER, (n, UNITS))).astype(np.int64)
    step_NM = onset_N1 + templates(seed)[label_N] + jitter_NM
    stray_NM = rng.random((n, UNITS)) < STRAY
    step_NM = np.where(stray_NM, rng.integers(0, STEPS, (n, UNITS)), step_NM).clip(0, STEPS - 1)
    once = np.sort(np.unique(step_NM, axis=0, return_index=True)[1])  # so the splits share no clip
    mine = [once[label_N[once] == k][part * each : (part + 1) * each] for k in range(CLASSES)]
    index = rng.permutation(np.concatenate(mine))
    classes = [f"order {k}" for k in range(CLASSES)]
    return clip_set(NAME, split, step_NM[index], np.arange(UNITS), label_N[index], classes)


def templates(seed: int = SEED) -> np.ndarray:
    """When each unit fires in each class, in steps from the onset: int64 (CLASSES, UNITS)."""
    rng = generator("task", seed, file_seed(NAME), 1, 0)
    return np.stack([rng.permutation(UNITS) for _ in range(CLASSES)]) * GAP
