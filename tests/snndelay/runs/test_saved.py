"""Runs that are over: `load` and `evaluate` do the same for audio and vision."""

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import snndelay
from snndelay.data.audio.sets import open_file
from snndelay.data.audio.shd import write_shd
from snndelay.data.events import Events
from snndelay.data.vision.atis import write_atis
from snndelay.errors import (
    CheckpointCorrupt,
    ConfigError,
    DataError,
    RunError,
    WidthWarning,
)
from snndelay.learning import delay_layers, unrounded
from snndelay.runs.audio import open_job
from snndelay.runs.cli import main
from snndelay.runs.evaluation import class_table
from snndelay.runs.files import read_json
from snndelay.runs.flat import from_flat, to_flat
from snndelay.runs.presets import preset_settings
from snndelay.runs.vision import open_job as open_vision

from ...helpers_training import TINY, write_tiny
from ...helpers_vision import CLASSES, write_tiny_vision

VISION = dict(
    epochs=2, batch_size=4, n_steps=4, threads=1, test_fraction=0.34, warmup_epochs=0, cache=False
)


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch):
    for job in ("audio.AudioJob", "vision.VisionJob"):
        monkeypatch.setattr(f"snndelay.runs.{job}.draw", lambda *_, **__: [])


def run(files, folder, **settings):
    """Summary of a tiny run on clips."""
    flat = {"dataset": files[0], "test_file": files[1], "runs": str(folder), **TINY, **settings}
    return snndelay.fit(flat, preset="audio-small")


def vision_run(folder, **settings):
    """Summary of a tiny run on recordings."""
    recordings, images = write_tiny_vision(folder / "data", 6)
    flat = {"dataset": recordings, "static": images, "runs": str(folder), "run": "a"}
    return snndelay.fit(preset_settings("vision-small") | VISION | flat | settings)


def test_evaluate_an_audio_run(files, tmp_path):
    summary = run(files, tmp_path, valid_fraction=0.25)
    folder = tmp_path / "train-audio-small-0"
    result = snndelay.evaluate(folder)
    assert result["accuracy"] == summary["test_accuracy"]
    assert result["rounding_gap"] == summary["rounding_gap"]
    assert sum(row["n"] for row in result["classes"]) == result["n"] == 6
    assert json.loads((folder / "evaluation.json").read_text()) == result
    assert snndelay.evaluate(folder, which="best")["checkpoint"] == "best"
    other = write_tiny(tmp_path / "other.h5", 9, seed=5)
    assert snndelay.evaluate(folder, test_file=other)["n"] == 9
    wrong = write_tiny(tmp_path / "wrong.h5", 9, n_classes=4)
    with pytest.raises(DataError, match=r"2 of 9 samples .* \(three\): .* --skip-unknown"):
        snndelay.evaluate(folder, test_file=wrong)
    known = snndelay.evaluate(folder, wrong, skip_unknown=True)
    assert (known["n"], known["n_unknown"]) == (7, 2)
    assert any("left out 2 of 9" in note for note in known["notes"])
    same = snndelay.evaluate(folder, files[1])
    assert {**same, "dataset": result["dataset"]} == result
    trained = snndelay.evaluate(folder, files[0])
    assert trained["n"] == 12 and "this is no test" in trained["notes"][1]
    assert not any("no test" in note for note in result["notes"] + same["notes"])
    with pytest.raises(ConfigError, match="give one of them"):
        snndelay.evaluate(folder, other, test_file=other)
    with pytest.raises(ConfigError, match="name their data too"):
        snndelay.evaluate(folder, skip_unknown=True)


def test_classes_in_another_order_are_the_same_classes(files, tmp_path):
    run(files, tmp_path, run="a")
    want = snndelay.evaluate(tmp_path / "a")
    file, order = open_file(files[1]), ["two", "zero", "one"]
    labels = [order.index(file.classes[k]) for k in file.labels]
    turned = tmp_path / "turned.h5"
    write_shd(turned, [file[i][0] for i in range(len(file))], labels, order)
    result = snndelay.evaluate(tmp_path / "a", turned)
    assert result["classes"] == want["classes"] and result["accuracy"] == want["accuracy"]
    nothing = tmp_path / "nothing.h5"
    write_shd(nothing, [file[0][0]], [0], ["uno"])
    with pytest.raises(DataError, match=r"no sample of .* has a class of the run: it has uno"):
        snndelay.evaluate(tmp_path / "a", nothing, skip_unknown=True)


def test_clips_of_other_units_are_refused(files, tmp_path):
    run(files, tmp_path, run="a")
    for verb in (snndelay.evaluate, snndelay.predict):
        with pytest.raises(DataError, match=r"40 units.* takes 700|no sample of localisation"):
            verb(tmp_path / "a", "localisation")


