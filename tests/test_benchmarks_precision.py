"""benchmarks/precision.py measures what it says, and its table shows the newest lines."""

import importlib
import json
import sys

import pytest
import torch

from .helpers_training import ROOT


@pytest.fixture
def precision(monkeypatch, tmp_path):
    pytest.importorskip("triton")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("precision", None)
    return importlib.import_module("precision")


def test_tf32_has_eleven_bits(precision):
    x = torch.tensor([1.0, 1 + 2**-10, 1 + 2**-12, -3.0000001, 1 + 2**-11 + 2**-20])
    assert torch.equal(precision.tf32(x), torch.tensor([1.0, 1 + 2**-10, 1.0, -3.0, 1 + 2**-10]))


def test_lines_and_their_table(precision, monkeypatch, tmp_path):
    words = "precision.py --steps 12 --batch 2 --neurons 20 --taps 5 --out precision.jsonl"
    monkeypatch.setattr(sys, "argv", words.split())
    precision.main()
    lines = [json.loads(x) for x in (tmp_path / "precision.jsonl").read_text().splitlines()]
    found = {x["precision"]: x for x in lines}
    limits = {"highest": 1e-6, "default": 1e-5, "TF32 convolution": 1e-3, "fast": 1e-2}
    for key in ("error", "error_dx", "error_dweight", "error_dposition", "evaluation_error"):
        errors = [found[name][key] for name in limits]
        assert errors == sorted(errors), f"{key}: {dict(zip(limits, errors, strict=True))}"
        for name, limit in limits.items():
            assert 0 < found[name][key] < limit, f"{name} {key}"
    assert found["highest"]["flipped"] == found["highest"]["evaluation_flipped"] == 0
    made = importlib.import_module("tables").TABLES["precision"]
    monkeypatch.setattr(sys.modules["tables_common"], "RESULTS", tmp_path)
    assert made().count("\n| ") == 4 and "`default` | 2 |" in made()
    (tmp_path / "precision.jsonl").unlink()
    assert made() == "Not measured."
