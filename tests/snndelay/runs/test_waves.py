"""Runs on audio files, on Speech Commands by name, on windows and on spikes of other files."""

import json

import numpy as np
import pytest

from snndelay.data.audio.frames import Framing
from snndelay.data.audio.shd import write_shd
from snndelay.data.events import Events
from snndelay.errors import DataError
from snndelay.runs.cli import main as snndelay_main
from snndelay.runs.flat import from_flat
from snndelay.runs.presets import preset_settings
from snndelay.runs.report import read_metrics
from snndelay.runs.saved import evaluate
from snndelay.runs.training import fit, open_job

from ...helpers_training import call, write_tiny
from ...helpers_waves import write_speech_commands, write_wave, write_words

SMALL = {
    "kind": "audio", "n_hidden": 8, "n_layers": 1, "max_delay_steps": 5, "batch_size": 4,
    "threads": 1, "epochs": 2, "n_mels": 20, "device": "cpu",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch, request):
    if "picture" not in request.node.name:
        monkeypatch.setattr("snndelay.runs.audio.AudioJob.draw", lambda *_, **__: [])


def flat(dataset, folder, **changes):
    place = {"dataset": str(dataset), "root": str(folder), "runs": str(folder / "runs")}
    return SMALL | place | {"run": "one", "valid_fraction": 0.3} | changes


def test_speech_commands_by_name(tmp_path):
    write_speech_commands(tmp_path / "speech_commands_v0.02")
    recipe = {k: v for k, v in preset_settings("gsc").items() if k not in ("n_in", "n_out")}
    small = {k: SMALL[k] for k in ("n_hidden", "n_layers", "batch_size", "threads", "epochs")}
    run = {"root": str(tmp_path), "runs": str(tmp_path / "runs"), "run": "one", "device": "cpu"}
    job = open_job(from_flat(recipe | small | run))
    assert job.sizes == {"n_in": 140, "n_out": 3} and job.steps == 101
    assert [len(part) for part in (job.train, job.valid, job.test)] == [6, 6, 6]
    summary = fit(recipe | small | run)
    assert 0 <= summary["test_accuracy"] <= 1 and summary["spikes_per_inference"].keys() == {
        "hidden"
    }
    result = evaluate(tmp_path / "runs" / "one")
    assert result["accuracy"] == summary["test_accuracy"] and result["n"] == 6
    assert any("every 10 ms (1000 ms); of 6 files 0 are longer" in n for n in result["notes"])


def test_the_official_test_part_is_a_test_and_training_clips_are_none(tmp_path):
    archive = write_speech_commands(tmp_path / "archive")
    fit(flat(archive, tmp_path, epochs=1))
    parts = evaluate(tmp_path / "runs" / "one", str(archive))
    assert parts["n"] == 6 and not any("no test" in note for note in parts["notes"])
    words = write_words(tmp_path / "words")
    fit(flat(words, tmp_path, epochs=1, run="two"))
    assert any("no test" in n for n in evaluate(tmp_path / "runs" / "two", str(words))["notes"])


def test_the_recipe_still_takes_an_encoded_file(tmp_path):
    file = write_tiny(tmp_path / "a.h5")
    job = open_job(from_flat(preset_settings("gsc") | {"dataset": file, "n_in": None}))
    assert job.sizes["n_in"] == 140


