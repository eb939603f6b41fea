"""Splits of recordings and static images: no image on two sides, in neither domain."""

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snndelay.data.catalog import open_images, open_recordings
from snndelay.data.events import Events
from snndelay.data.vision.sets import RecordingSet
from snndelay.data.vision.split import SPLITS, split_recordings
from snndelay.errors import DataError

REAL = os.environ.get("SNNDELAY_DATA")
NOTHING = np.zeros(0, np.int64)


def made(labels, identities=None, in_test=None, n_classes=None) -> RecordingSet:
    """Empty recordings with these labels; unless told otherwise each shows an image of its own."""
    labels = np.asarray(labels, np.int64)
    names = [str(i) for i in range(len(labels))]
    classes = [f"class{k}" for k in range(n_classes or labels.max() + 1)]
    identities = identities or [f"image{i}" for i in range(len(labels))]
    in_test = None if in_test is None else np.asarray(in_test, bool)
    return RecordingSet(
        *("made", labels, classes, identities, (4, 4), names, lambda i: Events(NOTHING, NOTHING)),
        in_test,
    )


class Images(SimpleNamespace):
    """What a split needs of static images."""

    def __len__(self):
        return len(self.labels)


def images_of(recordings: RecordingSet, more: int = 3) -> Images:
    """The images that recordings show, each once, and `more` others of every class."""
    label_of = dict(zip(recordings.identities, recordings.labels.tolist(), strict=True))
    label_of |= {f"other{k}-{i}": k for k in range(len(recordings.classes)) for i in range(more)}
    labels = np.array(list(label_of.values()))
    return Images(labels=labels, classes=list(recordings.classes), identities=list(label_of))


def shown(recordings: RecordingSet, part: np.ndarray) -> set[str]:
    return {recordings.identities[i] for i in part}


@st.composite
def sets(draw):
    """Recordings of 1 to 4 classes, up to 3 of an image, perhaps with an official test part."""
    n_classes = draw(st.integers(1, 4))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_classes), rng.integers(6, 30, n_classes))
    repeats = draw(st.integers(1, 3))
    identities = [f"{k}/{rng.integers(0, 40 // repeats)}" for k in labels]
    if repeats == 1:
        identities = [f"{k}/{i}" for i, k in enumerate(labels)]
    mixed = rng.permutation(len(labels))
    in_test = rng.random(len(labels)) < 0.3 if draw(st.booleans()) else None
    if in_test is not None and not in_test.any():
        in_test[0] = True
    return made(labels[mixed], [identities[i] for i in mixed], in_test, n_classes)


@settings(max_examples=150, deadline=None)
@given(
    recordings=sets(),
    seed=st.integers(0, 2**63),
    n=st.one_of(st.none(), st.integers(0, 80)),
    test_fraction=st.sampled_from([None, 0.1, 0.3, 0.5]),
    valid_fraction=st.sampled_from([0.0, 0.1, 0.4]),
)
def test_no_image_is_on_two_sides(recordings, seed, n, test_fraction, valid_fraction):
    images = images_of(recordings)
    arguments = (recordings, images, "by-image", seed, n, test_fraction, valid_fraction)
    try:
        split = split_recordings(*arguments)
    except DataError:
        return
    train, valid, test, pool = split
    for one, other in ((train, valid), (train, test), (valid, test)):
        assert not shown(recordings, one) & shown(recordings, other), "an image is on two sides"
    held = shown(recordings, test) | shown(recordings, valid)
    static = {images.identities[i] for i in pool}
    assert not held & static, f"{held & static} are in the static pool"
    assert len(pool) == len(images) - len(held), "an image is missing from the static pool"
    for part in (train, valid, test, pool):
        assert part.dtype == np.int64 and len(np.unique(part)) == len(part)
        assert np.array_equal(part, np.sort(part))
    if n is not None:
        assert len(train) + len(valid) == n
    elif recordings.in_test is not None and test_fraction is None:
        assert np.array_equal(test, np.flatnonzero(recordings.in_test))
    else:
        assert len(train) + len(valid) + len(test) == len(recordings), "recordings are lost"
    for mine, same in zip(split, split_recordings(*arguments), strict=True):
        assert np.array_equal(mine, same), "the split is not reproducible"


