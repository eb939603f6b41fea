"""Split of clips into training, validation and test, by speaker where speakers are known.

Legend: n clips.
"""

from functools import partial

import numpy as np

from ...errors import DataError, alternatives
from ..catalog import open_clips, open_splits
from ..classes import of_training
from ..seeds import generator
from .sets import ClipSet
from .shd import AS_STORED, Reading
from .waves import WaveSet

AnyClips = ClipSet | WaveSet
PROTOCOLS = ("clean", "best-on-test", "validation")


def split_clips(
    dataset: str,
    *,
    root: str = "~/.cache/snndelay",
    download: bool = False,
    test_file: str | None = None,
    protocol: str = "clean",
    valid_fraction: float = 0.1,
    seed: int = 0,
    reading: Reading = AS_STORED,
) -> tuple[AnyClips, AnyClips | None, AnyClips | None]:
    """(train, valid or None, test or None) of `dataset`, which with `root`, `download`,
    `test_file` and `reading` means what it means to `open_clips`.

    protocol "clean": valid is the set's own validation file, else `valid_fraction` of the training
    clips: whole speakers where speakers are known, else the same part of every class; drawn with
    `seed`, never from test. "validation": the same, and test is not opened. "best-on-test": train
    is the whole file, valid None. test is None for a file without `test_file`. The classes are
    those of training, by name: other parts may have fewer, in any order. Errors: DataError, also if
    a part has one that training has not, or nothing is held out to validate on.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"there is no protocol {protocol!r}: use {' or '.join(PROTOCOLS)}")

    own = open_splits(dataset, root, download, reading)
    if test_file is not None:
        own["test"] = partial(open_clips, dataset, root, "test", download, test_file, reading)
    if "train" not in own:
        raise DataError(f"{dataset} has no train split but {alternatives([*own])}")
    train, valid, test = own["train"](), None, None
    if protocol != "validation" and "test" in own:
        test = own["test"]()
    if protocol != "best-on-test" and valid_fraction > 0:
        if "valid" in own:
            valid = own["valid"]()
        else:
            valid_n = valid_mask(train.labels, train.speakers, valid_fraction, seed)
            valid = train.subset(np.flatnonzero(valid_n))
            train = train.subset(np.flatnonzero(~valid_n))
    if protocol == "validation" and valid is None:
        raise DataError("protocol validation judges by clips held out: give --valid-fraction")
    if valid is not None:
        valid = of_training(valid, train.classes, "validation clips")
    if test is not None:
        test = of_training(test, train.classes, "test clips")
    return train, valid, test


def valid_mask(
    labels: np.ndarray, speakers: np.ndarray | None, fraction: float, seed: int
) -> np.ndarray:
    """Which clips are held out, bool (n,). `labels`, `speakers`: int64 (n,). With two speakers or
    more: whole speakers in random order until `fraction` of the clips is reached, one at least
    stays in training; else `fraction` of every class."""
    rng = generator("split_audio", seed)
    held_n = np.zeros(len(labels), bool)
    names = np.unique(speakers) if speakers is not None else np.empty(0, np.int64)
    if len(names) > 1:
        for name in rng.permutation(names)[:-1]:
            held_n |= speakers == name
            if held_n.sum() >= fraction * len(labels):
                break
        return held_n
    for label in np.unique(labels):
        clips = rng.permutation(np.flatnonzero(labels == label))
        held_n[clips[: max(1, round(fraction * len(clips))) if len(clips) > 1 else 0]] = True
    return held_n
