"""Weights in a file: what was trained comes back, and what is hostile or damaged is refused."""

import contextlib
import json
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from safetensors.torch import load as tensors_of
from safetensors.torch import save

import snndelay
from snndelay.errors import CheckpointCorrupt, RunError
from snndelay.runs.cli import main

from ...helpers_training import TINY, call


@pytest.fixture(scope="module")
def exported(files, tmp_path_factory):
    """(folder of a run, file of its weights)"""
    folder = tmp_path_factory.mktemp("runs")
    flat = {"dataset": files[0], "test_file": files[1], "runs": str(folder), "run": "a", **TINY}
    snndelay.fit(flat | {"delays": "learned"}, draw=False)
    return folder / "a", snndelay.export_weights(folder / "a", folder / "a.safetensors")


def test_the_network_comes_back(exported):
    run, path = exported
    one, other = snndelay.load(run), snndelay.load(path)
    x_TBC = torch.rand(20, 3, 10).round()
    assert torch.equal(one.net(x_TBC), other.net(x_TBC)) and not other.net.training
    assert one.classes == other.classes and one.settings.network == other.settings.network
    assert b"/" not in path.read_bytes()[:100], "no path of this machine"


def test_from_the_command_line(exported, tmp_path):
    out = tmp_path / "b.safetensors"
    code, text, err = call(main, "export", exported[0], "--weights", out)
    assert (code, text, err) == (0, f"{out}\n", "") and out.read_bytes() == exported[1].read_bytes()
    for argv, words in (
        (("export", exported[0]), "add --weights OUT.safetensors"),
        (
            ("export", exported[0], "--weights", "b.pt"),
            "ends in .safetensors, not b.pt",
        ),
        (("export", "none", "--weights", out), "none is no run"),
        (("export", exported[0], "--weights", "no/such/b.safetensors"), "cannot write no/such"),
    ):
        code, _, err = call(main, *argv)
        assert code == 2 and words in err and len(err.splitlines()) == 1, err
    with pytest.raises(RunError, match="cannot read"):
        snndelay.load(tmp_path / "none.safetensors")


def changed(path, about=lambda about: about, tensors=lambda tensors: tensors) -> bytes:
    """The file with other settings or tensors."""
    raw = path.read_bytes()
    (n,) = struct.unpack("<Q", raw[:8])
    found = json.loads(json.loads(raw[8 : 8 + n])["__metadata__"]["snndelay"])
    return save(tensors(tensors_of(raw)), {"snndelay": json.dumps(about(found))})


WEIGHT = "blocks.0.delay.weight"


def with_settings(**settings):
    return lambda about: about | {"settings": about["settings"] | settings}


def hostile():
    """Name -> (file -> bytes, words of the sentence)."""
    huge = struct.pack("<Q", 2**62)

    def tensor(value):
        return lambda tensors: tensors | {WEIGHT: value(tensors[WEIGHT])}

    return {
        "empty": (lambda path: b"", "holds no weights"),
        "header": (lambda path: huge + b"{}", f"its header says it has {2**62} bytes"),
        "long header": (
            lambda path: struct.pack("<Q", 99_000_000) + b" " * 99, "says it has 99000000 bytes"),
        "nested": (
            lambda path: struct.pack("<Q", 200_000) + b"[" * 200_000, "holds no weights"),
        "plain": (lambda path: save({"a": torch.ones(2)}), "it has no settings"),
        "list": (
            lambda path: save({"a": torch.ones(2)}, {"snndelay": "[]"}), "settings are no object"),
        "words": (
            lambda path: save({"a": torch.ones(2)}, {"snndelay": "{}"}), "describes no network"),
        "wide": (
            lambda path: changed(path, with_settings(n_hidden=1_000_000)), "(1, 1000000, 10)"),
        "unknown": (
            lambda path: changed(path, with_settings(nonsense=1)), "unknown setting 'nonsense'"),
        "value": (lambda path: changed(path, with_settings(tau="x")), "tau is 'x'"),
        "sizes": (
            lambda path: changed(path, lambda a: a | {"sizes": {"tau": 3}}), "sizes of tau"),
        "classes": (lambda path: changed(path, lambda a: a | {"classes": 3}), "no network"),
        "dtype": (lambda path: changed(path, tensors=tensor(torch.Tensor.double)), "torch.float64"),
        "whole": (lambda path: changed(path, tensors=tensor(torch.Tensor.int)), "is torch.int32"),
        "shape": (lambda path: changed(path, tensors=tensor(lambda x: x[:, :1])), "(1, 1, 10)"),
        "nan": (lambda path: changed(path, tensors=tensor(lambda x: x / 0 * 0)), "NaN or infinite"),
        "missing": (
            lambda path: changed(path, tensors=lambda t: {k: t[k] for k in t if k != WEIGHT}),
            "weight is missing"),
        "more": (
            lambda path: changed(path, tensors=lambda t: t | {"x": torch.ones(1)}),
            "x belongs to no network"),
    }  # fmt: skip


@pytest.mark.parametrize("name", hostile())
def test_a_hostile_file_is_one_sentence(name, exported, tmp_path):
    make, words = hostile()[name]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(make(exported[1]))
    tracemalloc.start()
    with pytest.raises(CheckpointCorrupt) as caught:
        snndelay.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert words in str(caught.value) and "\n" not in str(caught.value), str(caught.value)
    assert peak < 64e6, f"{peak / 1e6} MB for {path.stat().st_size} bytes"


def test_damaged_files_are_read_as_they_were_or_refused(exported, tmp_path):
    raw, path = exported[1].read_bytes(), tmp_path / "bad.safetensors"
    rng = np.random.default_rng(0)
    (n,) = struct.unpack("<Q", raw[:8])
    for _ in range(400):
        bad = bytearray(raw)
        if rng.random() < 0.2:
            del bad[rng.integers(len(bad)) :]
        else:
            bad[rng.integers(8 + n)] ^= 1 << rng.integers(8)
        path.write_bytes(bad)
        with contextlib.suppress(CheckpointCorrupt):
            snndelay.load(path)
