"""Where the clips of a run lie changes nothing but the time it takes."""

import os

import numpy as np
import pytest
import torch

from snndelay.data.audio.loader import loader
from snndelay.errors import ConfigError, DataError
from snndelay.runs import audio
from snndelay.runs.files import read_json
from snndelay.runs.flat import from_flat
from snndelay.runs.report import read_metrics
from snndelay.runs.saved import evaluate
from snndelay.runs.training import fit, open_job

from ...helpers_data import clips_s, write_file
from ...helpers_training import TINY

AUGMENTED = {
    "aug_mix": 0.5, "aug_time_shift_ms": 20.0, "aug_time_jitter_ms": 3.0, "aug_drop": 0.2,
    "aug_unit_scale": 0.1, "aug_unit_mask": 50.0, "aug_cutmix": 0.6, "aug_reverse": 0.4,
    "aug_noise": 0.1,
}  # fmt: skip


def flat(files, folder, **changes):
    tiny = {"dataset": files[0], "test_file": files[1], "runs": str(folder), **TINY}
    return tiny | {"device": "cpu", "valid_fraction": 0.3} | changes


@pytest.mark.parametrize("framing", ["grid", "event"])
def test_a_run_is_the_same_wherever_its_clips_lie(files, tmp_path, framing, monkeypatch):
    monkeypatch.setattr("snndelay.runs.audio.AudioJob.draw", lambda *_, **__: [])
    found, made = {}, []

    def counted(*args, held=None, **kwargs):
        made.append(held is not None)
        return loader(*args, held=held, **kwargs)

    monkeypatch.setattr(audio, "loader", counted)
    changes = dict(framing=framing, n_steps=None, **AUGMENTED)
    for place in ("auto", "host", "device"):
        made.clear()
        summary = fit(flat(files, tmp_path, run=place, data_on=place, **changes))
        metrics = read_metrics(tmp_path / place / "metrics.jsonl")
        for record in metrics:
            record.pop("seconds")
        found[place] = metrics, summary["test_accuracy"], summary["spikes_per_inference"]
        # the first batch, which says how many channels there are, always comes from the file
        assert all(made[1:]) if place == "device" else not any(made), f"{place}: {made}"
    assert found["host"] == found["device"]


def test_every_part_is_held_once(files, tmp_path):
    job = open_job(from_flat({"kind": "audio"} | flat(files, tmp_path, data_on="device")))
    assert [h.clips for h in job.held] == [job.train, job.valid, job.test]
    assert all(h.device == torch.device("cpu") for h in job.held)
    loaded = job.batches(job.valid)
    assert loaded.batches.held is job.held[1]
    assert job.batches(job.train.subset(job.train.labels[:3])).batches.held is None


def bad_file(path):
    """Nine clips, of which one has no events."""
    times, units = clips_s(9)
    times[6], units[6] = times[6][:0], units[6][:0]
    return str(write_file(path, times, units))


@pytest.mark.parametrize("data_on", ["host", "device"])
@pytest.mark.parametrize("part", ["training", "test"])
def test_a_bad_clip_is_found_before_the_run_has_a_folder(tmp_path, data_on, part):
    times, units = clips_s(9)
    good, bad = str(write_file(tmp_path / "good.h5", times, units)), bad_file(tmp_path / "a.h5")
    runs = tmp_path / "runs"
    both = (bad, good) if part == "training" else (good, bad)
    settings = flat(both, runs, data_on=data_on, n_steps=None)
    with pytest.raises(DataError, match=r"a\.h5:6: the clip has no events.*--skip-bad"):
        fit(settings)
    assert not runs.exists()


@pytest.mark.parametrize("data_on", ["host", "device"])
def test_bad_clips_are_left_out_where_asked(tmp_path, data_on, capsys):
    bad = bad_file(tmp_path / "a.h5")
    wanted = dict(data_on=data_on, skip_bad=True, n_steps=None, valid_fraction=0.0, epochs=1)
    settings = from_flat({"kind": "audio"} | flat((bad, bad), tmp_path, **wanted))
    job = open_job(settings)
    assert len(job.train) == len(job.test) == 8
    seen = [i for batch in job.batches(job.train) for i in batch.index_B.tolist()]
    assert seen == list(range(8)), f"{seen}: places in the set without the bad clip"
    left, *_, line = job.notes()
    assert left.startswith("left out 1 of 9 training clips that cannot be used; the first"), left
    assert line.startswith("events in the frames: training 100.0% of "), line


def test_a_run_says_what_its_frames_hold(files, tmp_path):
    settings = from_flat({"kind": "audio"} | flat(files, tmp_path, n_steps=15))
    cut, line, *warnings = open_job(settings).notes()
    assert cut == "every clip is cut or padded to 15 steps (0.15 s)"
    for name in ("training", "validation", "test"):
        assert f"{name} 7" in line, f"3 of 4 events lie in 150 of 200 ms: {line}"
    assert len(warnings) == 3, warnings
    assert all("see --n-steps" in text for text in warnings), warnings
    with pytest.raises(DataError, match=r"no event lies in the frames.* see --time-zero"):
        open_job(from_flat({"kind": "audio"} | flat([late(tmp_path)] * 2, tmp_path)))


def late(folder):
    """A file whose clock starts at 5 s."""
    times, units = clips_s(9)
    return str(write_file(folder / "late.h5", [t + np.float16(5) for t in times], units))


def test_paths_of_a_run_hold_in_any_folder(files, tmp_path, monkeypatch):
    monkeypatch.setattr("snndelay.runs.audio.AudioJob.draw", lambda *_, **__: [])
    monkeypatch.chdir(tmp_path)
    names = [os.path.relpath(file) for file in files]
    fit(flat(names, tmp_path / "runs", root="data", run="a", epochs=1))
    config = read_json(tmp_path / "runs/a/config.json")
    found = [config[name] for name in ("dataset", "test_file", "root")]
    wanted = [os.path.abspath(name) for name in (*names, "data")]
    assert found == wanted, f"{found} instead of {wanted}"
    monkeypatch.chdir("/")
    assert evaluate(tmp_path / "runs/a")["notes"], "evaluation says what the frames hold"


def test_a_place_that_is_none(files, tmp_path):
    with pytest.raises(ConfigError, match="did you mean device"):
        from_flat({"kind": "audio"} | flat(files, tmp_path, data_on="devise"))