@settings(max_examples=60, deadline=None)
@given(
    recordings=sets(),
    seed=st.integers(0, 2**32),
    n=st.integers(4, 40),
    more=st.integers(0, 40),
    valid_fraction=st.sampled_from([0.0, 0.2]),
    how=st.sampled_from(SPLITS),
)
def test_fewer_labelled_recordings_are_a_part_of_more(
    recordings, seed, n, more, valid_fraction, how
):
    try:
        small, large = (
            split_recordings(recordings, None, how, seed, k, 0.2, valid_fraction)
            for k in (n, n + more)
        )
    except DataError:
        return
    assert set(small.train) <= set(large.train)
    assert set(small.valid) <= set(large.valid)


def test_some_of_the_generated_sets_can_be_split():
    """Else the two tests above would prove nothing."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 80)
    recordings = made(labels, [f"{k}/{rng.integers(0, 13)}" for k in labels])
    parts = split_recordings(recordings, images_of(recordings), valid_fraction=0.2)
    assert all(len(part) for part in parts)
    assert len(split_recordings(recordings, None, n_labelled=30).test) > 0


@pytest.mark.parametrize("how", SPLITS)
def test_every_class_gives_its_share(how):
    labels = np.repeat(np.arange(10), [100, 50, 200, 30, 100, 100, 100, 60, 40, 20])
    recordings = made(labels)
    split = split_recordings(recordings, images_of(recordings), how, valid_fraction=0.2)
    count = np.bincount(labels)
    for part, share in ((split.train, 0.72), (split.valid, 0.18), (split.test, 0.1)):
        got = np.bincount(labels[part], minlength=10)
        assert np.abs(got - share * count).max() <= 1.2, f"{got} of {count} for {share}"
        assert abs(len(part) - share * 800) <= 5, f"{len(part)} of 800 for {share}"


@pytest.mark.parametrize(("n", "want"), [(10, [1] * 10), (23, [2, 3]), (50, [5] * 10), (101, None)])
def test_labelled_recordings_are_even_over_the_classes(n, want):
    labels = np.repeat(np.arange(10), [4, *[40] * 9])
    split = split_recordings(made(labels), None, n_labelled=n)
    count = np.bincount(labels[split.train], minlength=10)
    assert count.sum() == n
    if n <= 40:
        assert sorted(set(count)) == sorted(set(want))
    else:
        assert count[0] == 4 and np.ptp(count[1:]) <= 1, f"{count}: the others make up for it"
    assert len(split.test) == len(labels) - n


def test_validation_of_few_labels_keeps_every_class_in_training():
    labels = np.repeat(np.arange(10), 40)
    split = split_recordings(made(labels), None, n_labelled=50, valid_fraction=0.1)
    assert (len(split.train), len(split.valid)) == (46, 4)
    assert np.bincount(labels[split.train]).min() == 4
    assert np.bincount(labels[split.valid]).max() == 1, "all validation from one class"


def test_seed_changes_the_split_and_images_do_not():
    recordings = made(np.repeat(np.arange(3), 30))
    images = images_of(recordings)
    for options in ({}, {"n_labelled": 20}):
        one = split_recordings(recordings, images, seed=0, **options)
        other = split_recordings(recordings, images, seed=1, **options)
        alone = split_recordings(recordings, None, seed=0, **options)
        assert not np.array_equal(one.test, other.test)
        assert np.array_equal(one.train, alone.train) and len(alone.static) == 0
    assert one.name == "by-image"
    lone = made([0] * 30)
    tests = [split_recordings(lone, None, seed=seed).test.tolist() for seed in range(5)]
    assert len({tuple(test) for test in tests}) > 1, "images of a class are not drawn"


def test_labelled_recordings_are_exact_though_images_repeat():
    labels = np.repeat([0, 1], 30)
    recordings = made(labels, [f"{k}/{i // 3}" for i, k in enumerate(labels)])
    for n in range(8, 30):
        train, valid, test, _ = split_recordings(recordings, None, n_labelled=n, valid_fraction=0.4)
        assert len(train) + len(valid) == n, f"{len(train)} and {len(valid)} of {n}"
        assert n + len(test) >= 60 - 2 * 2, "only the last image of a class may be cut"


def test_recordings_beside_official_test_images_do_not_train():
    identities = ["a", "b", "c", "d", "a", "e"]
    recordings = made([0, 0, 0, 0, 0, 0], identities, [0, 0, 0, 0, 1, 1])
    split = split_recordings(recordings, images_of(recordings))
    assert (split.train.tolist(), split.test.tolist()) == ([1, 2, 3], [4, 5])
    labelled = split_recordings(recordings, None, n_labelled=2)
    assert len(labelled.train) == 2 and len(labelled.test) >= 3, "all that is not labelled tests"


def test_file_order_takes_the_last_and_says_that_it_leaks():
    labels = [0] * 20 + [1] * 14
    recordings = made(labels)
    images = images_of(recordings)
    split = split_recordings(recordings, images, "file-order")
    assert split.test.tolist() == [18, 19, 33], "the last 10 % of each class"
    assert split.train.tolist() == [i for i in range(34) if i not in (18, 19, 33)]
    assert len(split.static) == len(images), "all images"
    assert split.name == "file-order (3 static images show test recordings)"
    assert split_recordings(recordings, images, "file-order", seed=9).test.tolist() == [18, 19, 33]
    few = split_recordings(recordings, images, "file-order", n_labelled=6)
    assert few.train.tolist() == [0, 1, 2, 20, 21, 22] and few.test.tolist() == [18, 19, 33]


def test_file_order_part_is_not_one_too_few():
    split = split_recordings(made([0] * 100), None, "file-order", test_fraction=0.29)
    assert len(split.test) == 29, "100 * 0.29 is 28.999..."


@pytest.mark.parametrize(
    ("count", "trained"), [(1, 1), (4, 4), (5, 4), (6, 5), (15, 14), (34, 31), (46, 41), (800, 720)]
)
def test_file_order_trains_on_as_many_as_published(count, trained):
    """round(0.9 count), a half to even; of a single recording that one."""
    recordings = made([0] * count + [1] * 20)
    split = split_recordings(recordings, None, "file-order")
    assert split.train.tolist() == [*range(trained), *range(count, count + 18)]


def test_file_order_goes_by_the_numbers_in_names():
    names = [f"cat/cifar10_cat_{i}.aedat4" for i in (0, 1, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)]
    names += [f"cat/cifar10_cat_{i}.aedat4" for i in range(2, 10)]  # as names are sorted
    recordings = replace(made([0] * 20), names=names)
    split = split_recordings(recordings, None, "file-order")
    assert [names[i] for i in split.test] == [
        "cat/cifar10_cat_18.aedat4",
        "cat/cifar10_cat_19.aedat4",
    ]


def test_file_order_takes_the_official_test_part():
    recordings = made([0] * 5, in_test=[1, 0, 0, 0, 1])
    split = split_recordings(recordings, None, "file-order")
    assert (split.train.tolist(), split.test.tolist()) == ([1, 2, 3], [0, 4])


def test_a_class_that_nothing_trains_is_not_tested():
    recordings = made([0, 0, 1, 1, 2], in_test=[0, 1, 0, 0, 1])
    with pytest.raises(DataError, match=r"1 of 2 test recordings are of classes .* \(class2\)"):
        split_recordings(recordings, None)
    fewer = made([0, 0, 1, 2], in_test=[0, 1, 0, 0])
    assert split_recordings(fewer, None).test.tolist() == [1]


def test_domains_without_a_common_image_are_named():
    recordings = made([0] * 20)
    images = Images(labels=np.zeros(3, int), classes=["class0"], identities=["x", "y", "z"])
    split = split_recordings(recordings, images)
    assert split.static.tolist() == [0, 1, 2]
    assert split.name == "by-image (no recording shows one of the static images)"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"how": "random"}, "no split 'random': use by-image or file-order"),
        ({"test_fraction": 1.0}, "test_fraction is 1.0"),
        ({"valid_fraction": -0.1}, "valid_fraction is -0.1"),
        ({"test_fraction": 0.0}, "leaves no recordings for testing: raise it"),
        ({"n_labelled": 2}, "n_labelled is 2: give at least one for each of the 3 classes"),
        ({"n_labelled": 91}, "at most the 90 recordings"),
        ({"n_labelled": 90}, "n_labelled 90 leaves no recordings for testing: lower it"),
        ({"n_labelled": 3, "valid_fraction": 0.1}, "valid_fraction 0.1 of 3 recordings is none"),
    ],
)
def test_parts_that_cannot_be_made(options, reason):
    with pytest.raises(DataError, match=reason):
        split_recordings(made(np.repeat(np.arange(3), 30)), None, **options)


def test_nothing_to_train_on():
    with pytest.raises(DataError, match="no recordings for training"):
        split_recordings(made([0, 0], in_test=[1, 1]), None)


def test_training_class_without_static_image_is_named():
    recordings = made(np.repeat(np.arange(3), 20))
    images = images_of(recordings, more=0)
    in_class_1 = images.labels == 1
    images.identities = [images.identities[i] for i in np.flatnonzero(~in_class_1)]
    images.labels = images.labels[~in_class_1]
    for how in SPLITS:
        with pytest.raises(DataError, match="class 'class1' of the training recordings has no"):
            split_recordings(recordings, images, how)


def test_other_classes_of_the_static_domain_are_named():
    recordings = made(np.repeat(np.arange(3), 20))
    images = images_of(recordings)
    images.classes = ["class0", "class1", "zebra"]
    with pytest.raises(DataError, match=r"class2 only among the recordings; zebra only among the"):
        split_recordings(recordings, images)
    images.classes = ["class1", "class0", "class2"]
    with pytest.raises(DataError, match="reordered"):
        split_recordings(recordings, images)


def test_static_images_need_identities():
    recordings = made(np.repeat(np.arange(3), 20))
    for change in (lambda names: names[:-1], lambda names: ["", *names[1:]]):
        images = images_of(recordings)
        images.identities = change(images.identities)
        with pytest.raises(DataError, match="a static image has no identity"):
            split_recordings(recordings, images)


@pytest.mark.skipif(not REAL, reason="set SNNDELAY_DATA to a folder with nmnist and caltech10")
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("n", [50, 100, 200, 500, None])
def test_real_sets_are_disjoint(n, seed):
    root = Path(REAL or "")
    digits = open_recordings("nmnist", str(root)), open_images(root / "nmnist" / "mnist_static.npz")
    tree = root / "caltech10"
    objects = open_recordings(str(tree / "events"), size=(90, 120)), open_images(tree / "images")
    for recordings, images in (digits, objects):
        k = min(n, len(recordings) - 50) if n else None
        split = split_recordings(recordings, images, "by-image", seed, k)
        static = {images.identities[i] for i in split.static}
        assert not shown(recordings, split.test) & static
        assert shown(recordings, split.train) <= static, "training images are in the pool"
        assert not shown(recordings, split.test) & shown(recordings, split.train)
        assert split.name == "by-image", "the domains share no image"


def test_few_labels_beside_a_test_part_of_its_own():
    recordings = made([0, 1] * 50)
    images = images_of(recordings)
    few, more = (
        split_recordings(recordings, images, n_labelled=n, test_fraction=0.3, seed=3)
        for n in (10, 40)
    )
    assert np.array_equal(few.test, more.test) and len(few.test) == 30
    assert (len(few.train), len(more.train)) == (10, 40) and set(few.train) <= set(more.train)
    assert len(few.static) == len(images) - 30, "the pool has unlabelled images too"
