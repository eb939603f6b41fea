"""`predict`: every sample that can be read, labelled or not, as the run itself evaluates it."""

import csv
import io
import json
import math
import os
import shutil
import types
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import snndelay
from snndelay.errors import ConfigError, DataError
from snndelay.losses import LOSSES
from snndelay.runs import checkpoint, predictions
from snndelay.runs.audio import open_job as open_audio
from snndelay.runs.cli import main
from snndelay.runs.vision import open_job as open_vision

from ...helpers_training import call, write_tiny
from ...helpers_vision import CLASSES
from .test_saved import run, vision_run


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch):
    for job in ("audio.AudioJob", "vision.VisionJob"):
        monkeypatch.setattr(f"snndelay.runs.{job}.draw", lambda *_, **__: [])


def correct(result: dict) -> dict:
    return {row["class"]: row["correct"] for row in result["classes"]}


def found_correct(predicted: list, classes: list[str]) -> dict:
    return {c: sum(p.label == c == p.classes[0] for p in predicted) for c in classes}


@pytest.mark.parametrize("settings", [{}, {"n_steps": None}, {"framing": "event"}])
def test_predictions_of_clips_are_those_of_evaluation(settings, files, tmp_path):
    run(files, tmp_path, run="a", **settings)
    want = snndelay.evaluate(tmp_path / "a")
    for batch_size in (None, 1, 5):
        predicted = list(snndelay.predict(tmp_path / "a", files[1], batch_size=batch_size))
        assert len(predicted) == want["n"] and all(p.error is None for p in predicted)
        assert found_correct(predicted, [*correct(want)]) == correct(want)
        assert [p.name for p in predicted] == [f"test.h5:{i}" for i in range(6)]
        assert all(p.latency_ms > 0 and p.in_frames == 1 for p in predicted)


def test_predictions_of_recordings_are_those_of_evaluation(tmp_path):
    how = {"frame_size": 12, "v_threshold": 0.1, "amp": False}
    vision_run(tmp_path, transfer="off", static=None, **how)
    want = snndelay.evaluate(tmp_path / "a")
    folder = tmp_path / "data/recordings"
    predicted = list(snndelay.predict(tmp_path / "a", folder, batch_size=3))
    assert len(predicted) == want["n"], "recordings that trained the run are predicted too"
    assert found_correct(predicted, list(CLASSES)) == correct(want)
    net, settings, _ = snndelay.load(tmp_path / "a")
    job = open_vision(settings)
    with torch.no_grad():
        o_TBN = torch.cat([net(batch.x) for batch in job.batches(job.test)], dim=1)
    got = torch.tensor([p.probabilities[0] for p in predicted])
    torch.testing.assert_close(got, o_TBN.mean(0).softmax(-1).amax(-1))
    assert len(got.unique()) > 1, "all recordings look the same to this network"
    shutil.copytree(folder, tmp_path / "copy")
    everywhere = {p.name: p for p in snndelay.predict(tmp_path / "a", tmp_path / "copy")}
    for p in predicted:
        assert everywhere[p.name].classes == p.classes and everywhere[p.name].label == p.label
        assert math.isclose(everywhere[p.name].probabilities[0], p.probabilities[0], rel_tol=1e-5)
    assert [*everywhere] == sorted(everywhere), "not in the order of the files"


@pytest.mark.parametrize("loss", LOSSES)
def test_probabilities_are_what_the_loss_takes_for_them(loss, files, tmp_path):
    of_spikes = LOSSES[loss].of_spikes
    run(files, tmp_path, run="a", loss=loss, readout="spikes" if of_spikes else "leaky")
    saved = snndelay.load(tmp_path / "a")
    (batch,) = open_audio(saved.settings).batches(open_audio(saved.settings).test, batch_size=6)
    with torch.no_grad():
        v_TBN = saved.net(batch.x).float()
    predicted = list(snndelay.predict(tmp_path / "a", files[1], top=3))
    values = torch.tensor(
        [[dict(zip(p.classes, p.probabilities, strict=True))[c] for c in saved.classes]
         for p in predicted]
    )  # fmt: skip
    if loss == "spike_count_mse":
        torch.testing.assert_close(values, v_TBN.sum(0))
        return
    torch.testing.assert_close(values.sum(-1), torch.ones(6))
    if loss == "tet":  # of every step: no single softmax
        torch.testing.assert_close(values, v_TBN.log_softmax(-1).mean(0).softmax(-1))
        return
    want = LOSSES[loss](v_TBN, batch.label_B)
    got = -values.gather(-1, batch.label_B[:, None]).log().mean()
    torch.testing.assert_close(got, want)


