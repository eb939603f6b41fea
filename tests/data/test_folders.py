"""What is a class in a tree of class folders, links and loops among them."""

import os
from pathlib import Path

import numpy as np
import pytest

from snndelay.data.folders import below, class_files, numbered, split_files, walk
from snndelay.errors import DataError


@pytest.fixture
def tree(tmp_path):
    """folder/yes/{a.wav,b.WAV,deep/c.wav,notes.txt}, folder/no/a.wav"""
    folder = tmp_path / "tree"
    for name in ("yes/a.wav", "yes/b.WAV", "yes/deep/c.wav", "yes/notes.txt", "no/a.wav"):
        put(folder / name)
    return folder


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("sound")


def names(folder, deep=True):
    found = class_files(folder, (".wav",), deep=deep)
    return [(label, path.relative_to(folder).as_posix()) for label, path in found]


def test_classes_and_files_in_order_of_name(tree):
    all_of_them = [("no", "no/a.wav"), ("yes", "yes/a.wav"), ("yes", "yes/b.WAV")]
    assert names(tree, deep=False) == all_of_them, names(tree, deep=False)
    assert names(tree) == [*all_of_them, ("yes", "yes/deep/c.wav")], names(tree)


def test_what_is_no_class(tree):
    before = names(tree)
    for name in ("_background_noise_", ".ipynb_checkpoints", "__MACOSX", "yes/.old", "yes/_old"):
        put(tree / name / "x.wav")
    for name in ("top.wav", "yes/._a.wav"):
        put(tree / name)
    (tree / "empty").mkdir()
    assert names(tree) == before, f"more than before: {set(names(tree)) - set(before)}"
    put(tree / "BACKGROUND_Google" / "_x.wav")
    assert names(tree)[0] == ("BACKGROUND_Google", "BACKGROUND_Google/_x.wav"), names(tree)


def test_links_are_followed(tree, tmp_path):
    put(tmp_path / "elsewhere" / "d.wav")
    os.symlink(tmp_path / "elsewhere", tree / "no" / "speaker2")
    os.symlink(tmp_path / "elsewhere", tree / "maybe")
    os.symlink(tmp_path / "elsewhere" / "d.wav", tree / "yes" / "z.wav")
    linked = {("no", "no/speaker2/d.wav"), ("maybe", "maybe/d.wav"), ("yes", "yes/z.wav")}
    assert linked <= set(names(tree)), f"missing: {linked - set(names(tree))}"


def test_loops_end(tree):
    before = names(tree)
    os.symlink(tree, tree / "loop")
    os.symlink(tree, tree / "yes" / "up")
    os.symlink(tree / "yes", tree / "yes" / "deep" / "round")
    assert names(tree) == before, f"a loop added {set(names(tree)) - set(before)}"


@pytest.mark.parametrize("target", ["gone.wav", "itself.wav"])
def test_links_to_nowhere_are_named(tree, target):
    os.symlink(tree / "yes" / target, tree / "yes" / "itself.wav")
    with pytest.raises(DataError, match=r"link .*yes/itself\.wav leads nowhere"):
        names(tree)


def test_links_to_nowhere_that_are_no_samples_do_not_matter(tree):
    before = names(tree)
    os.symlink(tree / "gone.md", tree / "yes" / "README.md")
    assert names(tree) == before


def test_a_pipe_is_no_file(tree):
    os.mkfifo(tree / "no" / "pipe")
    before = names(tree)
    os.mkfifo(tree / "yes" / "z.wav")
    with pytest.raises(DataError, match=r"yes/z\.wav is no file that can be read: take it away"):
        names(tree)
    assert ("yes", "yes/b.WAV") in before


def test_no_folder(tmp_path):
    with pytest.raises(DataError, match=r"there is no folder .*gone"):
        class_files(tmp_path / "gone", (".wav",))


