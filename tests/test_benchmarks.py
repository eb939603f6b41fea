"""The benchmarks: each keeps its command, and no table claims what was not measured."""

import importlib
import json
import sys

import pytest
import torch
from PIL import Image

from snndelay.kernels.profile.measure import Ceilings

from .helpers_training import ROOT

LIMIT = Ceilings(1e9, 1e10, "float32")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def benchmark(monkeypatch, name: str):
    """A file of benchmarks/ as a module, newly imported."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    sys.modules.pop(name, None)
    return importlib.import_module(name)


def tiny_case(step):
    sizes = {"n_in": 9, "n_hidden": 17, "n_out": 4, "max_delay_steps": 5}
    return step.Case("shd", 12, {"cpu": 3}, 0.5, sizes)


def test_step_writes_a_line_for_training_and_evaluation(monkeypatch, tmp_path):
    step = benchmark(monkeypatch, "step")
    monkeypatch.setattr(step, "CASES", {"tiny": tiny_case(step)})
    monkeypatch.setattr(
        sys,
        "argv",
        ["step.py", "--only", "tiny", "--rounds", "1", "--device", "cpu", "--out", "a.jsonl"],
    )
    step.main()
    train, evaluate = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    assert (train["what"], evaluate["what"]) == ("training step", "evaluation")
    assert max(train["loss_difference"], evaluate["loss_difference"]) <= 1e-4
    assert train["ours"]["saved_bytes"] > 0 and train["peer"]["saved_bytes"] > 0
    assert train["peer_over_ours"] == train["peer"]["seconds"] / train["ours"]["seconds"]


def test_step_refuses_to_time_another_network(monkeypatch):
    step = benchmark(monkeypatch, "step")
    monkeypatch.setattr(step.PeerNet, "forward", lambda self, x: torch.zeros(1, 3, 4))
    case = tiny_case(step)
    net, _ = step.pair(case, "auto", CPU)
    with pytest.raises(SystemExit, match="not the same network"):
        step.difference(case, "auto", *step.clips(case, net, CPU))


def test_fifty_losses_equal_those_of_the_reference(monkeypatch):
    step = benchmark(monkeypatch, "step")
    found = step.curves_agree("auto", CPU, n_in=40, n_hidden=32, max_delay_steps=9)
    assert found <= 1e-4, f"losses of 50 training steps differ by {found:.1e}"


def test_ksweep_draws_what_it_measured(monkeypatch, tmp_path):
    ksweep = benchmark(monkeypatch, "ksweep")
    monkeypatch.setattr(ksweep, "ceilings", lambda device: LIMIT)
    words = "ksweep.py --rounds 1 --batch 1 --taps 3 5 --out a.jsonl --picture a.png"
    monkeypatch.setattr(sys, "argv", words.split())
    ksweep.main()
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    measured = {(x["shape"]["K"], x["backend"]) for x in lines if "forward" in x}
    assert {(K, b) for K in (3, 5) for b in ("reference", "fft", "auto")} <= measured
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 300


@pytest.mark.parametrize(
    "name", ["accuracy", "transfer", "saccade", "gradients", "gallery", "step"]
)
def test_commands_explain_themselves(monkeypatch, capsys, name):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as end:
        benchmark(monkeypatch, name).main()
    assert end.value.code == 0 and "usage" in capsys.readouterr().out


def test_settings_from_words(monkeypatch):
    changes = benchmark(monkeypatch, "common").changes
    words = ["epochs=3", "sliding=off", "coefficient=0.5", "frame_size=null"]
    assert changes(words) == {"epochs": 3, "sliding": "off", "coefficient": 0.5, "frame_size": None}


# -- tables ---


@pytest.fixture
def tables(monkeypatch, tmp_path):
    """The makers of tables, reading result files in the current folder."""
    made = benchmark(monkeypatch, "tables")
    monkeypatch.setattr(sys.modules["tables_common"], "RESULTS", tmp_path)
    return made.TABLES


def test_tables_say_what_was_not_measured(tables):
    for name in ("step", "ops", "ksweep", "gpu", "gradients", "neurons", "transfer", "saccade"):
        assert tables[name]() == "Not measured.", name


def test_the_newest_line_of_a_case_counts(tables, tmp_path):
    line = {"device": "CPU x", "threads": 2, "torch": "2", "commit": "c", "rounds": 5, "B": 3}
    line |= {"case": "shd", "what": "training step", "backend": "auto", "peer_path": "LIFNode"}
    line |= {"T": 1, "C": 2, "N": 3, "layers": 2, "K": 5, "peer_over_ours": 4.0}
    line |= {w: {"seconds": s, "saved_bytes": 1e6 * s} for w, s in (("ours", 1.0), ("peer", 4.0))}
    slower = line | {"peer_over_ours": 2.0}
    (tmp_path / "step.jsonl").write_text(f"{json.dumps(slower)}\n{json.dumps(line)}\n")
    assert "| 1000.0 | 4000.0 | **4.0 x** | 1 / 4 (25%) |" in tables["step"]()
    assert "2.0 x" not in tables["step"](), "only the newest line of a case counts"
    assert tables["gpu"]() == "Not measured."


def test_accuracies_come_with_their_errors(tables, tmp_path):
    about = {"dataset": "x", "preset": "short", "n_test": 100, "epochs": 2, "protocol": "clean"}
    about["settings"] = {}
    runs = [("learned", 0, 0.5), ("learned", 1, 0.9), ("learned", 1, 0.7), ("fixed", 0, 0.4)]
    runs += [("fixed", 1, 0.6)]
    lines = [about | {"delays": d, "seed": s, "test_accuracy": a} for d, s, a in runs]
    (tmp_path / "accuracy.jsonl").write_text("\n".join(map(json.dumps, lines)))
    row = tables["accuracy"]().splitlines()[-1]
    assert "| 60.0% ± 10.0% | 50.0% ± 10.0% | not measured | 4.9% |" in row
    assert "+10.0 (p = 0.553)" in tables["differences"]()
