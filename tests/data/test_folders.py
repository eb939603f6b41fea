"""What is a class in a tree of class folders, links and loops among them."""

import os

import pytest

from snndelay.data.folders import class_files
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


def test_no_folder(tmp_path):
    with pytest.raises(DataError, match=r"there is no folder .*gone"):
        class_files(tmp_path / "gone", (".wav",))
