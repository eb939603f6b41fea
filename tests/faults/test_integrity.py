"""Checkpoints of a run that were damaged, or that hold code."""

import hashlib
import io
import os
import pickle
import random

import pytest
import torch

from snndelay.errors import CheckpointCorrupt
from snndelay.runs import checkpoint
from snndelay.runs.training import fit

from ..helpers_runs import settings_of
from .conftest import often


@pytest.fixture
def run(files, tmp_path):
    """Folder of a run, and what it would go on from if its last checkpoint were lost."""
    flat = settings_of("audio", files, "", "") | {"runs": str(tmp_path), "run": "run"}
    fit(flat, draw=False)
    return tmp_path / "run", checkpoint.load(tmp_path / "run" / checkpoint.PREVIOUS)["epoch"]


def assert_refused(folder, content, previous):
    """Such a checkpoint is not read, and the one before it is."""
    (folder / checkpoint.NEWEST).write_bytes(content)
    with pytest.raises(CheckpointCorrupt):
        checkpoint.load_run(folder / checkpoint.NEWEST)
    state, warning = checkpoint.load_newest(folder)
    assert state["epoch"] == previous and f"going on with {checkpoint.PREVIOUS}" in f"{warning}"


@often(20, 200)
def test_flipped_bits(tries, trial, run):
    folder, previous = run
    whole, draw = (folder / checkpoint.NEWEST).read_bytes(), random.Random(tries)
    for _ in range(tries):
        at, bit = draw.randrange(len(whole)), draw.randrange(8)
        with trial("integrity", f"bit {bit} of byte {at}"):
            spoilt = bytearray(whole)
            spoilt[at] ^= 1 << bit
            assert_refused(folder, bytes(spoilt), previous)


@often(5, 1000)
def test_cut_at_every_kilobyte(tries, trial, run):
    folder, previous = run
    whole = (folder / checkpoint.NEWEST).read_bytes()
    for length in [*range(0, len(whole), 1024)][:tries]:
        with trial("integrity", f"cut after {length} of {len(whole)} bytes"):
            assert_refused(folder, whole[:length], previous)


class Runs:
    """Runs something when it is unpickled."""

    def __init__(self, function, *given):
        self.call = function, given

    def __reduce__(self):
        return self.call


PROGRAM = "open('evil', 'w')"
HOSTILE = {
    "mkdir": Runs(os.mkdir, "evil"),
    "system": Runs(os.system, "touch evil"),
    "eval": Runs(eval, PROGRAM),
    "exec": Runs(exec, PROGRAM),
    "pickle": Runs(pickle.loads, pickle.dumps(Runs(os.mkdir, "evil"))),
    "load": Runs(torch.load, "evil.pt"),
}


@often(len(HOSTILE), len(HOSTILE))
def test_code_is_never_run(tries, trial, run, tmp_path, monkeypatch):
    folder, previous = run
    monkeypatch.chdir(tmp_path)
    state = checkpoint.load(folder / checkpoint.PREVIOUS)
    for name, evil in [*HOSTILE.items()][:tries]:
        with trial("integrity", f"code by {name}"):
            buffer = io.BytesIO()
            torch.save(state | {"model": state["model"] | {"more": evil}}, buffer)
            raw = buffer.getvalue()
            assert_refused(folder, raw + hashlib.sha256(raw).digest(), previous)
            assert not (tmp_path / "evil").exists(), "the code was run"
