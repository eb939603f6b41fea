"""Runs that learn time constants: their records, their picture, resume and evaluation."""

from pathlib import Path

import numpy as np
import pytest
import torch

import snndelay
from snndelay.errors import Interrupted
from snndelay.runs import checkpoint
from snndelay.runs.plots.time_constants import time_constants as draw
from snndelay.runs.report import read_metrics
from snndelay.timescales import QUANTILES, quantiles, time_constants

from ...helpers_training import TINY, TINY_OPTIONS, call, load_train_py
from ...helpers_vision import TINY_VISION, write_tiny_vision
from .test_audio_plots import assert_picture

train_main = load_train_py().main
LEARNED = {"learn_tau": True, "tau_init": "log-uniform", "tau_max": 20.0}


@pytest.fixture(autouse=True)
def _no_other_plots(monkeypatch):
    for job in ("audio.AudioJob", "vision.VisionJob"):
        monkeypatch.setattr(f"snndelay.runs.{job}.draw", lambda *_, **__: [])


def run(files, folder, *, resume=None, **settings):
    """Summary of a tiny run."""
    flat = {"dataset": files[0], "test_file": files[1], "runs": str(folder), **TINY, **settings}
    return snndelay.fit(flat, preset="audio-small", resume=resume)


@pytest.mark.parametrize("neuron", ["lif", "cuba", "plif", "adlif"])
def test_an_audio_run_tells_how_they_spread(files, tmp_path, neuron, capsys):
    how = {"adlif": {}, "plif": {"tau": 2.0}}.get(neuron, LEARNED)
    summary = run(files, tmp_path, neuron=neuron, run="a", **how)
    records = read_metrics(tmp_path / "a" / "metrics.jsonl")
    net = snndelay.load(tmp_path / "a").net
    names = {"adlif": ("tau_u", "tau_w"), "cuba": ("tau", "tau_syn")}.get(neuron, ("tau",))
    wanted = {f"blocks.{i}.neuron.{name}" for i in range(2) for name in names}
    first, last = (r["time_constants"] for r in records)
    assert first.keys() == last.keys() == wanted
    assert last == quantiles(time_constants(net)), "not those of the last epoch's weights"
    assert all(len(v) == len(QUANTILES) and v == sorted(v) and v[0] >= 1 for v in last.values())
    assert first != last, "nothing is learned"
    assert_picture(tmp_path / "a" / "time_constants.png")
    assert "plots: time_constants.png" in capsys.readouterr().out
    assert snndelay.evaluate(tmp_path / "a")["accuracy"] == summary["test_accuracy"]


def test_the_curves_are_on_the_board(files, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(files, tmp_path, run="a", epochs=1, **LEARNED)
    board = EventAccumulator(str(tmp_path / "a")).Reload()
    (record,) = read_metrics(tmp_path / "a" / "metrics.jsonl")
    for name, values in record["time_constants"].items():
        found = [board.Scalars(f"time_constants/{name}/quantile_{q:g}")[0] for q in QUANTILES]
        assert [scalar.value for scalar in found] == pytest.approx(values)


def test_where_none_are_learned_nothing_is_told(files, tmp_path):
    run(files, tmp_path, run="a", epochs=1, tau_init="log-uniform")
    (record,) = read_metrics(tmp_path / "a" / "metrics.jsonl")
    assert "time_constants" not in record
    assert not (tmp_path / "a" / "time_constants.png").exists()
    tau = time_constants(snndelay.load(tmp_path / "a").net)["blocks.0.neuron.tau"]
    assert tau.min() < 5 < 10 < tau.max(), "they are drawn, though"


def test_resume_is_bitwise_exact(files, tmp_path, monkeypatch):
    run(files, tmp_path, run="straight", epochs=3, **LEARNED)
    save = checkpoint.save

    def save_then_stop(path, state):
        save(path, state)
        if path.name == "last.pt":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save_then_stop)
        with pytest.raises(Interrupted):
            run(files, tmp_path, run="broken", epochs=3, **LEARNED)
    torch.rand(7)  # a new process has another random state
    run(files, tmp_path, run="broken", resume=tmp_path / "broken", epochs=3, **LEARNED)
    one, other = (
        checkpoint.load(tmp_path / n / "last.pt")["model"] for n in ("straight", "broken")
    )
    assert any("log_tau" in name for name in one)
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    one, other = (read_metrics(tmp_path / n / "metrics.jsonl") for n in ("straight", "broken"))
    assert [r["time_constants"] for r in one] == [r["time_constants"] for r in other]
    assert_picture(tmp_path / "broken" / "time_constants.png")


def test_a_vision_run_and_its_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recordings, _ = write_tiny_vision(tmp_path / "data")
    options = (
        "--transfer",
        "off",
        "--learn-tau",
        "--tau-init",
        "gamma",
        "--framing",
        "time_window",
    )
    argv = (recordings, *TINY_VISION, "--root", "cache", "--run", "a", *options)
    code, out, err = call(train_main, *argv)
    assert (code, err) == (0, ""), err
    first, last = (r["time_constants"] for r in read_metrics(Path("runs/a/metrics.jsonl")))
    net = snndelay.load("a").net
    assert last == quantiles(time_constants(net, learned=True)) != first
    assert len(last) == net.n_layers
    assert_picture(Path("runs/a/time_constants.png"))
    assert "time_constants.png" in out
    assert snndelay.evaluate("a")["n"] > 0


REFUSED = {
    "adlif": (["--neuron", "adlif", "--learn-tau"], "--learn-tau has no effect with neuron adlif"),
    "if": (["--neuron", "if", "--tau-init", "gamma"], "no effect with neuron if"),
    "max": (["--tau-max", "9"], "--tau-max has no effect with tau_init same: add --tau-init"),
    "below": (
        ["--tau-init", "log-uniform", "--tau-max", "1"],
        "tau_max is 1: choose more than tau",
    ),
    "gamma": (["--tau-init", "gamma"], "tau is 1.005: gamma needs 2 steps or more"),
    "word": (["--tau-init", "loguniform"], "unknown tau_init 'loguniform': did you mean"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_effect_or_no_sense_is_a_sentence(files, tmp_path, case):
    argv, words = REFUSED[case]
    argv = (files[0], *TINY_OPTIONS, "--runs", str(tmp_path / "runs"), *argv)
    code, _, err = call(train_main, *argv)
    assert (code, len(err.splitlines())) == (2, 1), err
    assert words in err, err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("n", [1, 2, 6])
@pytest.mark.parametrize("dt_ms", [None, 10.0])
def test_the_picture_of_any_points(tmp_path, n, dt_ms):
    """Over another variable, with a name that some lack; and a start that is all the same."""
    rng = np.random.default_rng(0)
    values = {f"layer {i}": 1 + 40 * rng.random(30) for i in range(n)}
    some = quantiles({name: torch.tensor(value) for name, value in values.items()})
    points = [(2.5, some), (10, some | {"late": [1.0] * len(QUANTILES)})]
    draw(points, tmp_path / "a.png", x="N", dt_ms=dt_ms)
    assert_picture(tmp_path / "a.png", 400)
    same = {name: np.full(30, 1.0) for name in values}
    draw([(0, some), (1, some)], tmp_path / "b.png", dt_ms=dt_ms, start=same, end=values)
    assert_picture(tmp_path / "b.png", 400)
