"""Runs on memory tasks: curricula, exact resume, forgetting, and figures by N."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import snndelay
from snndelay.errors import ConfigError, DataError, Interrupted, RunError, UserError
from snndelay.runs import checkpoint, memory
from snndelay.runs.cli import main as snndelay_main
from snndelay.runs.files import read_json
from snndelay.runs.flat import from_flat
from snndelay.runs.memory import QUANTILES, head_accuracy, of_network, open_job, trained
from snndelay.runs.network import new_network
from snndelay.runs.report import closing_lines, read_metrics
from snndelay.runs.session import Session, new_net, uses_graphs
from snndelay.runs.training import fit

from ...helpers_training import call, load_train_py

CPU = torch.device("cpu")
TINY = dict(
    kind="memory", dataset="n-parity", n_hidden=8, batch_size=4, steps_per_epoch=3, n_test=8,
    n_max=4, epochs=3, threads=1,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _short_probe(monkeypatch):
    monkeypatch.setattr(memory, "PROBE_STEPS", 150)


def run(folder, name="a", *, resume=None, draw=False, **settings):
    """Summary of a tiny run, and its records."""
    flat = {**TINY, "runs": str(folder), "run": name, **settings}
    summary = fit(flat, preset=flat["dataset"], resume=resume, draw=draw)
    return summary, read_metrics(folder / name / "metrics.jsonl")


def looks(monkeypatch, *accuracies):
    """Makes the looks at the heads after the epochs see these accuracies, {N: accuracy} each."""
    left = list(accuracies)
    monkeypatch.setattr(memory, "head_accuracy", lambda job, session: left.pop(0))


# -- curricula ---


@pytest.mark.parametrize("curriculum", ["single-head", "multi-head"])
def test_the_next_n_comes_exactly_above_the_threshold(curriculum, tmp_path, monkeypatch):
    looks(
        monkeypatch, {2: 0.98}, {2: 0.981}, {2: 1.0, 3: 0.98}, {2: 1.0, 3: 0.99},
        {2: 1.0, 3: 1.0, 4: 0.5},
    )  # fmt: skip
    summary, records = run(tmp_path, curriculum=curriculum, epochs=5)
    assert [r["n"] for r in records] == [2, 2, 3, 3, 4]
    assert [r.get("solved") for r in records] == [None, 2, None, 3, None]
    assert (summary["largest_n"], summary["last_n"], summary["complete"]) == (3, 4, False)


def test_multi_head_asks_for_every_head_and_single_head_for_its_own(tmp_path, monkeypatch):
    seen = [{2: 1.0}, {2: 0.5, 3: 1.0}]
    found = {}
    for curriculum in ("single-head", "multi-head"):
        looks(monkeypatch, *seen)
        found[curriculum] = run(tmp_path, curriculum, curriculum=curriculum, epochs=2)
    assert found["single-head"][0]["largest_n"] == 3
    assert found["multi-head"][0]["largest_n"] == 2
    assert found["single-head"][1][1]["valid_accuracy"] == 1.0
    assert found["multi-head"][1][1]["valid_accuracy"] == 0.75


def test_a_run_ends_when_its_last_n_is_solved(tmp_path, monkeypatch):
    looks(monkeypatch, {2: 1.0}, {2: 1.0, 3: 1.0})
    summary, records = run(tmp_path, n_max=3, epochs=50)
    assert (len(records), summary["epochs"], summary["complete"]) == (2, 2, True)
    looks(monkeypatch, {6: 0.2}, {6: 1.0})
    summary, records = run(tmp_path, "b", curriculum="single", n_start=6, epochs=50)
    assert (summary["largest_n"], summary["epochs"], summary["complete"]) == (6, 2, True)
    assert list(summary["accuracy_per_n"]) == [6], "single has one head"


@pytest.mark.parametrize("curriculum", ["single-head", "multi-head"])
def test_who_learns(curriculum, tmp_path, monkeypatch):
    """Which parameters an epoch on N = 3 changes, and how its first head starts."""
    looks(monkeypatch, {2: 1.0})
    run(tmp_path, curriculum=curriculum, epochs=1)
    before = checkpoint.load(tmp_path / "a/last.pt")["model"]
    same = torch.equal(before["heads.2.weight"], before["heads.3.weight"])
    assert same is (curriculum == "single-head"), "only then a head goes on from the last one"
    looks(monkeypatch, {2: 1.0}, {2: 1.0, 3: 0.6})
    run(tmp_path, "b", curriculum=curriculum, epochs=2)
    after = checkpoint.load(tmp_path / "b/last.pt")["model"]
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    learns = {"layer.weight", "layer.tau", "layer.input.weight", "heads.3.weight", "heads.3.bias"}
    assert learns <= changed and not {"heads.4.weight", "heads.4.bias", "progress"} & changed
    assert ("heads.2.weight" in changed) is (curriculum == "multi-head")


def test_single_head_forgets_and_multi_head_does_not(tmp_path):
    learns = dict(dataset="n-dms", n_hidden=48, batch_size=64, steps_per_epoch=50, n_test=256)
    learns |= dict(lr=2e-3, epochs=40, n_max=5)
    found = {}
    for curriculum in ("single-head", "multi-head"):
        summary, _ = run(tmp_path, curriculum, curriculum=curriculum, **learns)
        assert summary["complete"], f"{curriculum} solved N = {summary['largest_n']}"
        found[curriculum] = summary["accuracy_per_n"]
        assert found[curriculum][5] > 0.95
    assert min(found["multi-head"].values()) > 0.95, found
    assert found["single-head"][2] < 0.85, found


# -- figures ---


def test_a_run_from_the_command_line_and_its_evaluation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py"])
    options = [
        word
        for name, value in TINY.items()
        if name not in ("kind", "dataset")
        for word in (f"--{name.replace('_', '-')}", value)
    ]
    argv = ["n-dms", *options, "--threshold", "0.5", "--epochs", 6]
    code, out, err = call(load_train_py().main, *argv)
    assert (code, err) == (0, ""), err
    folder = tmp_path / "runs/n-dms-0"
    summary, records = read_json(folder / "summary.json"), read_metrics(folder / "metrics.jsonl")
    assert f"multi-head: solved N = {summary['largest_n']} in" in out
    assert summary["largest_n"] >= 2 and "spikes per trial:" in out and "hidden" not in out
    assert "train on 12 trials" in out and "3 values of N" in out
    for record in records:
        assert len(record["head_accuracy"]) == record["n"] - 1
        assert len(record["tau_quantiles"]) == len(QUANTILES)
        assert ("solved" in record) is ("tau_net_mean" in record)
    for name in ("curriculum.png", "timescales.png"):
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 300
    code, out, err = call(snndelay_main, "evaluate", "n-dms-0")
    assert code == 0, err
    result = read_json(folder / "evaluation.json")
    per_n = {int(row["class"][4:]): row["accuracy"] for row in result["classes"]}
    assert per_n == {int(n): a for n, a in summary["accuracy_per_n"].items()}
    assert f"accuracy {summary['test_accuracy']:.1%} (n = {summary['n_test']}" in out
    assert "N = 2" in out and "rounded" not in out
    code, _, err = call(snndelay_main, "evaluate", "n-dms-0", "--test-file", "x.h5")
    assert code == 2 and "trials of a memory task are drawn" in err


@pytest.mark.parametrize("network", ["rate", "spiking"])
def test_accuracies_are_those_of_a_loop_over_fresh_trials(network):
    flat = TINY | dict(network=network, n_hidden=30, n_test=10, bit_steps=3, v_threshold=0.3)
    job = open_job(from_flat(flat))
    net = new_network(job.settings, {})
    net.advance_()
    result = job.evaluate(net, job.test)
    assert net.training and result.n == 2 * 12, "whole batches of 4 for N = 2 and 3"
    right, spikes = [], []
    for n in (2, 3):
        for step in range(3):
            x, label_HB = job.task.test_batch(n, 4, 0, step)
            x = x.repeat_interleave(3, 0)
            assert len(x) % 3 == 0 and torch.equal(x[0], x[2])
            logits, (r_TBN,) = net.activity(x, [n])
            right += (logits[0].argmax(-1) == label_HB[0]).tolist()
            spikes.append(r_TBN.sum().item() / 4)
    assert (result.labels == result.predictions).tolist() == right
    assert result.labels.tolist() == [0] * 12 + [1] * 12
    if network == "rate":
        assert result.hidden_spikes is None and "hidden" not in result.spikes_per_inference()
    else:
        assert np.isclose(result.hidden_spikes, np.mean(spikes)) and np.mean(spikes) > 1


def test_a_look_at_the_heads_is_that_of_a_loop():
    job = open_job(from_flat(TINY))
    net = new_network(job.settings, {})
    net.advance_()
    found, ns = head_accuracy(job, Session(net, [], [], epoch=5)), [2, 3]
    assert trained(job, net) == ns
    right = []
    for step in range(2):
        x, label_HB = job.task.valid_batch(ns, 4, 0, 5, step)
        right.append((net(x, ns).argmax(-1) == label_HB).double())
    assert list(found) == ns
    assert list(found.values()) == torch.cat(right, 1).mean(1).tolist()


SPIKING = dict(network="spiking", n_hidden=20, bit_steps=2, v_threshold=0.5, max_delay_steps=5)


def test_a_spiking_run(tmp_path):
    summary, records = run(tmp_path, **SPIKING)
    assert summary["spikes_per_inference"]["hidden"] > 0 and summary["rounding_gap"] == 0
    assert summary["backends"] == {"recurrent_lif": "cpu", "readout": "cpu"} and len(records) == 3
    assert "layer.neuron.tau" in records[-1]["time_constants"] and "sigma" not in records[-1]
    net = snndelay.load(tmp_path / "a").net
    assert net.spiking and net.layer.delay.delays == "none"


@pytest.mark.parametrize("kind", ["axonal", "synaptic"])
@pytest.mark.parametrize("delays", ["fixed", "frozen", "learned"])
def test_a_run_with_delays(delays, kind, tmp_path):
    how = dict(delays=delays, delay_kind=kind, sigma_epochs=2, lr_position=0.3)
    summary, records = run(tmp_path, **SPIKING, **how, draw=True)
    job = open_job(from_flat({**TINY, **SPIKING, **how}))
    drawn = new_net(job.settings, {}, CPU).layer.delay
    saved = snndelay.load(tmp_path / "a").net.layer.delay
    assert drawn.position.shape == ((20,) if kind == "axonal" else (20, 20))
    moved = not torch.equal(saved.position, drawn.position)
    assert moved is (delays == "learned") and saved.position.abs().max() <= 2
    assert [r.get("lr_position") for r in records] == [0.3 if moved else None] * 3
    widths = [r.get("sigma") for r in records]
    assert widths == [None] * 3 if delays == "fixed" else widths[0] == 2 > widths[1] > widths[2]
    assert saved.sigma == (2.0 if delays == "fixed" else pytest.approx(0.23))
    assert (summary["rounding_gap"] == 0) or delays != "fixed"
    with Image.open(tmp_path / "a/delays.png") as picture:
        assert min(picture.size) > 300


def test_evaluation_says_what_rounding_costs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {}
    for delays in ("none", "learned"):
        run(tmp_path / "runs", delays, **SPIKING, delays=delays)
        code, out, err = call(snndelay_main, "evaluate", delays)
        assert code == 0, err
        found[delays] = "delays rounded" in out and "without rounding" in out
    assert found == {"none": False, "learned": True}


def test_a_silent_network_has_no_time_constant():
    job = open_job(from_flat(TINY | {"network": "spiking", "v_threshold": 1e6}))
    found = of_network(job, new_network(job.settings, {}))
    assert found == {"tau_net_mean": None, "tau_net_quantiles": None, "silent": 8}
    summary = {
        "kind": "memory", "curriculum": "single", "largest_n": 0, "epochs": 1, "tau_mean": 1.5,
        "tau_net_mean": None, "accuracy_per_n": {2: 0.5}, "n_per_n": 8, "test_accuracy": 0.5,
        "spikes_per_inference": {"hidden": 0.0, "input": 2.0},
    }  # fmt: skip
    text = "\n".join(closing_lines(summary, Path("a"), []))
    assert "solved no N" in text and "unknown: no neuron is active" in text


# -- resume ---


RESUMED = {
    "single-head": dict(curriculum="single-head"),
    "multi-head": dict(curriculum="multi-head"),
    "delays": SPIKING | dict(delays="learned", sigma_epochs=4, n_hidden=30),
}


@pytest.mark.parametrize("case", RESUMED)
def test_resume_is_bitwise_exact(case, tmp_path, monkeypatch):
    settings = RESUMED[case] | dict(threshold=0.5, epochs=5)
    run(tmp_path, "straight", **settings)
    save, saved = checkpoint.save, []

    def save_then_stop(path, state):
        save(path, state)
        saved.append(path.name)
        if len(saved) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save_then_stop)
        with pytest.raises(Interrupted, match="stopped and saved"):
            run(tmp_path, "broken", **settings)
    assert checkpoint.load(tmp_path / "broken/last.pt")["epoch"] == 2
    torch.rand(7)  # a new process has another random state
    run(tmp_path, "broken", resume=tmp_path / "broken", **settings)
    states = [checkpoint.load(tmp_path / name / "last.pt") for name in ("straight", "broken")]
    for name, value in states[0]["model"].items():
        assert torch.equal(value, states[1]["model"][name]), f"{name} differs"
    moments = [state["optimizers"][0]["state"] for state in states]
    for i, values in moments[0].items():
        assert all(torch.equal(v, moments[1][i][k]) for k, v in values.items()), f"moments of {i}"
    straight, broken = (
        [r | {"seconds": 0} for r in read_metrics(tmp_path / name / "metrics.jsonl")]
        for name in ("straight", "broken")
    )
    assert straight == broken and straight[-1]["n"] > 2, "the curriculum went on"
    with pytest.raises(RunError, match="is complete"):
        run(tmp_path, "broken", resume=tmp_path / "broken", **settings)


def test_a_seed_says_everything(tmp_path):
    one, again = (run(tmp_path, name)[1] for name in ("a", "b"))
    other = run(tmp_path, "c", seed=1)[1]
    assert [r | {"seconds": 0} for r in one] == [r | {"seconds": 0} for r in again]
    assert one[0]["loss"] != other[0]["loss"]


def test_time_constants_stay_where_their_rate_is_0(tmp_path):
    job = open_job(from_flat(TINY))
    drawn = new_net(job.settings, {}, CPU).tau
    run(tmp_path, lr_tau=0.0)
    assert torch.equal(snndelay.load(tmp_path / "a").net.tau, drawn)
    run(tmp_path, "b", lr_tau=0.1)
    assert not torch.equal(snndelay.load(tmp_path / "b").net.tau, drawn)


# -- what is refused ---

REFUSED = {
    "order": (dict(n_start=9), "n_max is 4: choose n_start, 9, or more"),
    "place": (dict(data_on="device"), "data_on is device, but trials are drawn on the host"),
    "backend": (dict(backend="triton"), "rate neurons have no backend triton: leave it out"),
    "threshold": (dict(threshold=2.0), "threshold is 2.0: choose a number from 0.5 to 1"),
    "curriculum": (dict(curriculum="multi"), "unknown curriculum 'multi': did you mean multi-head"),
    "n": (dict(n_start=1), "n_start is 1: choose a number from 2 to 1000"),
    "task": (dict(dataset="n-party"), "did you mean n-parity"),
    "other data": (dict(dataset="dvs"), "dvs is vision, and these settings are for memory"),
    "network": (dict(network="vgg"), "network vgg is for vision, and this run is on memory"),
    "delays": (dict(delays="learned"), "rate neurons have none: add --network spiking"),
    "kind": (dict(delay_kind="common"), "unknown delay_kind 'common': choose one of axonal, syna"),
    "dropout": (dict(dropout=0.1), "dropout is for audio and vision, and this run is on memory"),
    "graph": (dict(graph="on"), "graph is on, but"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_cannot_work_are_one_sentence(case, tmp_path):
    settings, words = REFUSED[case]
    with pytest.raises(UserError) as caught:
        run(tmp_path, **settings)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "a").exists()


WITHOUT_EFFECT = {
    "--delays learned": "--delays has no effect with network rate: add --network spiking",
    "--network spiking --lr-position 1": "--lr-position has no effect with delays none",
    "--network spiking --sigma-end 1": "--sigma-end has no effect with delays none",
    "--network spiking --version max": "--version has no effect with delays none",
    "--network spiking --delays fixed --lr-position 1": "no effect with delays fixed",
    "--max-delay-steps 9": "--max-delay-steps has no effect with delays none",
    "--delay-kind synaptic": "--delay-kind has no effect with delays none",
}


@pytest.mark.parametrize("words", WITHOUT_EFFECT)
def test_options_without_effect_are_refused(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py"])
    code, _, err = call(load_train_py().main, "n-dms", *words.split())
    assert code == 2 and WITHOUT_EFFECT[words] in err and err.count("\n") == 1, err


def test_single_needs_no_last_n():
    assert from_flat(TINY | {"curriculum": "single", "n_start": 9}).curriculum.n_start == 9


def test_heads_that_change_are_no_graph(monkeypatch):
    monkeypatch.setattr("snndelay.recorded.DEVICE", "cpu")
    settings = from_flat(TINY)
    assert not uses_graphs(settings, CPU)
    with pytest.raises(ConfigError, match="the heads that learn change"):
        uses_graphs(from_flat(TINY | {"graph": "on"}), CPU)


def test_another_task_is_another_run():
    job = open_job(from_flat(TINY))
    with pytest.raises(DataError, match="have changed"):
        memory.open_test(from_flat(TINY | {"dataset": "n-dms"}), job.digest(), None, CPU)
    assert json.dumps(job.sizes) == "{}"
