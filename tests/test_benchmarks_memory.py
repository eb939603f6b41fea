"""The benchmark of memory tasks writes what its runs found."""

import importlib
import json
import sys

from .helpers_training import ROOT


def test_a_line_for_every_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    sys.modules.pop("memory", None)
    memory = importlib.import_module("memory")
    assert {c["curriculum"] for c in memory.cases("n-dms")} == {
        "single",
        "single-head",
        "multi-head",
    }
    small = {"n_hidden": 8, "batch_size": 4, "steps_per_epoch": 2, "n_test": 8, "threshold": 0.5}
    curricula = [small | {"curriculum": name} for name in ("multi-head", "single", "single-head")]
    monkeypatch.setattr(memory, "cases", lambda task: curricula)
    words = "memory.py --tasks n-parity --seeds 3 --epochs 2 --out a.jsonl"
    words += " --curricula single multi-head"
    monkeypatch.setattr(sys, "argv", words.split())
    memory.main()
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    found = [(line["settings"]["curriculum"], line["settings"]["seed"]) for line in lines]
    assert found == [("multi-head", 3), ("single", 3)]
    for line in lines:
        assert line["task"] == "n-parity" and line["epochs"] <= 2 and line["tau_mean"] >= 1
        assert set(line["accuracy_per_n"]) == {str(n) for n in range(2, line["last_n"] + 1)}
        assert set(line["solved"]) == {str(n) for n in range(2, line["largest_n"] + 1)}


def test_spiking_networks_with_and_without_delays(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    sys.modules.pop("memory", None)
    memory = importlib.import_module("memory")
    small = {"n_hidden": 8, "batch_size": 4, "steps_per_epoch": 2, "n_test": 8, "n_max": 3}
    monkeypatch.setattr(memory, "cases", lambda task: [small | {"curriculum": "multi-head"}])
    words = "memory.py --tasks n-dms --seeds 3 --epochs 2 --out a.jsonl --delays none learned"
    monkeypatch.setattr(sys, "argv", words.split())
    memory.main()
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["settings"]["delays"] for line in lines] == ["none", "learned"]
    assert {line["settings"]["network"] for line in lines} == {"spiking"}
    assert lines[0]["rounding_gap"] == 0