def splits(folder, deep):
    """split -> [(class, file)]"""
    found = split_files(folder, class_files(folder, (".wav",), deep=deep, halves=True), deep=deep)
    return {
        split: [(label, path.relative_to(folder).as_posix()) for label, path in part]
        for split, part in found.items()
    }


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("halves", [("train", "test"), ("Training", "VAL"), ("dev", "testing")])
def test_halves_are_splits(tmp_path, halves, deep):
    for half in halves:
        for name in ("yes/a.wav", "no/b.wav"):
            put(tmp_path / half / name)
    put(tmp_path / halves[0] / "_old" / "c.wav")
    names = {"Training": "train", "VAL": "valid", "dev": "valid", "testing": "test"}
    wanted = {
        names.get(half, half): [("no", f"{half}/no/b.wav"), ("yes", f"{half}/yes/a.wav")]
        for half in halves
    }
    assert splits(tmp_path, deep) == wanted and [*splits(tmp_path, deep)] == [*wanted]


def test_a_half_alone_and_words_that_are_called_so_are_no_splits(tmp_path):
    put(tmp_path / "alone" / "test" / "yes" / "a.wav")
    assert splits(tmp_path / "alone", False) == {"train": [("yes", "test/yes/a.wav")]}
    for name in ("train/a.wav", "test/a.wav", "bus/a.wav"):
        put(tmp_path / "words" / name)
    wanted = [(name, f"{name}/a.wav") for name in ("bus", "test", "train")]
    assert splits(tmp_path / "words", True) == {"train": wanted}
    for name in ("train/ann/a.wav", "bus/bob/a.wav"):
        put(tmp_path / "speakers" / name)
    wanted = [("bus", "bus/bob/a.wav"), ("train", "train/ann/a.wav")]
    assert splits(tmp_path / "speakers", True) == {"train": wanted}


@pytest.mark.parametrize(
    ("more", "words"),
    [("cat/a.wav", "has a class folder cat beside train and test: move it"),
     ("Training/yes/a.wav", "has Training and train: keep one folder of each half")],
)  # fmt: skip
def test_folders_that_say_two_things_are_refused(tmp_path, more, words):
    for name in ("train/yes/a.wav", "test/yes/a.wav", more):
        put(tmp_path / name)
    for deep in (True, False):
        with pytest.raises(DataError, match=words):
            splits(tmp_path, deep)


def test_classes_of_halves_may_link_to_the_same_files(tmp_path):
    put(tmp_path / "all" / "a.wav")
    put(tmp_path / "set" / "test" / "yes" / "a.wav")
    (tmp_path / "set" / "train").mkdir()
    for name in ("no", "off"):
        os.symlink(tmp_path / "all", tmp_path / "set" / "train" / name)
    os.symlink(tmp_path / "set", tmp_path / "all" / "loop")
    wanted = [("no", "train/no/a.wav"), ("off", "train/off/a.wav")]
    assert splits(tmp_path / "set", True)["train"] == wanted, splits(tmp_path / "set", True)


def test_a_walk_passes_nothing_over_where_failures_are_told(tree, tmp_path):
    put(tree / ".git" / "x")
    put(tree / "_old" / "y")
    failed = []
    every = walk(tree, failed=lambda place, error: failed.append(place))
    found = [os.path.relpath(entry.path, tree) for entry in every]
    assert found[:2] == [".git/x", "_old/y"] and len(found) == 7 and not failed
    assert len([*walk(tree)]) == 5 and [*walk(tree, deep=False)] == []
    assert [*walk(tmp_path / "gone", failed=lambda place, error: failed.append(place))] == []
    assert failed == [str(tmp_path / "gone")]
    with pytest.raises(DataError, match=r"the folder .*gone cannot be read \(No such file"):
        [*walk(tmp_path / "gone")]


def test_a_file_is_named_from_its_folder_on_or_as_a_whole(tmp_path):
    assert below(Path("a"), Path("a/b/c.wav")) == "b/c.wav"
    assert below(Path("a"), tmp_path / "c.wav") == (tmp_path / "c.wav").as_posix()


def test_classes_are_numbered_in_order_of_name():
    classes, number = numbered(["yes", "no", "Äh", "yes"])
    assert classes == ["no", "yes", "Äh"] and number.tolist() == [1, 0, 2, 1]
    assert number.dtype == np.int64 and numbered([])[1].dtype == np.int64
