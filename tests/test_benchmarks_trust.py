"""What trust costs is measured, and its tables say what was tried."""

import json
import sys

import pytest

from .helpers_training import write_tiny
from .test_benchmarks import benchmark


@pytest.fixture
def trust(monkeypatch, tmp_path):
    """benchmarks/trust.py on a tiny file, after fewer steps."""
    monkeypatch.chdir(tmp_path)
    module = benchmark(monkeypatch, "trust")
    tiny = {"dataset": write_tiny(tmp_path / "a.h5"), "n_hidden": 8, "units_per_channel": 70}
    tiny |= {"test_file": tiny["dataset"], "batch_size": 4, "n_steps": 20, "max_delay_steps": 5}
    preset = module.preset_settings("audio-small")
    monkeypatch.setattr(module, "preset_settings", lambda _: preset | tiny)
    monkeypatch.setattr(module, "WARM", 2)
    return module


def test_memory_guards_and_checkpoints(trust, monkeypatch, tmp_path):
    argv = ["trust.py", "--steps", "5", "--rounds", "3", "--out", "out.jsonl"]
    monkeypatch.setattr(sys, "argv", argv)
    trust.main()
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    by = {line["cost"]: line for line in lines}
    assert by["memory"]["steps"] == 5 and by["memory"]["growth_bytes"] >= 0
    assert by["guards"]["step_seconds"] > 0 and "of_a_step" in by["guards"]
    assert by["checkpoints"]["minutes"] == 10
    assert by["checkpoints"]["of_a_step"] == by["checkpoints"]["seconds"] / 600


def test_tables(monkeypatch):
    tables = benchmark(monkeypatch, "tables_trust")
    where = {"device": "CPU", "threads": 1, "torch": "2", "commit": "abc"}
    kills = {"promise": "kills", "words": "SIGKILL", "tried": 100, "held": 99, "tests": ["a.py"]}
    ranks = {"promise": "ranks", "words": "several", "tried": 0, "held": 0, "tests": []}
    ranks |= {"why_not": "not measured"}
    guards = {"cost": "guards", "rounds": 3, "step_seconds": 0.05, "of_a_step": 0.012}
    saved = {"cost": "checkpoints", "rounds": 3, "seconds": 0.1, "minutes": 10, "bytes": 2000}
    memory = {"cost": "memory", "steps": 1000, "growth_bytes": 3e6, "preset": "shd"}
    lines = [kills, ranks, guards, saved | {"of_a_step": 0.0001}, memory]
    monkeypatch.setattr(tables, "latest", lambda *_: [line | where for line in lines])
    assert "| kills | SIGKILL | **99 of 100** | `a.py` |" in tables.trust()
    assert "| ranks | several | not measured |  |" in tables.trust()
    for words in (
        "1,000 steps",
        "**3.0 MB**",
        "50 ms",
        "**1.2%**",
        "2 kB and 100 ms",
        "10 minutes",
    ):
        assert words in tables.costs()
    assert "**0.010%**" in tables.costs()
    monkeypatch.setattr(tables, "latest", lambda *_: [])
    assert tables.trust() == tables.costs() == tables.NOT_MEASURED
