"""metrics.jsonl that is damaged: what is read of it, and what a run that goes on says and keeps."""

import json
import shutil
import sys

import pytest

from snndelay.errors import Interrupted, RunError
from snndelay.runs import audio, checkpoint, training
from snndelay.runs.report import read_lines, read_metrics, spike_line
from snndelay.runs.training import fit

from ...helpers_training import TINY

RECORDS = [{"epoch": k, "loss": 1 / k, "accuracy": 0.5, "seconds": 1.0} for k in range(1, 6)]
LINES = [json.dumps(record) for record in RECORDS]
DAMAGED = {  # what stands in the place of the second line, or of all
    "nothing": "",
    "half a line": LINES[1][:20],
    "garbage": "\x00\x01 garbage",
    "no object": "[1, 2]",
    "a number": "7",
    "no epoch": '{"loss": 1, "accuracy": 1, "seconds": 1}',
    "epoch is text": LINES[1].replace("2", '"2"', 1),
    "no loss": '{"epoch": 2, "accuracy": 1, "seconds": 1}',
    "loss is text": '{"epoch": 2, "loss": "1", "accuracy": 1, "seconds": 1}',
    "deep": "[" * 100_000,
    "5,000 digits": f'{{"epoch": {"9" * 5000}}}',
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_line_is_left_out_and_no_other(tmp_path, kind):
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join([LINES[0], DAMAGED[kind], *LINES[2:]]))
    assert read_metrics(path) == [RECORDS[0], *RECORDS[2:]]


@pytest.mark.parametrize(("hidden", "warns"), [(0.0, True), (0.1, False), (None, False)])
def test_a_network_that_never_spikes_is_said(hidden, warns):
    counts = {"input": 3.0} | ({} if hidden is None else {"hidden": hidden})
    line = spike_line({"kind": "audio", "spikes_per_inference": counts})
    assert ("no hidden neuron spikes" in line) == warns


def test_records_are_in_order_and_of_an_epoch_the_last(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes("\n".join([*LINES[::-1], *LINES]).encode() + b"\n\xff\xfe{}\n")
    assert read_metrics(path) == RECORDS
    again = json.dumps(RECORDS[2] | {"loss": float("nan")})
    path.write_text("\n".join([*LINES, again]))
    assert str(read_metrics(path)[2]["loss"]) == "nan" and len(read_lines(path)) == 6
    assert read_metrics(tmp_path / "none") == []


@pytest.fixture(scope="module")
def begun(files, tmp_path_factory):
    """(settings, folder) of a run of five epochs that was stopped after four."""
    flat = dict(TINY, dataset=files[0], test_file=files[1], epochs=5, valid_fraction=0.25)
    folder = tmp_path_factory.mktemp("begun")
    save, saved = checkpoint.save, []

    def save_then_stop(path, state):
        save(path, state)
        saved.append(path.name)
        if path.name == "last.pt" and saved.count("last.pt") == 4:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", save_then_stop)
        with pytest.raises(Interrupted):
            fit(flat | {"runs": str(folder), "run": "a"})
    assert [r["epoch"] for r in read_metrics(folder / "a/metrics.jsonl")] == [1, 2, 3, 4]
    return flat, folder / "a"


CHANGES = {  # what becomes of four lines -> the epochs that are lost
    "whole": (lambda lines: lines, []),
    "the last is half": (lambda lines: [*lines[:3], lines[3][:30]], [4]),
    "garbage among them": (lambda lines: [lines[0], "garbage", *lines[1:]], []),
    "the second is gone": (lambda lines: [lines[0], *lines[2:]], [2]),
    "doubled": (lambda lines: lines * 2, []),
    "later epochs": (lambda lines: [*lines, lines[3].replace('"epoch": 4', '"epoch": 5')], []),
    "no objects": (lambda lines: ["7"] * 4, [1, 2, 3, 4]),
    "removed": (None, [1, 2, 3, 4]),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_run_goes_on_and_says_which_epochs_are_lost(begun, tmp_path, capsys, monkeypatch, kind):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    flat, folder = begun
    change, lost = CHANGES[kind]
    shutil.copytree(folder, tmp_path / "a")
    path = tmp_path / "a" / "metrics.jsonl"
    if change is None:
        path.unlink()
    else:
        path.write_text("\n".join(change(path.read_text().splitlines())))
    drawn = kind in ("whole", "removed")
    summary = fit(flat | {"runs": str(tmp_path), "run": "a"}, resume=tmp_path / "a", draw=drawn)
    assert summary["epochs"] == 5 and summary["valid_accuracy"] is not None
    kept = [json.loads(line)["epoch"] for line in path.read_text().splitlines()]
    assert kept == [epoch for epoch in range(1, 6) if epoch not in lost], kept
    said = capsys.readouterr().err
    if lost:
        words = f"no whole lines of {len(lost)} of 4 epochs, the first {lost[0]}"
        assert said.startswith("warning: ") and words in said and said.count("\n") == 1
    else:
        assert said == ""
    assert (tmp_path / "a/learning_curves.png").exists() == drawn


@pytest.mark.parametrize("lines", [0, 3])
def test_a_run_that_lost_its_last_line_after_all_epochs(begun, tmp_path, monkeypatch, lines):
    flat, folder = begun
    shutil.copytree(folder, tmp_path / "a")
    go_on = dict(resume=tmp_path / "a", draw=False)
    with monkeypatch.context() as patch:
        patch.setattr(training, "finish", lambda *_: {})
        fit(flat | {"runs": str(tmp_path), "run": "a"}, **go_on)
    path = tmp_path / "a" / "metrics.jsonl"
    want = read_metrics(path)[-1]["valid_accuracy"]
    kept = [json.dumps(r | {"valid_accuracy": 7}) for r in read_metrics(path)[:lines]]
    path.write_text("\n".join(kept))
    assert fit(flat | {"runs": str(tmp_path), "run": "a"}, **go_on)["valid_accuracy"] == want


def test_a_damaged_summary_is_written_anew_when_it_is_deleted(begun, tmp_path):
    flat, folder = begun
    shutil.copytree(folder, tmp_path / "a")
    go_on = dict(resume=tmp_path / "a", draw=False)
    summary, path = fit(flat | {"runs": str(tmp_path), "run": "a"}, **go_on), tmp_path / "a"
    for text in ("", "{}", '{"accuracy": 1}', "[]", "[" * 100_000, "\xff"):
        (path / "summary.json").write_text(text, encoding="latin-1")
        with pytest.raises(RunError, match=r"summary\.json.*: delete it, and --resume writes"):
            fit(flat, **go_on)
    (path / "summary.json").unlink()
    assert fit(flat | {"runs": str(tmp_path), "run": "a"}, **go_on) == summary


def test_a_run_whose_picture_fails_has_its_summary(begun, tmp_path, capsys, monkeypatch):
    flat, folder = begun
    shutil.copytree(folder, tmp_path / "a")

    def broken(*_, **__):
        raise ValueError("no\nglyph")

    monkeypatch.setattr(audio.AudioJob, "draw", broken)
    fit(flat | {"runs": str(tmp_path), "run": "a"}, resume=tmp_path / "a")
    assert (tmp_path / "a/summary.json").exists()
    text = "warning: a picture of this run was not drawn (ValueError: no glyph)\n"
    assert capsys.readouterr().err == text
