"""The benchmarks of loaders: the same batches as the peers', and figures that hang together."""

import importlib
import json
import resource
import sys

import pytest

from .helpers_training import ROOT


def module(monkeypatch, name: str):
    """A file of benchmarks/ as a module, newly imported, that lets this process keep its cores."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    sys.modules.pop(name, None)
    found = importlib.import_module(name)
    monkeypatch.setattr(found.os, "sched_setaffinity", lambda *_: None)
    monkeypatch.setattr(found, "keep_freed_memory", lambda: None)
    return found


@pytest.mark.parametrize("case", ["clips", "digits", "pictures"])
def test_all_loaders_give_our_batches(monkeypatch, tmp_path, case):
    data = module(monkeypatch, "data")
    sizes = {"clips": (9, 50), "digits": (11, 60), "pictures": (5, None)}
    monkeypatch.setattr(data, "SIZES", sizes)
    monkeypatch.setattr(data, "BATCH", dict.fromkeys(sizes, 4))
    words = f"data.py --only {case} --rounds 1 --folder {tmp_path} --out {tmp_path / 'a.jsonl'}"
    monkeypatch.setattr(sys, "argv", words.split())
    data.main()
    line = json.loads((tmp_path / "a.jsonl").read_text())
    assert line["case"] == case and line["samples"] == sizes[case][0]
    peers = {"tonic", "tonic, cached"} | ({"spikingjelly"} if case != "clips" else set())
    assert set(line["over_ours"]) == peers
    seconds, ratio = line["seconds"], line["over_ours"]["tonic"]
    for when in ("first", "later"):
        assert ratio[when] == seconds["tonic"][when] / seconds["ours"][when] > 0
    assert [*tmp_path.iterdir()] == [tmp_path / "a.jsonl"], "files are left behind"


def test_batches_that_differ_are_not_timed(monkeypatch, tmp_path):
    data = module(monkeypatch, "data")
    monkeypatch.setattr(data, "SIZES", {"digits": (3, 60)})
    words = f"data.py --only digits --rounds 1 --folder {tmp_path} --out {tmp_path / 'a.jsonl'}"
    monkeypatch.setattr(sys, "argv", words.split())
    monkeypatch.setattr(data.ByNumber, "frames", lambda self, path: data.np.zeros((10, 2, 34, 34)))
    with pytest.raises(SystemExit, match=r"digits: \d+ of \d+ counts of spikingjelly differ"):
        data.main()
    assert not (tmp_path / "a.jsonl").exists()


def test_the_whole_set_is_framed_in_parts_and_trained_on(monkeypatch, tmp_path):
    whole = module(monkeypatch, "data_whole")
    monkeypatch.setattr(whole, "RECORDINGS", 202)
    synthetic = importlib.import_module("synthetic")
    monkeypatch.setattr(synthetic, "EVENTS", 300)
    words = f"data_whole.py --folder {tmp_path} --batches 2 --out {tmp_path / 'a.jsonl'}"
    monkeypatch.setattr(sys, "argv", words.split())
    whole.main()
    *made, training = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    assert [line["samples"] for line in made] == [25, 50, 101, 202]
    assert all(line["frame_bytes"] == line["samples"] * 6 * 2 * 180 * 240 for line in made)
    assert 0 < training["waiting"] < 1 and training["wait_seconds"] < training["step_seconds"]
    now = training["own_bytes"] + training["file_bytes"]
    assert 10**8 < now < 1.1 * training["peak_bytes"], "of this process alone"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert training["peak_bytes"] <= peak, "what git took is counted too"
    assert [*tmp_path.iterdir()] == [tmp_path / "a.jsonl"], "the set is left behind"
