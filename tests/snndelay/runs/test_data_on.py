"""Where the clips of a run lie changes nothing but the time it takes."""

import pytest
import torch

from snndelay.data.audio.loader import loader
from snndelay.errors import ConfigError, DataError, EventFormatError
from snndelay.runs import audio
from snndelay.runs.report import read_metrics
from snndelay.runs.settings import from_flat
from snndelay.runs.training import fit, open_job

from ...helpers_data import clips_s, write_file
from ...helpers_training import TINY

AUGMENTED = {
    "aug_mix": 0.5, "aug_time_shift_ms": 20.0, "aug_time_jitter_ms": 3.0, "aug_drop": 0.2,
    "aug_unit_scale": 0.1, "aug_unit_mask": 50.0,
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


def test_a_bad_clip_is_found_before_the_run_has_a_folder(tmp_path):
    times, units = clips_s(9)
    times[6], units[6] = times[6][:0], units[6][:0]
    path = str(write_file(tmp_path / "a.h5", times, units))
    runs = tmp_path / "runs"
    settings = flat((path, path), runs, data_on="device", valid_fraction=0.0)
    with pytest.raises((DataError, EventFormatError), match=r"a\.h5:6: the clip has no events"):
        fit(settings)
    assert not runs.exists()


def test_a_place_that_is_none(files, tmp_path):
    with pytest.raises(ConfigError, match="did you mean device"):
        from_flat({"kind": "audio"} | flat(files, tmp_path, data_on="devise"))