def test_a_loss_without_probabilities_says_so(files, tmp_path):
    run(files, tmp_path, run="a", loss="spike_count_mse", readout="spikes")
    out = tmp_path / "p.csv"
    code, _, err = call(main, "predict", tmp_path / "a", files[1], "--out", out)
    assert code == 0 and "loss spike_count_mse makes no probabilities" in err
    assert out.read_text().startswith("name,label,class,score,latency_ms,in_frames\n")


def messy_clips(folder: Path) -> None:
    """Files of clips at two depths, good and bad ones, and others."""
    (folder / "süb/_no").mkdir(parents=True)
    good = write_tiny(folder / "a.h5", 3)
    shutil.copy(good, folder / "süb/.hidden.h5")
    shutil.copy(good, folder / "süb/_no/b.h5")
    (folder / "süb/cut.h5").write_bytes(Path(good).read_bytes()[:3000])
    (folder / "süb/empty.H5").write_bytes(b"")
    (folder / "süb/notes.md").write_text("nothing")
    (folder / "süb/z.txt").write_text("t,unit\n0.1,5\n0.15,600\n")
    (folder / "süb/gone.h5").symlink_to("nowhere.h5")
    (folder / "loop").symlink_to(".")
    os.mkfifo(folder / "pipe.h5")
    shutil.copy(good, folder / "bare.h5")
    with h5py.File(folder / "bare.h5", "a") as file:
        del file["labels"], file["extra"]
        times = file["spikes/times"][1]
        file["spikes/times"][1] = -1 - times


def test_what_cannot_be_read_is_named_and_skipped(files, tmp_path):
    run(files, tmp_path, run="a")
    messy_clips(tmp_path / "mess")
    predicted = list(snndelay.predict(tmp_path / "a", tmp_path / "mess"))
    good = [p.name for p in predicted if p.error is None]
    assert good == ["a.h5:0", "a.h5:1", "a.h5:2", "bare.h5:0", "bare.h5:2", "süb/z.txt"]
    bad = {p.name: p.error for p in predicted if p.error is not None}
    assert [*bad] == ["bare.h5:1", "pipe.h5", "süb/cut.h5", "süb/empty.H5", "süb/gone.h5"]
    assert "negative" in bad["bare.h5:1"] and "no file that can be read" in bad["süb/gone.h5"]
    assert [p.label for p in predicted[:4]] == ["zero", "one", "two", None]
    code, out, err = call(main, "predict", tmp_path / "a", tmp_path / "mess")
    assert code == 1 and "error: 5 of 11 samples cannot be used, see above" in err
    assert err.count("skipped: ") == 5 and "passed over 1 files" in err and "(.md 1)" in err
    assert "(n = 3 of 6, those of known class" in out


def test_a_damaged_recording_among_good_ones(tmp_path):
    vision_run(tmp_path, transfer="off", static=None)
    mess = tmp_path / "mess"
    shutil.copytree(tmp_path / "data/recordings/bar", mess / "deep/er/bar")
    files = sorted((mess / "deep/er/bar").iterdir())
    files[1].write_bytes(files[1].read_bytes()[:-2])
    files[2].write_bytes(b"")
    files[3].write_bytes(b"\xc8" + files[3].read_bytes()[1:])
    (mess / "unknown.bin").write_bytes(files[0].read_bytes())
    (mess / "gone.bin").symlink_to("nowhere.bin")
    predicted = list(snndelay.predict(tmp_path / "a", mess))
    bad = [p.error for p in predicted if p.error is not None]
    assert ["5-byte record" in bad[0], "no events" in bad[1], "x 200" in bad[2]] == [True] * 3
    assert len(bad) == 4 and len(predicted) == len(files) + 2
    labels = {p.name: p.label for p in predicted}
    assert labels["unknown.bin"] is None and labels[f"deep/er/bar/{files[0].name}"] == "bar"


