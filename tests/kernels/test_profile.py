"""The profile command and what it measures with."""

import dataclasses
import json
import subprocess
import sys

import pytest
import torch

from snndelay.kernels import OPS, Shape
from snndelay.kernels.ops import ROWS
from snndelay.kernels.profile import command as profile
from snndelay.kernels.profile import peers, rows
from snndelay.kernels.profile.measure import Ceilings, commit, peak_bytes, saved_bytes
from snndelay.runs.cli import main as snndelay_main

from ..conftest import assert_close
from ..helpers_training import ROOT, call
from ..snndelay.runs.test_audio_plots import assert_picture

LIMIT = Ceilings(1e9, 1e10, "float32")
TINY = Shape(T=6, B=2, C=5, N=33, K=5)
SHAPE = ",".join(f"{k}={v}" for k, v in dataclasses.asdict(TINY).items())
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _known_ceilings(monkeypatch, tmp_path):
    monkeypatch.setattr(profile, "ceilings", lambda device: LIMIT)
    monkeypatch.chdir(tmp_path)


# -- what it measures with ---


def test_saved_bytes_count_each_storage_once():
    x = torch.randn(1000, requires_grad=True)
    w = torch.randn(1000, requires_grad=True)
    assert saved_bytes(lambda: x * x) == 4000
    assert saved_bytes(lambda: x[:500] * x[500:]) == 4000, "two views of one storage"
    assert saved_bytes(lambda: x * w) == 8000
    assert saved_bytes(lambda: x * w, (w,)) == 4000
    with torch.no_grad():
        assert saved_bytes(lambda: x * w) == 0


def test_peak_bytes_see_what_is_freed_again():
    found = peak_bytes(lambda: torch.ones(2**24).sum(), CPU)
    if found is None:
        pytest.skip("this system does not tell the peak of resident memory")
    assert 0.9 * 2**26 < found < 1.3 * 2**26, f"{found} bytes instead of {2**26}"


def test_work_of_the_published_network():
    layers = [(140, 256), (256, 256), (256, 20)]  # SHD, batch 256, 120 steps, 25 taps
    work = [OPS["delay_conv"].forward(Shape(120, 256, C, N, 25)).flop for C, N in layers]
    assert sum(work) == pytest.approx(164e9, rel=0.01)
    assert OPS["delay_conv"].backward(Shape(120, 256, 256, 20, 25)).flop == 2 * work[2]
    lif = OPS["lif"].forward(Shape(112, 256, 1, 256, 1))
    assert lif.bytes == 2 * 4 * 112 * 256 * 256, "a current in, a spike out"
    assert OPS["lif"].neuron_steps(Shape(112, 256, 1, 256, 1)) == pytest.approx(7.3e6, rel=0.01)
    assert OPS["delay_linear"].synaptic_operations(TINY) == 6 * 2 * 5 * 33


def test_the_floor_is_the_slower_of_memory_and_products():
    for row, op in ROWS.items():
        for work in (op.forward(TINY), op.backward(TINY) if op.backward else op.forward(TINY)):
            assert work.floor_s(1.0, 1e18) == work.bytes, row
            assert work.floor_s(1e18, 2.0) == work.flop / 2, row


@pytest.mark.parametrize("row", ROWS)
def test_every_backend_of_a_row_is_measured_or_says_why_not(row):
    op = ROWS[row]
    assert "reference" in op.backends
    lines = list(rows.measure(row, TINY, [*op.backends], limit=LIMIT, rounds=1))
    assert [line["backend"] for line in lines] == [*op.backends]
    for line in lines:
        if "cannot_run" in line:
            assert line["backend"] == "triton", line["cannot_run"]
            continue
        for name in ("forward", "backward") if op.backward else ("forward",):
            p, work = line[name], getattr(op, name)(TINY)
            assert (p["flop"], p["bytes"]) == (work.flop, work.bytes)
            assert p["floor_s"] == max(work.bytes / 1e9, work.flop / 1e10)
            assert p["percent_of_floor"] == pytest.approx(100 * p["floor_s"] / p["seconds"])
            rate = op.neuron_steps(TINY) / p["seconds"]
            assert p["neuron_steps_per_s"] == pytest.approx(rate)
        assert ("backward" in line) == (op.backward is not None)
        assert line["saved_bytes"] == 0 or op.backward


def test_backends_alternate_and_the_median_counts(monkeypatch):
    order = []
    seconds = iter([9.0, 9.0, 1.0, 8.0, 5.0, 8.0, 3.0, 8.0])  # the first two runs warm up

    def once(contender, device):
        order.append(contender.path())
        return next(seconds), 1.0

    monkeypatch.setattr(rows, "_once", once)
    monkeypatch.setattr(rows, "peak_bytes", lambda run, device: run() and 0)
    names = ["cpu", "reference"]
    lines = list(rows.measure("lif", TINY, names, limit=LIMIT, rounds=3))
    assert order == names * 4
    assert [line["forward"]["seconds"] for line in lines] == [3.0, 8.0]


def test_a_checkout_knows_its_commit():
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True)
    if head.returncode:
        pytest.skip("no checkout")
    assert commit().removesuffix("-dirty") == head.stdout.strip()


# -- the peer ---


