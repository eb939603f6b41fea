"""Classes and files of any name: every verb, every picture, on a terminal that knows ASCII only."""

import csv
import json
import os
import shutil
import subprocess
import sys
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest

from snndelay.data.audio.shd import ShdFile, write_shd
from snndelay.data.names import as_name
from snndelay.runs.files import read_json
from snndelay.runs.plots import audio, style

from ...helpers_training import ROOT, TINY_OPTIONS
from ...helpers_vision import CLASSES, TINY_VISION, write_tiny_vision

NAMES = ("$x^{2$ \\$", "two\nlines \x1b[31m", "日本 😀")
NO_TEXT = as_name(b"\xff\xfe")  # a name that is no UTF-8
ALL = [*NAMES, NO_TEXT, "$", "$a$", "\\", "{x}", "%s", "_under", "", "w" * 300, "\0", "\ud800"]


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Folders of recordings and of images of classes and files of these names."""
    folder = tmp_path_factory.mktemp("names")
    trees = [folder / name for name in write_tiny_vision(folder, 6)]
    names = [*NAMES]
    try:
        (folder / NO_TEXT).mkdir()
        names[0] += NO_TEXT
    except OSError:  # a file system that wants text
        pass
    for tree in trees:
        for old, new in zip(CLASSES, names, strict=True):
            (tree / old).rename(tree / new)
            for file in sorted((tree / new).iterdir()):
                file.rename(file.with_name(f"{new} {file.name}"))
    return [str(tree) for tree in trees], names


def verb(*argv, where):
    """(stdout, stderr) of a verb on a terminal of ASCII; a warning of matplotlib is an error."""
    words = {"PYTHONIOENCODING": "ascii", "PYTHONWARNINGS": "error::UserWarning"}
    env = {**os.environ, **words, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "snndelay", *map(str, argv)]
    done = subprocess.run(command, cwd=where, env=env, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    out, err = done.stdout.decode("ascii"), done.stderr.decode("ascii")
    assert "\x1b" not in out + err and "Traceback" not in err
    return out, err


def test_recordings_of_any_name_are_trained_on_and_told(trees, tmp_path):
    (recordings, images), names = trees
    where = dict(where=tmp_path)
    options = [*TINY_VISION, "--static", images, "--root", ".", "--runs", "runs", "--run", "a"]
    _, err = verb("train", recordings, *options, "--transfer", "align", **where)
    assert "not drawn" not in err
    run = tmp_path / "runs/a"
    assert read_json(run / "summary.json")["n_classes"] == 3
    pictures = {"learning_curves", "confusion", "recording", "pair", "alignment"}
    assert {path.stem for path in run.glob("*.png")} == pictures
    out, _ = verb("evaluate", "runs/a", **where)
    rows = {line.split("  ")[1] for line in out.splitlines() if line.startswith("  ")}
    assert {r"\u65e5\u672c \U0001f600", r"two\nlines \x1b[31m"} <= rows
    verb("predict", "runs/a", recordings, "--out", "p.csv", **where)
    verb("predict", "runs/a", recordings, "--out", "p.jsonl", **where)
    with open(tmp_path / "p.csv", encoding="utf-8", newline="") as file:
        labels = [row["label"] for row in csv.DictReader(file)]
    lines = (tmp_path / "p.jsonl").read_text().splitlines()
    assert {json.loads(line)["label"] for line in lines} == {*names}
    assert len(labels) == len(lines) and NAMES[2] in labels
    out, _ = verb("data", recordings, "--json", "--plot", "look.png", **where)
    assert sorted(json.loads(out)["classes"]) == sorted(names)
    out, _ = verb("data", recordings, **where)
    assert r"two\nlines \x1b[31m" in out
    verb("convert", recordings, "out.h5", **where)
    verb("encode", "images", images, "encoded", "--size", 16, 16, "--processes", 1, **where)
    shutil.rmtree(tmp_path)


def test_clips_of_any_name_are_trained_on_and_told(files, tmp_path):
    def renamed(source, path):
        file = ShdFile(source)
        clips = [file.events(i) for i in range(len(file))]
        write_shd(path, clips, file.labels, [*NAMES[:2], NAMES[2] + NO_TEXT])

    for source, name in zip(files, ("train.h5", "test.h5"), strict=True):
        renamed(source, tmp_path / name)
    where = dict(where=tmp_path)
    options = [*TINY_OPTIONS, "--test-file", "test.h5", "--runs", "runs", "--run", "a"]
    _, err = verb("train", "train.h5", *options, **where)
    assert "not drawn" not in err
    assert {p.stem for p in (tmp_path / "runs/a").glob("*.png")} >= {"confusion", "raster"}
    verb("predict", "runs/a", "test.h5", **where)
    out, _ = verb("evaluate", "runs/a", **where)
    assert r"\u65e5\u672c \U0001f600\udcff\udcfe" in out


@pytest.mark.parametrize("name", ALL)
def test_every_name_can_be_drawn(tmp_path, name):
    labels = np.array([0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        style.confusion(labels, labels, [name, "b"], style.drawable(name), tmp_path / "a.png")
        figure, ax = plt.subplots(layout="constrained")
        ax.plot([0, 1], label=f"a {style.drawable(name)} b {style.drawable(name)}")
        style.label_axes(ax, style.drawable(name), style.drawable(name), legend=True)
        style.save(figure, tmp_path / "b.png")
        x = np.ones((3, 2))
        where = dict(label=0, prediction=1, dt_ms=1.0, path=tmp_path / "c.png")
        audio.raster(x, [x], x, classes=[name, "b"], **where)
    assert len(style.drawable(name)) <= 24 + name.count("$")


def test_dollars_are_drawn_as_they_are():
    for name in ("$x$", "a$b", "$$$", "\\$"):
        text = plt.figure().text(0, 0, style.drawable(name))
        drawn, mathematics = text._preprocess_math(text.get_text())
        assert (drawn, mathematics) == (name, False)
        plt.close()