@pytest.mark.parametrize(
    "changes",
    [{}, {"aug_time_shift_ms": 30.0, "aug_unit_mask": 6.0}, {"window_ms": 100.0}],
)
def test_a_run_is_the_same_wherever_its_frames_lie(tmp_path, changes):
    words = write_words(tmp_path / "words", endings=(".wav", ".ogg"))
    found = []
    for k, place in enumerate(
        ({"data_on": "host"}, {"data_on": "device"}, {"workers": 2}, {"cache": False})
    ):
        fit(flat(words, tmp_path, run=f"{k}", test_file=str(words), **place, **changes))
        metrics = read_metrics(tmp_path / "runs" / f"{k}" / "metrics.jsonl")
        found.append([{k: v for k, v in record.items() if k != "seconds"} for record in metrics])
    assert all(other == found[0] for other in found[1:])


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_every_backend_takes_decibels(tmp_path, backend):
    words = write_words(tmp_path / "words", each=3)
    settings = dict(backend=backend, recompute=True, valid_fraction=0.0)
    metrics = tmp_path / "runs" / "one" / "metrics.jsonl"
    fit(flat(words, tmp_path, **settings))
    losses = [record["train"]["loss"] if "train" in record else record.get("loss")
              for record in read_metrics(metrics)]  # fmt: skip
    fit(flat(words, tmp_path, run="ref", backend="reference", valid_fraction=0.0))
    others = [record["train"]["loss"] if "train" in record else record.get("loss")
              for record in read_metrics(tmp_path / "runs" / "ref" / "metrics.jsonl")]  # fmt: skip
    assert losses[0] is not None and np.allclose(losses, others, rtol=1e-3)


def test_a_finished_run_meets_other_files_and_time_reversed(tmp_path):
    words = write_words(tmp_path / "words")
    fit(flat(words, tmp_path))
    new = write_words(tmp_path / "new", each=2)
    (new / "yes" / "bad.wav").write_bytes(b"")
    run = tmp_path / "runs" / "one"
    code, _, err = call(snndelay_main, "evaluate", run, "--test-file", new)
    assert code == 2 and "bad.wav" in err and "--skip-bad" in err
    code, out, _ = call(
        snndelay_main, "evaluate", run, "--test-file", new, "--skip-bad", "--reverse"
    )
    assert code == 0 and "(n = 4" in out and "left out 1 of 5" in out
    assert json.loads((run / "evaluation.json").read_text())["reversed"]


def test_a_test_folder_may_have_fewer_classes_but_no_others(tmp_path, capsys):
    words = write_words(tmp_path / "words", words=("no", "up", "yes"), each=3)
    fewer = write_words(tmp_path / "fewer", words=("yes",), each=2)
    fit(flat(words, tmp_path, test_file=str(fewer), epochs=1))
    run = tmp_path / "runs" / "one"
    said = [line for line in capsys.readouterr().out.split("\n") if "no sample" in line]
    assert said == ["2 of the 3 classes have no sample in the test clips: no, up"]
    result = evaluate(run, str(fewer))
    assert [row["class"] for row in result["classes"]] == ["yes"] and result["n"] == 2
    assert sum("2 of the 3 classes have no sample" in note for note in result["notes"]) == 1
    write_words(fewer, words=("left",), each=1)
    with pytest.raises(DataError, match=r"1 of 3 test clips are of classes .* \(left\)"):
        fit(flat(words, tmp_path, test_file=str(fewer)))
    code, _, err = call(snndelay_main, "evaluate", run, fewer)
    assert code == 2 and "(left): leave these out with --skip-unknown" in err


def test_the_picture_of_a_clip_in_decibels(tmp_path):
    words = write_words(tmp_path / "words", each=3)
    fit(flat(words, tmp_path, epochs=1))
    assert (tmp_path / "runs" / "one" / "raster.png").stat().st_size > 10_000


def test_windows_of_a_clip_stay_on_one_side(tmp_path):
    for i in range(8):
        write_wave(tmp_path / "words" / "ab"[i % 2] / f"{i}.wav", 300 + 300 * (i % 2), 900, seed=i)
    job = open_job(
        from_flat(flat(tmp_path / "words", tmp_path, window_ms=300.0, window_overlap=0.5))
    )
    parents = [
        {name.split(", window")[0] for name in part.names} for part in (job.train, job.valid)
    ]
    assert not parents[0] & parents[1] and len(job.train) == 5 * len(parents[0])
    assert any("files are cut into" in note for note in job.notes())


def long_clips(path, n=12, seconds=2):
    rng = np.random.default_rng(0)
    events = [
        Events(np.sort(rng.integers(0, seconds * 10**6, 400)), rng.integers(0, 64, 400))
        for _ in range(n)
    ]
    write_shd(path, events, np.arange(n) % 3, ["a", "b", "c"], speakers=np.arange(n) % 4 + 5)
    return path