def test_a_run_of_an_earlier_version_is_asked_for_its_sensor(tmp_path):
    how = {"frame_size": 12, "v_threshold": 0.1, "amp": False}
    vision_run(tmp_path, transfer="off", static=None, **how)
    path = tmp_path / "a/last.pt"
    state = checkpoint.load(path, torch.device("cpu"))
    assert state.pop("sensor") == [16, 16]
    shutil.copy(next((tmp_path / "data/recordings/dot").iterdir()), tmp_path / "one.bin")
    (want,) = snndelay.predict(tmp_path / "a", tmp_path / "one.bin")
    checkpoint.save(path, state)
    assert next(snndelay.predict(tmp_path / "a", tmp_path / "one.bin"))[:3] == want[:3]
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(DataError, match="give --sensor HEIGHT WIDTH"):
        snndelay.predict(tmp_path / "a", tmp_path / "one.bin")
    (got,) = snndelay.predict(tmp_path / "a", tmp_path / "one.bin", sensor=(16, 16))
    assert got[:3] == want[:3]
    (other,) = snndelay.predict(tmp_path / "a", tmp_path / "one.bin", sensor=(20, 32))
    assert other.probabilities != want.probabilities, "the size of the sensor says nothing"


def test_one_file_and_files_that_are_none(tmp_path):
    vision_run(tmp_path, transfer="off", static=None)
    one = next((tmp_path / "data/recordings/dot").iterdir())
    (p,) = snndelay.predict(tmp_path / "a", one, top=2)
    assert (p.name, p.label, len(p.classes)) == (one.name, "dot", 2)
    for data, words in (
        (tmp_path / "none", "there is no file, folder or data set"),
        (next(tmp_path.glob("data/images/*/*")), "is no recording by its ending: give a file of"),
        (tmp_path / "data/images", "hold no recording: no file ends in"),
    ):
        with pytest.raises(DataError, match=words):
            snndelay.predict(tmp_path / "a", data)


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("audio", b"0.1 5\n0.15 600\n", None),
        ("audio", b"100 5\n5000 600\n", "no seconds: give --time-unit us or ms"),
        ("audio", b"", "-: the clip has no events"),
        ("audio", b"0.1 5\n0.2 700\n", "a unit lies outside 0..699"),
        ("vision", b"# x\n100 5 3 1\n9000 15 0 0\n", None),
        ("vision", b"100 5 3 1\n900 16 0 0\n", "up to x 16, y 3, off the sensor of 16 x 16"),
        ("vision", b"", "-: the recording has no events"),
        ("vision", b"32 20\n100 5 3 1\n900 6 0 0\n", "of a sensor of 20 x 32, not"),
        ("vision", b"100 5 3 1\n900 5 0 x\n", "line 2: '900 5 0 x': it is no row of numbers"),
        ("vision", b"\xff\xfe", "line 1: '\ufffd\ufffd': it is no row"),
    ],
)
def test_standard_input_is_one_sample(kind, text, words, files, tmp_path, monkeypatch):
    if kind == "audio":
        run(files, tmp_path, run="a")
    else:
        vision_run(tmp_path, transfer="off", static=None)
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(text)))
    code, out, err = call(main, "predict", tmp_path / "a", "-")
    if words is None:
        assert code == 0, err
        assert len([line for line in out.splitlines() if line.startswith("- ")]) == 1
        assert "accuracy" not in out
    else:
        assert code in (1, 2) and words in err, err


def test_standard_input_is_the_file_of_the_same_events(files, tmp_path, monkeypatch):
    vision_run(tmp_path, transfer="off", static=None)
    path = next((tmp_path / "data/recordings/dot").iterdir())
    (want,) = snndelay.predict(tmp_path / "a", path)
    events = snndelay.data.vision.atis.read_atis(path)
    rows = zip(events.t_us / 1e3, events.x, events.y, events.p, strict=True)
    text = "\n".join(" ".join(map(str, row)) for row in rows).encode()
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(text)))
    (got,) = snndelay.predict(tmp_path / "a", "-", time_unit="ms")
    assert got.classes == want.classes and got.probabilities == want.probabilities


