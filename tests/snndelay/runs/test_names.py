"""Classes and files of any name: every verb, every picture, on a terminal that knows ASCII only."""

import contextlib
import csv
import io
import json
import sys
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import soundfile

from snndelay.data.audio.shd import ShdFile, write_shd
from snndelay.data.names import as_name, printable
from snndelay.errors import RunError
from snndelay.runs.cli import main
from snndelay.runs.files import new_run_folder, read_json
from snndelay.runs.plots import audio, style

from ...helpers_training import TINY_OPTIONS
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
    recordings, images = trees
    return (str(recordings.rename(folder / names[0])), str(images)), names


def verb(*argv, where):
    """(stdout, stderr) of a verb in a folder, on a terminal that knows ASCII only."""
    streams = [io.TextIOWrapper(io.BytesIO(), "ascii") for _ in range(2)]
    with contextlib.chdir(where), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        code = main([*map(str, argv)])
        for stream in streams:
            stream.flush()
    out, err = (stream.buffer.getvalue().decode("ascii") for stream in streams)
    assert code == 0 and "\x1b" not in out + err, (out + err)[-2000:]
    return out, err


def test_recordings_of_any_name_are_trained_on_and_told(trees, tmp_path):
    (recordings, images), names = trees
    where = dict(where=tmp_path)
    options = [*TINY_VISION, "--static", images, "--root", ".", "--runs", "runs"]
    _, err = verb("train", recordings, *options, "--transfer", "align", **where)
    assert "not drawn" not in err
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name == f"{printable(names[0])}-vision-small-0"
    assert read_json(run / "summary.json")["n_classes"] == 3
    pictures = {"learning_curves", "confusion", "recording", "pair", "alignment"}
    assert {path.stem for path in run.glob("*.png")} == pictures
    out, _ = verb("evaluate", run, **where)
    rows = {line.split("  ")[1] for line in out.splitlines() if line.startswith("  ")}
    assert {r"\u65e5\u672c \U0001f600", r"two\nlines \x1b[31m"} <= rows
    verb("predict", run, recordings, "--out", "p.csv", **where)
    verb("predict", run, recordings, "--out", "p.jsonl", **where)
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


def test_audio_files_of_any_name_are_read(trees, tmp_path):
    _, names = trees
    for pitch, name in enumerate(names):
        (tmp_path / "waves" / name).mkdir(parents=True)
        for i in range(2):
            wave = np.sin(np.arange(3000) * 0.1 * (pitch + 1) + i) / 2
            soundfile.write(tmp_path / "a.wav", wave, 16_000)
            (tmp_path / "a.wav").rename(tmp_path / "waves" / name / f"{name} {i}.wav")
    (tmp_path / "waves" / names[0] / "bad.wav").write_bytes(b"RIFF")
    where = dict(where=tmp_path)
    words = ["waves", "waves.h5", "--processes", 1, "--skip-bad"]
    assert "left out 1 files" in verb("encode", "audio", *words, **where)[0]
    assert set(ShdFile(tmp_path / "waves.h5").classes) == {*names}
    assert len(json.loads(verb("data", "waves", "--json", **where)[0])["classes"]) == 3


def test_a_run_folder_of_no_text_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(RunError, match=r"is no UTF-8: choose another --runs or --run"):
        new_run_folder(tmp_path / NO_TEXT, "a")
    assert not [*tmp_path.iterdir()]


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
