"""The benchmarks: each keeps its command, and no table claims what was not measured."""

import importlib
import json
import sys

import pytest
import torch
from PIL import Image

from snndelay import fit
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
    "name",
    ["accuracy", "transfer", "saccade", "gradients", "gallery", "step", "gpu", "speedrun"],
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


# -- a GPU, small on a CPU ---


@pytest.fixture
def parts(monkeypatch, tmp_path):
    """The parts of benchmarks/gpu.py, without a word to the rest of the process."""
    monkeypatch.setenv("HOME", str(tmp_path))  # clips that are made go to a cache there
    products, tf32 = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield benchmark(monkeypatch, "gpu_parts")
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = tf32


def test_ops_are_compared_with_the_reference(parts, monkeypatch):
    monkeypatch.setattr(parts, "ROWS", {k: parts.ROWS[k] for k in ("delay_linear", "lif")})
    lines = list(parts.correctness(CPU))
    assert [x["op"] for x in lines] == ["delay_linear"] * 3 + ["lif"]
    assert all(x["right"] for x in lines), lines


def test_a_wrong_op_is_named(parts, monkeypatch):
    monkeypatch.setattr(parts, "ROWS", {"readout": parts.ROWS["readout"]})
    monkeypatch.setattr(parts, "LIMITS", {"highest": (-1.0, 1.0)})
    found = []
    with pytest.raises(parts.Wrong, match="readout"):
        found.extend(parts.correctness(CPU))


def test_the_step_table_has_both_sides(parts):
    lines = list(parts.steps(CPU))
    assert {(x["what"], x["how"]) for x in lines} == {
        (what, how) for what in ("training step", "evaluation") for how in ("eager", "peer")
    }
    assert all(x["seconds"] > 0 for x in lines)


def test_the_step_table_does_without_a_peer(parts, monkeypatch):
    monkeypatch.setattr(parts.peers, "missing", lambda: "the package dcls is missing")
    first, *rest = parts.steps(CPU)
    assert first["cannot_run"] == "the package dcls is missing"
    assert {x["how"] for x in rest} == {"eager"} and len(rest) == 6


def test_steps_are_the_same_again(parts):
    (line,) = parts.capture(CPU)
    assert line["equal"] and line["error"] == 0


def test_temporal_gradients_and_ops_are_timed(parts, monkeypatch):
    monkeypatch.setattr(parts, "ceilings", lambda device: LIMIT)
    lines = list(parts.sltt(CPU))
    assert [x["mode"] for x in lines] == ["bptt", "sltt", "sltt, K = 2"]
    ops = {(x["op"], x["backend"]) for x in parts.ops(CPU)}
    assert {(op, "auto") for op in parts.TIMED} | {("delay_lif", "peer")} <= ops


def test_the_race_and_the_wait_for_data(parts):
    (line,) = parts.PARTS["speedrun"](CPU)
    assert (line["n_train"], line["n_test"], line["steps"]) == (24, 12, 3) and line["seconds"] > 0
    (line,) = parts.PARTS["wait"](CPU)
    assert 0 <= line["waiting"] < 1 and line["clips"] == 24


def test_a_part_that_fails_does_not_stop_the_rest(monkeypatch, tmp_path, capsys):
    gpu = benchmark(monkeypatch, "gpu")
    line = json.dumps({"part": "capture", "case": "shd", "equal": True})
    codes = {
        "correctness": "import sys; print('much', file=sys.stderr); sys.exit('no such device')",
        "capture": f"open('a.jsonl', 'a').write({line!r} + chr(10))",
        "step": "import time; time.sleep(60)",
        "sltt": "import os; os.abort()",
    }
    monkeypatch.setattr(gpu, "command", lambda part, o: [sys.executable, "-c", codes[part]])
    monkeypatch.setattr(gpu, "LIMITS", dict.fromkeys(codes, 20) | {"step": 1})
    shown = {"device": "x", "driver": "1", "torch": "2", "triton": "3", "commit": "c"}
    monkeypatch.setattr(sys.modules["common"], "RESULTS", tmp_path)
    codes["capture"] = codes["capture"].replace(line, json.dumps(json.loads(line) | shown))
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", "a.jsonl"])
    assert gpu.main() == 1
    made = [json.loads(x) for x in (tmp_path / "a.jsonl").read_text().splitlines()]
    failed = {x["part"]: x["failed"] for x in made if "failed" in x}
    assert failed == {
        "correctness": "no such device",
        "capture": None,
        "step": "took longer than its 1 s",
        "sltt": "ended with code -6",
    }
    assert "bit for bit in 1 of 1 networks (shd)" in capsys.readouterr().out


