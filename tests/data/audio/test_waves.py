"""Audio files become frames once: cached, bad ones named, windows within their file's split."""

import os

import numpy as np
import pytest
import torch

from snndelay.data.audio import waves as module
from snndelay.data.audio.log_mel import LogMel, log_mel
from snndelay.data.audio.shd import Reading
from snndelay.data.audio.wave_files import read_wave
from snndelay.data.audio.waves import frame_clips, open_waves
from snndelay.errors import DataError

from ...helpers_waves import write_wave, write_words

HOW = LogMel(n_mels=20, n_steps=31)


@pytest.fixture
def words(tmp_path):
    return write_words(tmp_path / "words", endings=(".wav", ".flac"), each=4)


def test_frames_are_those_of_the_files(words):
    waves = open_waves(words)["train"]
    made, notes = frame_clips(waves, HOW)
    assert (made.frames.shape, len(made), made.classes) == ((8, 31, 20), 8, ["no", "yes"])
    for i in range(8):
        wave, rate, _ = read_wave(waves.paths[i], 0, 300)
        wanted = log_mel(torch.from_numpy(wave), rate, HOW)
        assert torch.equal(made.frames[made.place[i]], wanted), made.identity(i)
    assert "of 8 files 0 are longer, and cut, 0 shorter, and padded" in notes[0]
    some = waves.subset(np.array([5, 2]))
    part, _ = frame_clips(some, HOW)
    assert part.place.tolist() == [5, 2] and part.labels.tolist() == waves.labels[[5, 2]].tolist()
    assert part.names == [str(waves.paths[i]) for i in (5, 2)]


def test_subsets_share_the_work_and_the_cache_keeps_it(words, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(module, "log_mel", lambda *a: made.append(1) or log_mel(*a))
    waves = open_waves(words)["train"]
    first, _ = frame_clips(waves.subset(np.arange(3)), HOW, folder=tmp_path / "frames")
    n = len(made)
    frame_clips(waves.subset(np.arange(3, 8)), HOW, folder=tmp_path / "frames")
    again, _ = frame_clips(open_waves(words)["train"], HOW, folder=tmp_path / "frames")
    assert n >= 8 and len(made) == n, f"{len(made)} frames were made, {n} the first time"
    assert torch.equal(first.frames, again.frames)
    write_wave(words / "no" / "0.wav", 900)
    new, _ = frame_clips(open_waves(words)["train"], HOW, folder=tmp_path / "frames")
    assert len(made) > n and not torch.equal(first.frames[0], new.frames[0])
    other, _ = frame_clips(open_waves(words)["train"], HOW._replace(n_mels=10))
    assert other.frames.shape[2] == 10


def test_longer_and_shorter_files_are_counted(words):
    write_wave(words / "no" / "long.wav", ms=900)
    write_wave(words / "no" / "short.wav", ms=50)
    _, notes = frame_clips(open_waves(words)["train"], HOW)
    assert "of 10 files 1 are longer, and cut, 1 shorter, and padded" in notes[0]


def test_all_bad_files_are_named_at_once_or_left_out(words, tmp_path):
    (words / "no" / "1b.wav").write_bytes(b"")
    (words / "yes" / "zz.flac").write_text("no audio")
    for cache in (None, tmp_path / "frames", tmp_path / "frames"):  # made, and from the cache
        with pytest.raises(DataError, match=r"no/1b\.wav .*likewise .*yes/zz\.flac.*--skip-bad"):
            frame_clips(open_waves(words)["train"], HOW, folder=cache)
        made, notes = frame_clips(open_waves(words)["train"], HOW, folder=cache, skip_bad=True)
        assert len(made) == 8 and "left out 2 of 10" in notes[0]
        assert not torch.isnan(made.frames[made.place]).any()
        assert not any("1b" in name or "zz" in name for name in made.names)
    good = open_waves(words)["train"].subset(np.array([0, 3]))
    assert len(frame_clips(good, HOW)[0]) == 2, "a bad file of another part is none of this one's"


def test_nothing_but_bad_files(tmp_path):
    for name in ("a/1.wav", "b/2.wav"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"RIFF")
    with pytest.raises(DataError, match="none of the 2 clips"):
        frame_clips(open_waves(tmp_path)["train"], HOW, skip_bad=True)


def test_a_long_file_becomes_windows_of_the_same_name(tmp_path):
    long = write_wave(tmp_path / "a" / "long.wav", ms=1000)
    write_wave(tmp_path / "b" / "short.wav", ms=100)
    waves = open_waves(tmp_path)["train"]
    how = LogMel(n_mels=20, window_ms=300, overlap=0.5)
    made, notes = frame_clips(waves, how)
    starts = [0, 150, 300, 450, 600, 750]  # the last one holds the end, padded
    assert made.labels.tolist() == [0] * 6 + [1]
    assert made.names[5] == f"{long}, window 5" and made.frames.shape == (7, 31, 20)
    for k, start in enumerate(starts):
        wave, rate, _ = read_wave(long, start, 300)
        assert torch.equal(made.frames[k], log_mel(torch.from_numpy(wave), rate, how)), start
    assert "2 files are cut into 7 windows of 300 ms" in notes[0]
    one, _ = frame_clips(waves.subset(np.array([1])), how)
    assert one.place.tolist() == [6], "windows stay with their file"


def test_backwards_and_what_is_said_of_spikes(words):
    waves = open_waves(words)["train"]
    assert frame_clips(waves.read_as(Reading(reverse=True)), HOW)[0].reverse
    for reading in (Reading("ms"), Reading(spikes_per_unit=2), Reading(n_units=5)):
        with pytest.raises(DataError, match="are audio files, no spikes: leave out --"):
            waves.read_as(reading)


def test_on_a_device_a_set_has_its_own_rows(words):
    waves = open_waves(words)["train"].subset(np.array([6, 1]))
    host, _ = frame_clips(waves, HOW)
    there, _ = frame_clips(waves, HOW, device=torch.device("cpu"), data_on="device")
    assert there.place.tolist() == [0, 1]
    assert torch.equal(there.frames, host.frames[torch.from_numpy(host.place)])


def test_a_file_that_goes_away_is_a_bad_one(words):
    waves = open_waves(words)["train"]
    os.unlink(waves.paths[3])
    with pytest.raises(DataError, match=waves.paths[3].name):
        frame_clips(waves, HOW, folder=words / "frames")
