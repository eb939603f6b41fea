"""What the doctor says of a machine that is well, and of an op that is not."""

import dataclasses

import pytest
import torch

from snndelay.kernels.dispatch import choose
from snndelay.kernels.ops import ROWS
from snndelay.runs import doctor
from snndelay.runs.cli import main

from ...helpers_training import call


def test_a_machine_that_is_well(tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "a.npy").write_bytes(b"x" * 12_345_678)
    code, out, err = call(main, "doctor", "--root", tmp_path)
    assert (code, err) == (0, "")
    for words in (f"torch {torch.__version__}", "cores for this process", "numba", "12.3 MB"):
        assert words in out, out
    for op, row in ROWS.items():
        for backend in row.backends:
            lines = [line.split() for line in out.splitlines()]
            assert any(line[:2] == [op, backend] for line in lines), (op, backend)
    assert "every backend that runs here computes what the reference says" in out
    assert "WRONG" not in out and "FAILED" not in out
    assert ("no GPU" in out) != torch.cuda.is_available()


def test_why_a_backend_does_not_run_is_no_fault(monkeypatch):
    def run(*inputs, backend):
        choose("lif", ("cpu", "reference"), backend, "cuda")

    monkeypatch.setattr(doctor, "ROWS", {"lif": dataclasses.replace(ROWS["lif"], run=run)})
    found = doctor.tried("lif", "cpu", torch.device("cpu"))
    assert found == ("it needs tensors on cpu, and these are on cuda", True)


def falls(*_):
    raise RuntimeError("illegal\ninstruction")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda y: y * 1.01, "WRONG, relative error 1e-02"),
        (falls, "FAILED, RuntimeError: illegal instruction"),
    ],
)
def test_an_op_that_is_not(fault, words, monkeypatch, tmp_path):
    row = ROWS["readout"]

    def run(*inputs, backend):
        y = row.run(*inputs, backend=backend)
        return fault(y) if backend == "cpu" else y

    monkeypatch.setattr(doctor, "ROWS", {"readout": dataclasses.replace(row, run=run)})
    code, out, err = call(main, "doctor", "--root", tmp_path)
    assert code == 1 and words in out, out
    assert err.startswith("error: 1 backends compute something else than the reference")


def test_spikes_that_move_are_seen(monkeypatch):
    row = ROWS["lif"]

    def run(*inputs, backend):
        y = row.run(*inputs, backend=backend)
        return 1 - y if backend == "cpu" else y

    monkeypatch.setattr(doctor, "ROWS", {"lif": dataclasses.replace(row, run=run)})
    text, good = doctor.tried("lif", "cpu", torch.device("cpu"))
    assert not good and "100.0% of the spikes differ" in text
