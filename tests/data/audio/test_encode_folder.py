"""A folder of recordings becomes one file in SHD's layout."""

import pickle

import h5py
import numpy as np
import pytest
import soundfile

from snndelay.data.audio import encode_folder as audio
from snndelay.data.audio.encode_folder import encode_folder
from snndelay.data.audio.shd import ShdFile
from snndelay.errors import DataError

RATE_HZ = 8000


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("yes/a.wav", "yes/deep/b.flac", "no/a.wav", "no/c.WAV"):
        path = tmp_path / "words" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tone = np.sin(2 * np.pi * rng.uniform(200, 900) * np.arange(800) / RATE_HZ)
        soundfile.write(path, 0.3 * tone + 0.001 * rng.standard_normal(800), RATE_HZ)
    (tmp_path / "words" / "readme.txt").write_text("not audio")
    return tmp_path / "words"


def spikes(path):
    file = ShdFile(path)
    return [(file.events(i).t_us.tolist(), file.events(i).x.tolist()) for i in range(len(file))]


def encoded(folder, out, **options):
    return encode_folder(folder, out, progress=False, **{"processes": 1} | options)


def test_folder_to_file(folder, tmp_path):
    out = tmp_path / "new" / "words.h5"
    summary = encoded(folder, out)
    file = ShdFile(out)
    assert file.classes == ["no", "yes"], f"classes {file.classes}"
    assert file.labels.tolist() == [0, 0, 1, 1], f"labels {file.labels}"
    assert file.speakers is None, "speakers came from nowhere"
    lengths = [len(file.events(i)) for i in range(4)]
    assert min(lengths) > 100, f"spikes per clip: {lengths}"
    expected = {"file": str(out), "clips": 4, "classes": 2, "spikes": sum(lengths), "resumed": 0}
    assert summary == expected | {"skipped": 0}, f"summary {summary}"
    assert [path.name for path in out.parent.iterdir()] == ["words.h5"], "work files were left"
    with h5py.File(out) as raw:
        assert h5py.check_vlen_dtype(raw["spikes/times"].dtype) == np.float32, "times type"


def test_processes_do_not_change_the_result_but_the_seed_does(folder, tmp_path):
    encoded(folder, tmp_path / "one.h5")
    encoded(folder, tmp_path / "two.h5", processes=2)
    encoded(folder, tmp_path / "seed.h5", seed=1)
    one = spikes(tmp_path / "one.h5")
    assert one == spikes(tmp_path / "two.h5"), "two processes give other spikes"
    assert one != spikes(tmp_path / "seed.h5"), "another seed gives the same spikes"


def test_resumes_after_a_crash(folder, tmp_path, monkeypatch):
    encoded(folder, tmp_path / "whole.h5")
    out, calls, encode = tmp_path / "words.h5", [], audio.encode

    def dies(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(*args)

    monkeypatch.setattr(audio, "encode", dies)
    with pytest.raises(KeyboardInterrupt):
        encoded(folder, out)
    assert not out.exists(), "half a file appeared under the final name"
    summary = encoded(folder, out)
    assert summary["resumed"] == 2, f"{summary['resumed']} clips resumed instead of 2"
    assert len(calls) == 5, f"encoded {len(calls)} times instead of 3 + 2"
    assert spikes(out) == spikes(tmp_path / "whole.h5"), "the resumed file differs"


def test_csv_with_speakers(folder, tmp_path):
    table = tmp_path / "clips.csv"
    table.write_text("file,label,speaker\nyes/a.wav,ja,bob\nno/a.wav,nein,ann\n")
    encoded(folder, tmp_path / "words.h5", csv=table)
    file = ShdFile(tmp_path / "words.h5")
    assert file.classes == ["ja", "nein"], f"classes {file.classes}"
    assert file.speakers is not None, "the speakers are missing"
    assert file.speakers.tolist() == [1, 0], f"speakers {file.speakers}, expected in name order"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\nyes/gone.wav,yes\n", "row 2: there is no file .*gone.wav"),
        ("file,class\nyes/a.wav,yes\n", "needs a first line"),
        ("file,label\n", "needs a first line"),
        ("file,label,speaker\nyes/a.wav,yes\n", "row 2: a field is empty"),
    ],
)
def test_bad_csv(folder, tmp_path, text, message):
    (tmp_path / "clips.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        encoded(folder, tmp_path / "words.h5", csv=tmp_path / "clips.csv")


def test_unreadable_and_silent_files_are_named(folder, tmp_path):
    (folder / "no" / "bad.wav").write_bytes(b"RIFF nonsense")
    with pytest.raises(DataError, match=r"no/bad\.wav cannot be read as audio") as caught:
        encoded(folder, tmp_path / "words.h5")
    copy = pickle.loads(pickle.dumps(caught.value))  # so it crosses from a worker process
    assert str(copy) == str(caught.value), f"{copy} instead of {caught.value}"
    soundfile.write(folder / "no" / "bad.wav", np.zeros(500), RATE_HZ)
    with pytest.raises(DataError, match=r"no/bad\.wav: the audio is silent"):
        encoded(folder, tmp_path / "words.h5")


def test_missing_folder_empty_folder_and_existing_file(folder, tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        encoded(tmp_path / "gone", tmp_path / "words.h5")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no class folders"):
        encoded(tmp_path / "empty", tmp_path / "words.h5")
    (tmp_path / "words.h5").write_text("precious")
    with pytest.raises(DataError, match="exists already"):
        encoded(folder, tmp_path / "words.h5")


def test_all_bad_files_are_named_or_left_out(folder, tmp_path):
    (folder / "yes" / "empty.wav").write_bytes(b"")
    soundfile.write(folder / "no" / "b.ogg", np.zeros(800), RATE_HZ)
    for _ in range(2):  # a second try finds the good ones done, and still refuses
        with pytest.raises(DataError, match=r"no/b\.ogg.* likewise .*yes/empty\.wav.*--skip-bad"):
            encoded(folder, tmp_path / "words.h5")
        assert not (tmp_path / "words.h5").exists()
    summary = encoded(folder, tmp_path / "words.h5", skip_bad=True)
    assert (summary["clips"], summary["skipped"], summary["resumed"]) == (4, 2, 4)
    assert ShdFile(tmp_path / "words.h5").labels.tolist() == [0, 0, 1, 1]
    assert not (tmp_path / "words.h5.work").exists()


def test_nothing_but_bad_files(tmp_path):
    (tmp_path / "words" / "a").mkdir(parents=True)
    (tmp_path / "words" / "a" / "x.mp3").write_text("no audio")
    with pytest.raises(DataError, match=r"none of the 1 files can be used.*a/x\.mp3"):
        encoded(tmp_path / "words", tmp_path / "words.h5", skip_bad=True)


def test_every_split_is_a_file_of_its_own(folder, tmp_path):
    lines = ["file,label,split", "yes/a.wav,yes,train", "no/a.wav,no,train", "no/c.WAV,no,test"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match="has splits, test, train: encode each with --split"):
        encoded(folder, tmp_path / "a.h5", csv=tmp_path / "list.csv")
    with pytest.raises(DataError, match="has no split 'valid' but test or train"):
        encoded(folder, tmp_path / "a.h5", csv=tmp_path / "list.csv", split="valid")
    for split, labels in (("train", [1, 0]), ("test", [0])):
        encoded(folder, tmp_path / f"{split}.h5", csv=tmp_path / "list.csv", split=split)
        file = ShdFile(tmp_path / f"{split}.h5")
        assert (file.classes, file.labels.tolist()) == (["no", "yes"], labels)
