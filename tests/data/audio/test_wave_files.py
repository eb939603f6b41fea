"""Audio files as users keep them: endings, folders, and what is wrong with them."""

import os
from itertools import chain

import numpy as np
import pytest
import soundfile

from snndelay.data.audio.wave_files import (
    also,
    duration_ms,
    find_clips,
    read_wave,
    speaker_numbers,
)
from snndelay.data.tables import Listed
from snndelay.errors import DataError

from ...helpers_formats import mutants, put, scattered
from ...helpers_waves import write_wave, write_words


@pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg", ".mp3"])
def test_every_ending_is_read(tmp_path, ending):
    path = write_wave(tmp_path / f"größe{ending}", 500.0, 400)
    wave, rate, more = read_wave(path, 0, 300)
    assert (rate, len(wave), more, wave.dtype) == (16_000, 4800, True, np.float64)
    peak = np.fft.rfft(wave[1000:4200]).__abs__().argmax() * 16_000 / 3200
    assert abs(peak - 500) <= 10, f"a tone of 500 Hz is heard at {peak}"
    assert abs(duration_ms(path) - 400) < 80, "mp3 pads, the others do not"
    later, _, more = read_wave(path, 100, 1e6)
    assert not more and len(later) >= 4800 and np.allclose(later[:3200], wave[1600:], atol=1e-3)


def test_channels_are_averaged(tmp_path):
    both = np.stack([np.full(800, 0.5), np.full(800, -0.25)], 1)
    soundfile.write(tmp_path / "a.wav", both, 8000, subtype="FLOAT")
    wave, rate, more = read_wave(tmp_path / "a.wav", 0, 1000)
    assert (rate, more) == (8000, False) and np.allclose(wave, 0.125)


def damaged(folder):
    """name -> file that is no audio."""
    write_wave(folder / "whole.flac")
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.mp3").write_text("not audio\n" * 40)
    soundfile.write(folder / "none.wav", np.zeros(0), 16_000)
    soundfile.write(folder / "nan.wav", np.full(100, np.nan), 16_000, subtype="FLOAT")
    raw = bytearray(write_wave(folder / "rate.wav").read_bytes())
    raw[24:28] = (2**31 - 1).to_bytes(4, "little")
    (folder / "rate.wav").write_bytes(raw)
    (folder / "folder.wav").mkdir()
    (folder / "cut.flac").write_bytes((folder / "whole.flac").read_bytes()[:30])
    whole = write_wave(folder / "whole.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[:4000])
    return ["empty.wav", "text.mp3", "none.wav", "nan.wav", "rate.wav", "folder.wav", "cut.flac",
            "cut.wav"]  # fmt: skip


@pytest.mark.parametrize("says", [2**32 - 1, 0x7FFFF024])
def test_a_wav_from_a_pipe_does_not_know_its_length(tmp_path, says):
    raw = bytearray(write_wave(tmp_path / "a.wav").read_bytes())
    raw[4:8] = says.to_bytes(4, "little")
    (tmp_path / "b.wav").write_bytes(raw)
    wave = read_wave(tmp_path / "a.wav", 0, 1000)[0]
    assert np.array_equal(read_wave(tmp_path / "b.wav", 0, 1000)[0], wave)


def test_damage_is_one_sentence_with_the_name(tmp_path):
    for name in damaged(tmp_path):
        with pytest.raises(DataError, match=name.replace(".", r"\.")) as error:
            read_wave(tmp_path / name, 0, 1000)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg", ".mp3"])
def test_ten_thousand_damaged_files_are_read_or_refused(tmp_path, ending):
    raw = write_wave(tmp_path / f"a{ending}", ms=30).read_bytes()
    path, refused = tmp_path / f"b{ending}", 0
    for made in chain(mutants([raw], 5_000), scattered([raw], 5_000)):
        put(path, made)
        try:
            wave, rate, _ = read_wave(path, 0, 500)
            duration_ms(path)
            assert np.isfinite(wave).all() and len(wave) <= rate / 2
        except DataError as error:
            refused += str(path) in str(error)
    assert refused > 1_000, f"only {refused} of 10,000 are refused by name"


def test_class_folders_with_what_else_lies_there(tmp_path):
    folder = write_words(tmp_path / "a", endings=(".wav", ".flac"), each=2)
    write_wave(folder / "_background_noise_" / "n.wav")
    write_wave(folder / ".hidden" / "n.wav")
    write_wave(folder / "yes" / ".hidden.wav")
    write_wave(folder / "yes" / "deep" / "C.WAV")
    (folder / "yes" / "notes.txt").write_text("hello")
    os.symlink(folder / "no" / "0.wav", folder / "yes" / "link.wav")
    found = [clip.path for clip in find_clips(folder)]
    wanted = ["no/0.wav", "no/1.flac", "yes/0.wav", "yes/1.flac", "yes/deep/C.WAV", "yes/link.wav"]
    assert found == wanted


def test_halves_are_splits_and_words_called_test_are_not(tmp_path):
    for part in ("train", "test", "validation"):
        write_words(tmp_path / "a" / part, each=1)
    splits = {clip.path: clip.split for clip in find_clips(tmp_path / "a")}
    assert splits["train/no/0.wav"] == "train" and splits["test/yes/0.wav"] == "test"
    assert splits["validation/yes/0.wav"] == "valid" and len(splits) == 6
    write_words(tmp_path / "b", words=("train", "bus"), each=1)
    assert {(clip.label, clip.split) for clip in find_clips(tmp_path / "b")} == {
        ("train", "train"),
        ("bus", "train"),
    }


def test_speakers_are_numbers():
    clips = [Listed("a", "x", name) for name in ("7", "3", "7")]
    assert speaker_numbers(clips) == [7, 3, 7]
    assert speaker_numbers([Listed("a", "x", name) for name in ("bob", "3", "ann")]) == [2, 0, 1]
    assert speaker_numbers([*clips, Listed("a", "x")]) is None
    large = [Listed("a", "x", name) for name in ("9" * 5000, "65536", "3")]
    assert speaker_numbers(large) == [2, 1, 0]
    assert speaker_numbers([Listed("a", "x", "65535")]) == [65535]


def test_a_sentence_names_five_files():
    assert also([]) == "" and also(["a", "b"]) == "; likewise a, b"
    assert also([*"abcdefg"]) == "; likewise a, b, c, d, e and 2 more"