def test_windows_of_events_any_units_and_other_labels(tmp_path):
    file = long_clips(tmp_path / "a.h5")
    changes = dict(n_units=64, units_per_channel=8, window_ms=500.0, label_key="extra/speaker")
    job = open_job(from_flat(flat(file, tmp_path, valid_fraction=0.0, **changes)))
    assert job.sizes == {"n_in": 8, "n_out": 4} and len(job.train) == 12 * 4
    assert job.train.classes == ["5", "6", "7", "8"]
    assert any("12 clips are cut into 48 windows of 500 ms" in note for note in job.notes())
    job = open_job(from_flat(flat(file, tmp_path, window_ms=500.0)))
    sides = [{part.identity(i).split(", ")[0] for i in range(len(part))}
             for part in (job.train, job.valid)]  # fmt: skip
    assert not sides[0] & sides[1] and sides[0] and sides[1]


def test_windows_lie_on_a_device_as_on_the_host(tmp_path):
    file = long_clips(tmp_path / "a.h5")
    found = []
    for place in ("host", "device"):
        changes = dict(window_ms=500.0, window_overlap=0.5, data_on=place, run=place)
        fit(flat(file, tmp_path, units_per_channel=70, **changes))
        metrics = read_metrics(tmp_path / "runs" / place / "metrics.jsonl")
        found.append([{k: v for k, v in record.items() if k != "seconds"} for record in metrics])
    assert found[0] == found[1]


def test_ssc_through_its_own_split(tmp_path):
    for seed, split in enumerate(("train", "valid", "test")):
        write_tiny(tmp_path / f"ssc_{split}.h5", 6 + 3 * seed, seed=seed)
    job = open_job(from_flat(flat("ssc", tmp_path)))
    assert [len(part) for part in (job.train, job.valid, job.test)] == [6, 9, 12]
    assert Framing(10_000, 5).channels == job.sizes["n_in"]


@pytest.mark.parametrize("form", ["npz", "text"])
def test_spikes_of_npz_and_text_train(tmp_path, form):
    rng = np.random.default_rng(0)
    t, x = rng.uniform(0, 0.3, (6, 50)), rng.integers(0, 700, (6, 50))
    path = tmp_path / "a.npz"
    if form == "npz":
        np.savez(path, times=t, units=x, labels=np.arange(6) % 2, keys=np.array(["no", "yes"]))
    else:
        path = tmp_path / "a"
        for i in range(6):
            (path / ("no", "yes")[i % 2]).mkdir(parents=True, exist_ok=True)
            lines = [f"{a} {b}" for a, b in zip(t[i], x[i], strict=True)]
            (path / ("no", "yes")[i % 2] / f"{i}.txt").write_text("\n".join(lines))
    code, out, err = call(
        snndelay_main, "train", path, "--epochs", 1, "--n-hidden", 8, "--runs", tmp_path / "runs",
        "--root", tmp_path, "--test-file", path, "--device", "cpu",
    )  # fmt: skip
    assert code == 0 and "train on 6 clips, test on 6; 2 classes" in out, (out, err)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--framing", "event"], "audio files hold no events: use grid"),
        (["--aug-drop", "0.1"], "aug_drop is of single events"),
        (["--spikes-per-unit", "3"], "no spikes: leave out --spikes-per-unit"),
        (["--n-units", "64"], "no spikes: leave out --n-units"),
        (["--dt-ms", "0.3"], "multiple of 0.125"),
        (["--window-overlap", "0.5"], "--window-overlap has no effect with window_ms null"),
    ],
)
def test_what_audio_files_do_not_take_is_one_sentence(tmp_path, options, words):
    folder = write_words(tmp_path / "words", each=2)
    argv = ["train", folder, "--root", tmp_path, "--runs", tmp_path / "runs", *options]
    code, _, err = call(snndelay_main, *argv)
    assert code == 2 and words in err and len(err.splitlines()) == 1, err