@pytest.mark.slow
def test_the_whole_command_runs_on_a_cpu(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    gpu = benchmark(monkeypatch, "gpu")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--out", "a.jsonl"])
    assert gpu.main() == 0
    made = [json.loads(x) for x in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert {x["part"] for x in made} == set(gpu.LIMITS) - {"tests"}


def test_speedrun_on_a_few_clips(monkeypatch, tmp_path):
    speedrun = benchmark(monkeypatch, "speedrun")
    words = "speedrun.py --clips 20 10 --cache clips --epochs 1 --device cpu --out a.jsonl"
    monkeypatch.setattr(sys, "argv", [*words.split(), "--set", "n_hidden=8", "batch_size=9"])
    speedrun.main()
    (line,) = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    assert line["steps"] == 3 and line["graphs"] == 0 and line["seconds"] > 0
    assert line["settings"] == {"n_hidden": 8, "batch_size": 9} and line["n_test"] == 10
    torch.set_float32_matmul_precision("highest")


def test_a_speedrun_trains_as_train_py_does(monkeypatch, tmp_path):
    speedrun = benchmark(monkeypatch, "speedrun")
    small = dict(n_hidden=8, batch_size=8, epochs=2, max_delay_steps=5, device="cpu")
    flat = speedrun.settings_of(None, (24, 12), "clips", **small)
    line = speedrun.run(speedrun.from_flat(flat), "default", lambda text: None)
    summary = fit(flat | {"run": "same", "runs": "."}, draw=False)
    last = json.loads((tmp_path / "same" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["loss"] == last["loss"] and line["test_accuracy"] == summary["test_accuracy"]
    torch.set_float32_matmul_precision("highest")


# -- tables ---


@pytest.fixture
def tables(monkeypatch, tmp_path):
    """The makers of tables, reading result files in the current folder."""
    made = benchmark(monkeypatch, "tables")
    monkeypatch.setattr(sys.modules["tables_common"], "RESULTS", tmp_path)
    return made.TABLES


def test_tables_say_what_was_not_measured(tables):
    names = ("step", "ops", "ksweep", "gpu", "records", "gradients", "neurons", "transfer")
    for name in (*names, "saccade"):
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


GPU = {"device": "NVIDIA x", "driver": "1", "torch": "2", "triton": "3", "commit": "c"}


def test_the_table_of_a_gpu_comes_from_its_lines(tables, tmp_path):
    sizes = {"case": "shd", "T": 1, "B": 3, "C": 2, "N": 3, "layers": 2, "K": 5}
    line = {"part": "step", **sizes, "what": "training step", "precision": "default", **GPU}
    lines = [
        line | {"how": "eager", "seconds": 5e-3, "peak_bytes": 2e6},
        line | {"how": "graph", "seconds": 9e-3},
        line | {"how": "graph", "seconds": 2e-3},
        line | {"how": "graph", "cannot_run": "why"},
        line | {"how": "peer", "seconds": 2e-2, "peak_bytes": 9e6, "path": "LIFNode"},
        line | {"how": "eager", "seconds": 7.0, "device": "CPU y", "peak_bytes": 1},
        {"part": "step", "seconds_of_part": 3.0, "failed": None},
    ]
    (tmp_path / "gpu.jsonl").write_text("\n".join(map(json.dumps, lines)))
    row = "| training step | default | 5.00 | 2.00 | 20.00 | **10.0 x** | 2 / 9 |"
    assert row in tables["gpu"]()
    assert "NVIDIA x, driver 1, torch 2, triton 3, commit c." in tables["gpu"]()


def test_a_record_is_faster_than_all_before_it(tables, tmp_path):
    line = {"data": "shd", "settings": {}, "open_seconds": 1, "compile_seconds": 2, **GPU}
    line |= {"test_accuracy": 0.9, "n_test": 5, "precision": "default", "what": "w"}
    runs = [(150, 14.0, {}), (150, 15.0, {}), (3, 0.2, {}), (150, 1.0, {"n_hidden": 1})]
    runs += [(150, 12.0, {})]
    lines = [line | {"epochs": e, "seconds": s, "settings": c} for e, s, c in runs]
    (tmp_path / "speedrun.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows = tables["records"]().splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| **14.00**", "| **12.00**"]


def test_accuracies_come_with_their_errors(tables, tmp_path):
    about = {
        "dataset": "x",
        "preset": "audio-small",
        "n_test": 100,
        "epochs": 2,
        "protocol": "clean",
    }
    about["settings"] = {}
    runs = [("learned", 0, 0.5), ("learned", 1, 0.9), ("learned", 1, 0.7), ("fixed", 0, 0.4)]
    runs += [("fixed", 1, 0.6)]
    lines = [about | {"delays": d, "seed": s, "test_accuracy": a} for d, s, a in runs]
    (tmp_path / "accuracy.jsonl").write_text("\n".join(map(json.dumps, lines)))
    row = tables["accuracy"]().splitlines()[-1]
    assert "| 60.0% ± 10.0% | 50.0% ± 10.0% | not measured | not measured | 4.9% |" in row
    assert "+10.0 (p = 0.553)" in tables["differences"]()


def test_recurrent_measures_the_same_neurons(monkeypatch, tmp_path):
    recurrent = benchmark(monkeypatch, "recurrent")
    kinds = ("axonal", "none", "synaptic")
    cases = [recurrent.Case(kind, 12, 3, 1 if kind == "none" else 4, T=9) for kind in kinds]
    monkeypatch.setattr(recurrent, "CASES", cases)
    words = "recurrent.py --rounds 1 --backend reference --out a.jsonl"
    monkeypatch.setattr(sys, "argv", words.split())
    recurrent.main()
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [x["kind"] for x in lines] == list(kinds) and all(x["rate"] > 0 for x in lines)
    assert lines[0]["lean_over_ours"] == lines[0]["seconds"]["lean"] / lines[0]["seconds"]["ours"]
    monkeypatch.setattr(recurrent, "ours", lambda c, backend, x, w, taps: x * w.sum())
    with pytest.raises(SystemExit, match="spikes differ"):
        recurrent.compare(cases[1], "reference", 1)