def test_evaluation_backwards_is_that_of_a_run_backwards(files, tmp_path, capsys):
    summary = run(files, tmp_path, run="a", spikes_per_unit=2)
    as_it_is = snndelay.evaluate(tmp_path / "a")
    assert as_it_is["reversed"] is False and as_it_is["accuracy"] == summary["test_accuracy"]
    spikes = as_it_is["spikes_per_inference"]
    assert spikes["input"] == 700 * 2, "every unit of every clip fires twice"
    assert main(["evaluate", str(tmp_path / "a"), "--reverse"]) == 0, capsys.readouterr().err
    result = read_json(tmp_path / "a/evaluation.json")
    assert result["reversed"] is True and result["spikes_per_inference"]["input"] == 700 * 2
    saved = snndelay.load(tmp_path / "a")
    flat = to_flat(saved.settings) | {"reverse": True}
    want = open_job(from_flat(flat))
    want = want.evaluate(saved.net, want.test)
    assert result["accuracy"] == want.accuracy
    assert result["spikes_per_inference"] == want.spikes_per_inference() != spikes
    vision_run(tmp_path / "v")
    with pytest.raises(ConfigError, match="reverse is for audio"):
        snndelay.evaluate(tmp_path / "v" / "a", reverse=True)


def test_evaluation_needs_no_training_clips(files, tmp_path):
    gone = write_tiny(tmp_path / "gone.h5", 12)
    summary = run((gone, files[1]), tmp_path)
    Path(gone).unlink()
    assert (
        snndelay.evaluate(tmp_path / "gone-audio-small-0")["accuracy"] == summary["test_accuracy"]
    )


def test_evaluation_leaves_the_network_alone(files, tmp_path):
    run(files, tmp_path, neuron="plif", tau=2.0)
    net, settings, classes = snndelay.load(tmp_path / "train-audio-small-0")
    assert not net.training and classes == ["zero", "one", "two"]
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net.train()
    job = open_job(settings)
    rounded, exact = (job.evaluate(n, job.train) for n in (net, unrounded(net)))
    assert net.training, "the mode changed"
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} changed"
    assert all(layer.rounded is None for layer in delay_layers(net))
    assert exact.loss != rounded.loss, "rounding changes nothing"
    assert sum(row["correct"] for row in class_table(rounded, classes)) == round(
        rounded.accuracy * rounded.n
    )
    frames = sum(float(batch.x.sum()) for batch in job.batches(job.train)) / rounded.n
    assert math.isclose(rounded.input_spikes, frames)


@pytest.mark.parametrize("transfer", ["align", "off"])
def test_a_vision_run_loads_and_evaluates(tmp_path, transfer):
    summary = vision_run(tmp_path, transfer=transfer, delays="learned", max_delay_steps=3)
    net, settings, classes = snndelay.load(tmp_path / "a")
    assert settings.kind == "vision" and classes == list(CLASSES) and not net.training
    with torch.no_grad():
        assert net(torch.zeros(4, 2, 2, 16, 16)).shape == (4, 2, 3)
    state = torch.load(tmp_path / "a/last.pt", weights_only=True)["model"]
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in state.items())
    result = snndelay.evaluate(tmp_path / "a")
    assert (result["accuracy"], result["n"]) == (summary["test_accuracy"], summary["n_test"])
    assert read_json(tmp_path / "a/evaluation.json") == result
    with pytest.raises(DataError, match=r"no data set or folder of recordings 'x\.h5'"):
        snndelay.evaluate(tmp_path / "a", "x.h5")


