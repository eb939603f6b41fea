"""Runs that are over: `load` and `evaluate` do the same for audio and vision."""

import json
import math
from pathlib import Path

import pytest
import torch

import snndelay
from snndelay.errors import CheckpointCorrupt, ConfigError, DataError, RunError, WidthWarning
from snndelay.learning import delay_layers, unrounded
from snndelay.runs.audio import open_job
from snndelay.runs.cli import main
from snndelay.runs.evaluation import class_table
from snndelay.runs.files import read_json
from snndelay.runs.flat import from_flat, to_flat
from snndelay.runs.presets import preset_settings

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
    return snndelay.fit(flat, preset="short")


def vision_run(folder, **settings):
    """Summary of a tiny run on recordings."""
    recordings, images = write_tiny_vision(folder / "data", 6)
    flat = {"dataset": recordings, "static": images, "runs": str(folder), "run": "a"}
    return snndelay.fit(preset_settings("events") | VISION | flat | settings)


def test_evaluate_an_audio_run(files, tmp_path):
    summary = run(files, tmp_path, valid_fraction=0.25)
    folder = tmp_path / "train-short-0"
    result = snndelay.evaluate(folder)
    assert result["accuracy"] == summary["test_accuracy"]
    assert result["rounding_gap"] == summary["rounding_gap"]
    assert sum(row["n"] for row in result["classes"]) == result["n"] == 6
    assert json.loads((folder / "evaluation.json").read_text()) == result
    assert snndelay.evaluate(folder, which="best")["checkpoint"] == "best"
    other = write_tiny(tmp_path / "other.h5", 9, seed=5)
    assert snndelay.evaluate(folder, test_file=other)["n"] == 9
    wrong = write_tiny(tmp_path / "wrong.h5", 9, n_classes=4)
    with pytest.raises(DataError, match="other classes"):
        snndelay.evaluate(folder, test_file=wrong)


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
    assert snndelay.evaluate(tmp_path / "gone-short-0")["accuracy"] == summary["test_accuracy"]


def test_evaluation_leaves_the_network_alone(files, tmp_path):
    run(files, tmp_path, neuron="plif", tau=2.0)
    net, settings, classes = snndelay.load(tmp_path / "train-short-0")
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
    with pytest.raises(ConfigError, match="--test-file is for audio"):
        snndelay.evaluate(tmp_path / "a", test_file="x.h5")


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
        snndelay.load(tmp_path / "train-short-0")


def test_what_cannot_be_loaded_is_said(files, tmp_path):
    run(files, tmp_path, valid_fraction=0.0)
    folder = tmp_path / "train-short-0"
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
