"""Split of recordings into training, validation and test, and the static images that training may
see.

N-Caltech101 and N-MNIST re-record images, so the image of a test recording can lie among the
static images, and a test figure then says too much. `by-image` keeps it out; `file-order` is the
split of the literature and does not.

Legend: n recordings, g identities (the images that the recordings show), c classes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...errors import DataError
from ..seeds import generator
from .images import StaticImages
from .sets import RecordingSet

SPLITS = ("by-image", "file-order")


@dataclass(frozen=True)
class Split:
    """Indices, int64, into the recordings (`train`, `valid`, `test`) and into the static images
    that training may see (`static`). Unpacks into these four. `name`: for reports."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    static: np.ndarray
    name: str

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.train, self.valid, self.test, self.static))


def split_recordings(
    recordings: RecordingSet,
    images: StaticImages | None,
    how: str = "by-image",
    seed: int = 0,
    n_labelled: int | None = None,
    test_fraction: float | None = None,
    valid_fraction: float = 0.0,
) -> Split:
    """Training, validation, test and static pool of a set; the same for the same arguments.

    how "by-image" (default): drawn with `seed`, the same part of every class, and no image is on
    two sides, in neither domain: all recordings of an image stay together, and the static pool has
    no image of a test or validation recording. Test is `test_fraction` of the recordings; if that
    is None the official test part, or 0.1 of them. With `n_labelled`, so many recordings, as even
    over the classes as can be, are for training and validation, and test is all that shows other
    images, or `test_fraction` of it; fewer recordings are then a part of more (same seed).

    how "file-order": of every class the first round(0.9 count) recordings (1 - `test_fraction`)
    train, as published, the rest is test, and all images are in the static pool. The order is that
    of the names, numbers in them by value (8, 9, 10), where published code may take the disk's.
    THIS CAN LEAK: the pool then holds images that test recordings show; `name` says how many. Also
    "file-order" takes an official test part.

    `valid_fraction` of what is for training validates. `images` None: no static pool.
    Errors: DataError if a part would be empty, `n_labelled` does not fit, a class is tested that
    nothing trains, the domains have other classes, images lack identities, or a training class has
    no image in the pool.
    Source: identity, this project's own; published, He et al. 2024 (arXiv 2303.13077), section 4.
    """
    if how not in SPLITS:
        raise DataError(f"there is no split {how!r}: use {' or '.join(SPLITS)}")
    for name, part in (("test_fraction", test_fraction), ("valid_fraction", valid_fraction)):
        if part is not None and not 0 <= part < 1:
            raise DataError(f"{name} is {part}: give a number from 0 to below 1")
    if images is not None:
        _check_domains(recordings, images)
    fraction = 0.1 if test_fraction is None else test_fraction
    groups, every_n = _groups(recordings, how, seed), np.ones(len(recordings), bool)
    if how == "by-image" and n_labelled is not None and test_fraction is None:
        free_n = groups.evenly(every_n, n_labelled)
        test_n = ~groups.beside(free_n)
    else:
        test_n = recordings.in_test if test_fraction is None else None
        if test_n is None:
            test_n = groups.held_out(every_n, fraction, last=how == "file-order")
        free_n = ~groups.beside(test_n)
        if n_labelled is not None:
            free_n = groups.evenly(free_n, n_labelled)
    valid_n = groups.held_out(free_n, valid_fraction)
    train_n = free_n & ~valid_n
    _check_parts(train_n, valid_n, test_n, n_labelled, fraction, valid_fraction)
    _check_trained(recordings, train_n | valid_n, test_n)
    static, name = np.arange(0), how
    if images is not None:
        static, name = _static_pool(recordings, images, how, test_n, valid_n)
        _check_partners(images, static, recordings.labels[train_n])
    train, valid, test = (np.flatnonzero(part) for part in (train_n, valid_n, test_n))
    return Split(train, valid, test, static, name)


@dataclass(frozen=True)
class _Groups:
    """Recordings that stay together. `group_n`: the group of each; `class_g`; `order_g`: numbers
    in whose order groups are taken; `turn_c`: the order of classes where they share unevenly."""

    group_n: np.ndarray
    class_g: np.ndarray
    order_g: np.ndarray
    turn_c: np.ndarray

    def beside(self, mask_n: np.ndarray) -> np.ndarray:
        """Recordings whose group has one in `mask_n` bool (n,), bool (n,)."""
        return np.isin(self.group_n, self.group_n[mask_n])

    def evenly(self, free_n: np.ndarray, n: int) -> np.ndarray:
        """`n` of the recordings in `free_n` bool (n,), the classes in turns; bool (n,)."""
        free = np.flatnonzero(free_n)
        label = self.class_g[self.group_n[free]]
        classes = len(np.unique(label))
        if not classes <= n <= len(free):
            raise DataError(
                f"n_labelled is {n}: give at least one for each of the {classes} classes, "
                f"and at most the {len(free)} recordings that are not for testing"
            )
        turn = _rank(self.order_g[self.group_n[free]], label)
        mask_n = np.zeros_like(free_n)
        mask_n[free[np.lexsort((self.turn_c[label], turn))[:n]]] = True
        return mask_n

    def held_out(self, free_n: np.ndarray, fraction: float, last: bool = False) -> np.ndarray:
        """`fraction` of every class of the recordings in `free_n` bool (n,), whole groups: evenly
        from first to last, or the `last` ones, so that what is left is rounded, a half to even;
        never the first group of a class; bool (n,)."""
        g = np.unique(self.group_n[free_n])
        label = self.class_g[g]
        rank = _rank(self.order_g[g], label)
        if last:
            held = rank >= np.maximum(np.round(np.bincount(label)[label] * (1 - fraction)), 1)
        else:  # every 1/fraction-th; the offsets of the classes differ, so that the total is right
            offset = (1 - fraction) * (self.turn_c[label] + 0.5) / len(self.turn_c)
            held = np.floor((rank + 1) * fraction + offset) > np.floor(rank * fraction + offset)
        return free_n & np.isin(self.group_n, g[held])