@pytest.mark.parametrize("frame_size", [None, 12])
def test_a_vision_run_is_evaluated_on_other_recordings(tmp_path, frame_size):
    vision_run(tmp_path, transfer="off", static=None, frame_size=frame_size)
    want = snndelay.evaluate(tmp_path / "a")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "data/recordings")
    assert snndelay.evaluate(tmp_path / "a", str(link)) == want | {"dataset": str(link)}
    saved = snndelay.load(tmp_path / "a")
    split = open_vision(saved.settings)
    others = tmp_path / "others"
    for i in split.split.test.tolist():  # the test recordings, as a set of their own
        name = split.recordings.names[i]
        (others / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "data/recordings" / name, others / name)
    result = snndelay.evaluate(tmp_path / "a", others)
    same = ("accuracy", "n", "classes", "spikes_per_inference", "rounding_gap")
    assert {k: result[k] for k in same} == {k: want[k] for k in same}
    shutil.copytree(others / "bar", others / "new")
    with pytest.raises(DataError, match=r"\(new\): leave these out with --skip-unknown"):
        snndelay.evaluate(tmp_path / "a", others)
    result = snndelay.evaluate(tmp_path / "a", others, skip_unknown=True)
    assert (result["n"], result["accuracy"]) == (want["n"], want["accuracy"])
    (others / "bar/empty.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"no events.*--skip-bad"):
        snndelay.evaluate(tmp_path / "a", others, skip_unknown=True)
    result = snndelay.evaluate(tmp_path / "a", others, skip_unknown=True, skip_bad=True)
    assert result["n"] == want["n"] and any("left out 1 of" in note for note in result["notes"])


def test_recordings_of_another_sensor(tmp_path):
    vision_run(tmp_path, transfer="off", static=None)
    big = tmp_path / "big/bar"
    big.mkdir(parents=True)
    events = Events(np.arange(4) * 1000, np.array([0, 3, 30, 31]), np.arange(4), np.arange(4) % 2)
    write_atis(big / "a.bin", events)
    with pytest.raises(DataError, match=r"x 31, y 3, off the sensor of 16 x 16 .* give --sensor"):
        snndelay.evaluate(tmp_path / "a", tmp_path / "big")
    with pytest.raises(
        DataError, match=r"of 16 x 32 pixels .height x width., .* train one with --frame-size"
    ):
        snndelay.evaluate(tmp_path / "a", tmp_path / "big", sensor=(16, 32))
    vision_run(tmp_path / "more", transfer="off", static=None, frame_size=12, run="b")
    assert snndelay.evaluate(tmp_path / "more/b", tmp_path / "big", sensor=(16, 32))["n"] == 1


def test_headers_of_another_sensor_are_not_passed_over(tmp_path):
    """All events fit into the run's corner: the accuracy would be that of a wrong scale."""
    vision_run(tmp_path, transfer="off", static=None)
    folder = tmp_path / "big"
    rows = "\n".join(f"{1000 * k} {k} {k} {k % 2}" for k in range(9))
    for name, head in (("good", "16 16"), ("large", "128 96")):
        (folder / "bar").mkdir(parents=True, exist_ok=True)
        (folder / f"bar/{name}.txt").write_text(f"{head}\n{rows}\n")
    words = r"large.txt is of a sensor of 96 x 128, not of 16 x 16 .* --sensor 96 128"
    with pytest.raises(DataError, match=words):
        snndelay.evaluate(tmp_path / "a", folder)
    errors = [p.error or "" for p in snndelay.predict(tmp_path / "a", folder)]
    assert errors[0] == "" and re.search(words, errors[1])
    result = snndelay.evaluate(tmp_path / "a", folder, skip_bad=True)
    assert result["n"] == 1 and any(re.search(words, note) for note in result["notes"])


def test_a_sensor_that_training_was_told_holds_for_other_recordings(tmp_path):
    """Events of the run's own recordings reach to 16 x 16 only, those of the others further."""
    other = tmp_path / "other/bar"
    other.mkdir(parents=True)
    np.savez(other / "a.npz", t=np.arange(9), x=np.arange(9) + 11, y=np.arange(9), p=np.ones(9))
    vision_run(tmp_path, transfer="off", static=None, sensor=(18, 20))
    assert snndelay.load(tmp_path / "a").settings.network.size in (None, (18, 20))
    assert snndelay.evaluate(tmp_path / "a", other.parent)["n"] == 1
    assert [p.error for p in snndelay.predict(tmp_path / "a", other)] == [None]
    with pytest.raises(DataError, match=r"x 15, y 15, off the sensor of 18 x 12 pixels"):
        vision_run(tmp_path / "b", transfer="off", static=None, sensor=(18, 12))


def test_loading_needs_no_data_and_draws_no_numbers(tmp_path):
    vision_run(tmp_path)
    for path in sorted((tmp_path / "data").rglob("*.*")):
        path.unlink()
    torch.manual_seed(3)
    want = torch.rand(4)
    torch.manual_seed(3)
    snndelay.load(tmp_path / "a")
    assert torch.equal(torch.rand(4), want), "the caller's random numbers moved"


def test_a_network_that_is_still_wide_says_so(files, tmp_path):
    run(files, tmp_path, epochs=1)
    with pytest.warns(WidthWarning):
        snndelay.load(tmp_path / "train-audio-small-0")


def test_what_cannot_be_loaded_is_said(files, tmp_path):
    run(files, tmp_path, valid_fraction=0.0)
    folder = tmp_path / "train-audio-small-0"
    with pytest.raises(ConfigError, match="did you mean last"):
        snndelay.load(folder, "lst")
    with pytest.raises(RunError, match=r"best\.pt needs a validation set"):
        snndelay.load(folder, "best")
    with pytest.raises(RunError, match="is no run"):
        snndelay.load(tmp_path / "none")
    with pytest.raises(RunError, match="unknown device"):
        snndelay.load(folder, device="gpu")
    (folder / "last.pt").write_bytes(b"x" * 100)
    with pytest.raises(CheckpointCorrupt, match="damaged"):
        snndelay.evaluate(folder)