@pytest.mark.parametrize("row", [r for r in peers.PEERS if r != "delay_lif"])
def test_the_peer_computes_the_same(row):
    g = torch.Generator().manual_seed(0)
    inputs = ROWS[row].inputs(TINY, g, torch.float32)
    rival = peers.PEERS[row](*inputs)
    want, got = ROWS[row].run(*inputs, backend="reference"), rival.run()
    assert_close(got, want, 1e-5, row)
    assert rival.path()
    if ROWS[row].backward:
        grads = torch.autograd.grad(got, rival.leaves, torch.randn_like(got))
        assert all(g.abs().sum() > 0 for g in grads), "a leaf without gradient"


def test_compare_prints_ratios_and_the_path(tmp_path):
    options = ["--ops", "delay_lif", "lif:if", "--shape", SHAPE, "--rounds", 1, "--compare"]
    options += ["--backends", "reference", "--out", "lines.jsonl"]
    code, out, err = call(snndelay_main, "profile", *options)
    assert (code, err) == (0, "")
    ours, rival, alone = map(json.loads, (tmp_path / "lines.jsonl").read_text().splitlines())
    assert (rival["backend"], alone["op"]) == ("peer", "lif:if")
    for name in ("Dcls1d", "LIFNode", "Dropout"):
        assert name in rival["path"] and name in out
    total = {k: x["forward"]["seconds"] + x["backward"]["seconds"] for k, x in
             (("ours", ours), ("peer", rival))}  # fmt: skip
    assert ours["peer_over_this"]["both"] == pytest.approx(total["peer"] / total["ours"])
    assert "peer / this" in out


def test_compare_without_the_packages(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    code, _, err = call(snndelay_main, "profile", "--compare")
    assert code == 2
    assert (
        err == 'error: cannot compare: the package dcls is missing: pip install "snndelay[peers]"\n'
    )


# -- the command ---


def test_lines_and_picture(tmp_path):
    options = ["--shape", SHAPE, "--rounds", 1, "--threads", torch.get_num_threads()]
    options += ["--ops", "lif", "delay_linear", "--out", "lines.jsonl", "--plot", "roof.png"]
    for _ in range(2):
        code, out, err = call(snndelay_main, "profile", *options)
        assert (code, err) == (0, "")
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    rows = [(op, b) for op in ("lif", "delay_linear") for b in OPS[op].backends]
    assert [(x["op"], x["backend"]) for x in lines] == rows * 2, "a second run appends"
    for key in ("device", "threads", "torch", "triton", "numba", "commit", "ceilings", "shape"):
        assert all(key in line for line in lines), key
    assert "copy 1 GB/s, matmul float32 10 GFLOP/s" in out
    assert_picture(tmp_path / "roof.png")


def test_presets_are_the_published_layers(monkeypatch):
    from snndelay.runs.presets import preset_settings

    for name, shape in profile.SHAPES.items():
        if name in ("shd", "ssc"):
            p = preset_settings(name)
            assert (p["n_hidden"], p["max_delay_steps"]) == (shape.N, shape.K)
    monkeypatch.setattr(profile, "measure", lambda *a, **k: iter(()))
    code, out, _ = call(snndelay_main, "profile", "--preset", "2ms", "shd")
    assert code == 0
    assert "2ms: T 500, B 16, C 256, N 256, K 125" in out and "ssc" not in out


ERRORS = {
    "op": (["--ops", "lfi"], "unknown op 'lfi': did you mean lif?"),
    "backend": (["--backends", "cpu", "gpu"], "unknown backend 'gpu': "),
    "preset": (["--preset", "shdd"], "unknown preset 'shdd': did you mean shd?"),
    "shape": (["--shape", "T=5,X=3"], "change 'X=3'"),
    "empty shape": (["--shape", "T=0"], "change 'T=0'"),
    "shape and preset": (["--shape", "T=5", "--preset", "shd"], "leave one out"),
    "rounds": (["--rounds", "0"], "at least 1"),
    "threads": (["--threads", "many"], "invalid int value: 'many'"),
    "device": (["--device", "tpu"], "unknown device 'tpu'"),
    "option": (["--opps", "lif"], "--opps"),
    "folder": (["--out", "none/a.jsonl"], "there is no folder none"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_one_sentence(case):
    argv, words = ERRORS[case]
    for main, extra in ((snndelay_main, ["profile"]), (profile.main, [])):
        code, _, err = call(main, *extra, *argv)
        assert code == 2, err
        assert err.startswith("error: ") and len(err.splitlines()) == 1, err
        assert words in err, f"{words!r} is not in {err!r}"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_gpu_is_an_error():
    code, _, err = call(snndelay_main, "profile", "--device", "cuda")
    assert (code, err) == (
        2, "error: device is cuda, but torch sees no CUDA device: use --device cpu\n"
    )  # fmt: skip


def test_help_explains_every_option():
    code, out, err = call(snndelay_main, "profile", "--help")
    assert (code, err) == (0, "")
    text = " ".join(out.split())
    for action in profile.parser("x", plot=True)._actions:
        assert action.help.endswith("."), action.option_strings
        assert action.help in text, action.option_strings


def test_as_a_module():
    command = [sys.executable, "-m", "snndelay.kernels.profile"]
    run = subprocess.run([*command, "--plot", "a.png"], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("error: unrecognized arguments: --plot"), run.stderr