def _groups(recordings: RecordingSet, how: str, seed: int) -> _Groups:
    labels, n_classes = recordings.labels, len(recordings.classes)
    if how == "file-order":
        n, order = np.arange(len(labels)), np.empty(len(labels), np.int64)
        order[sorted(n, key=lambda i: _by_numbers(recordings.names[i]))] = n
        return _Groups(n, labels, order, np.arange(n_classes))
    names = np.array(recordings.identities)
    _, first, group_n = np.unique(names, return_index=True, return_inverse=True)
    rng = generator("split_vision", seed)
    order_g, turn_c = rng.permutation(len(first)), rng.permutation(n_classes)
    return _Groups(group_n, labels[first], order_g, turn_c)


def _by_numbers(name: str) -> list[tuple[int, str]]:
    """Sorts names by the numbers in them: text and numbers in turns."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if i % 2 else (0, part) for i, part in enumerate(parts)]


def _rank(key: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Position of every element among those of its label in order of `key`; ties as they come."""
    order = np.lexsort((key, label))
    _, start, count = np.unique(label[order], return_index=True, return_counts=True)
    rank = np.empty(len(key), np.int64)
    rank[order] = np.arange(len(key)) - np.repeat(start, count)
    return rank


def _static_pool(
    recordings: RecordingSet,
    images: StaticImages,
    how: str,
    test_n: np.ndarray,
    valid_n: np.ndarray,
) -> tuple[np.ndarray, str]:
    """(indices of the images that training may see, the split's name)."""
    shown, names = np.array(images.identities), np.array(recordings.identities)
    if how == "file-order":
        n_leaks = int(np.isin(shown, names[test_n]).sum())
        return np.arange(len(shown)), f"file-order ({n_leaks} static images show test recordings)"
    pool = np.flatnonzero(~np.isin(shown, names[test_n | valid_n]))
    related = np.isin(names, shown).any()
    return pool, how if related else f"{how} (no recording shows one of the static images)"


def _check_domains(recordings: RecordingSet, images: StaticImages) -> None:
    if len(images.identities) != len(images) or not all(images.identities):
        raise DataError("a static image has no identity: say for each which image it is")
    if recordings.classes != images.classes:
        events, static = set(recordings.classes), set(images.classes)
        missing = [
            f"{', '.join(sorted(more)[:5])} only among the {where}"
            for more, where in ((events - static, "recordings"), (static - events, "images"))
            if more
        ]
        raise DataError(
            f"recordings and static images have other classes ({'; '.join(missing) or 'reordered'})"
            ": give both the same class folders"
        )


def _check_parts(
    train_n: np.ndarray,
    valid_n: np.ndarray,
    test_n: np.ndarray,
    n_labelled: int | None,
    test_fraction: float,
    valid_fraction: float,
) -> None:
    if not test_n.any() and n_labelled is not None:
        raise DataError(f"n_labelled {n_labelled} leaves no recordings for testing: lower it")
    if not test_n.any():
        raise DataError(f"test_fraction {test_fraction} leaves no recordings for testing: raise it")
    if valid_fraction and not valid_n.any():
        raise DataError(
            f"valid_fraction {valid_fraction} of {train_n.sum()} recordings is none: "
            "raise it, or give 0 to do without validation"
        )
    if not train_n.any():
        raise DataError("the split leaves no recordings for training: lower test_fraction")


def _check_trained(recordings: RecordingSet, free_n: np.ndarray, test_n: np.ndarray) -> None:
    labels = recordings.labels
    if lacking := sorted(set(labels[test_n].tolist()) - set(labels[free_n].tolist())):
        names, more = [recordings.classes[k] for k in lacking[:5]], ", ..." * (len(lacking) > 5)
        raise DataError(
            f"{np.isin(labels[test_n], lacking).sum()} of {test_n.sum()} test recordings are of "
            f"classes that no training recording has ({', '.join(names)}{more}): take them away, "
            "or train on such recordings too"
        )


def _check_partners(images: StaticImages, pool: np.ndarray, labels: np.ndarray) -> None:
    if lacking := sorted(set(labels.tolist()) - set(images.labels[pool].tolist())):
        raise DataError(
            f"class {images.classes[lacking[0]]!r} of the training recordings has no static image "
            "that neither test nor validation shows: add images of it, or leave the class out"
        )