def test_recordings_in_milliseconds(tmp_path, capsys):
    """As tonic cuts the gestures of DVS128-Gesture; read as microseconds they are one frame."""
    vision_run(tmp_path, transfer="off", static=None, framing="time_window", dt_ms=25.0)
    events = snndelay.data.vision.atis.read_atis(next((tmp_path / "data/recordings/dot").iterdir()))
    events = events.select(np.argsort(events.t_us, kind="stable"))
    t_ms = events.t_us // 1000
    folder = tmp_path / "new" / "dot"
    folder.mkdir(parents=True)
    np.savez(folder / "us.npz", t=t_ms * 1000, x=events.x, y=events.y, p=events.p)
    np.save(tmp_path / "ms.npy", np.stack([events.x, events.y, events.p, t_ms], 1))
    (want,) = snndelay.predict(tmp_path / "a", folder / "us.npz")
    (got,) = snndelay.predict(tmp_path / "a", tmp_path / "ms.npy", time_unit="ms")
    assert got.classes == want.classes and got.probabilities == want.probabilities
    code, _, err = call(main, "predict", tmp_path / "a", tmp_path / "ms.npy")
    assert code == 0 and "1 of 1 recordings that were looked at last less than one frame" in err
    code, _, err = call(main, "predict", tmp_path / "a", tmp_path / "ms.npy", "--time-unit", "ms")
    assert code == 0 and "looked at" not in err
    (folder / "us.npz").unlink()
    (tmp_path / "ms.npy").rename(folder / "ms.npy")
    code, out, _ = call(main, "evaluate", tmp_path / "a", tmp_path / "new", "--time-unit", "ms")
    assert code == 0 and "(n = 1," in out and "looked at" not in out
    assert "looked at" in call(main, "evaluate", tmp_path / "a", tmp_path / "new")[1]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_files_of_predictions(ending, files, tmp_path):
    run(files, tmp_path, run="a")
    out = tmp_path / f"p.{ending}"
    code, said, err = call(
        main, "predict", tmp_path / "a", files[1], "--out", out, "--top", 2, "--batch-size", 4
    )
    assert code == 0 and "6 predictions" in said and "accuracy" in said, err
    want = list(snndelay.predict(tmp_path / "a", files[1], top=2, batch_size=4))
    if ending == "csv":
        rows = list(csv.DictReader(io.StringIO(out.read_text())))
        got = [((r["class"], r["class_2"]), float(r["probability_2"]), r["label"]) for r in rows]
    else:
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        got = [(tuple(r["classes"]), r["probabilities"][1], r["label"]) for r in lines]
    assert got == [(p.classes, p.probabilities[1], p.label) for p in want]
    assert [*tmp_path.glob(".p*")] == []


def test_a_file_appears_whole_or_not_at_all(files, tmp_path, monkeypatch):
    run(files, tmp_path, run="a")
    out = tmp_path / "p.csv"
    out.write_text("before")
    real = predictions.Scorer.__call__

    def stops(self, x):
        if self.warm:
            raise KeyboardInterrupt
        return real(self, x)

    monkeypatch.setattr(predictions.Scorer, "__call__", stops)
    assert call(main, "predict", tmp_path / "a", files[1], "--out", out)[0] == 130
    assert out.read_text() == "before" and [*tmp_path.glob(".p*")] == []


def test_what_cannot_be_asked_for_is_one_sentence(files, tmp_path):
    run(files, tmp_path, run="a")
    for argv, words in (
        (["--out", "p.txt"], "give a name that ends in .csv or .jsonl"),
        (["--out", tmp_path / "none/p.csv"], "cannot write"),
        (["--top", "0"], "top is 0: give at least 1"),
        (["--batch-size", "0"], "batch_size is 0"),
        (["--sensor", "0", "4"], "--sensor is 0 4"),
        (["--time-unit", "m"], "time_unit"),
    ):
        code, _, err = call(main, "predict", tmp_path / "a", files[1], *argv)
        assert code == 2 and words in err and len(err.splitlines()) == 1, err
    code, _, err = call(main, "predict", tmp_path / "a")
    assert code == 2 and "usage: snndelay predict RUN" in err


def test_a_memory_task_has_nothing_to_predict(tmp_path):
    small = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 4, "n_test": 8, "threads": 1}
    snndelay.fit({"dataset": "n-parity", "runs": str(tmp_path), "run": "m", **small}, draw=False)
    with pytest.raises(ConfigError, match="nothing to predict"):
        snndelay.predict(tmp_path / "m", "n-parity")
    with pytest.raises(ConfigError, match="trials of a memory task are drawn"):
        snndelay.evaluate(tmp_path / "m", "n-parity")


def test_settings_of_the_run_frame_its_predictions(files, tmp_path):
    run(files, tmp_path, run="a", n_steps=5)  # 50 of 200 ms
    shares = [p.in_frames for p in snndelay.predict(tmp_path / "a", files[1])]
    job = open_audio(snndelay.load(tmp_path / "a").settings)
    inside = [float(batch.x.sum()) / 80 for batch in job.batches(job.test, batch_size=1)]
    assert shares == pytest.approx(inside) and max(shares) < 0.6
    code, out, err = call(main, "predict", tmp_path / "a", files[1])
    assert code == 0 and "the frames leave out" in out, err
