"""What lies at a path decides how it is read; what is two things at once is refused."""

import os
from collections import Counter

import numpy as np
import pytest

from snndelay.data.audio.paths import form_of, open_path
from snndelay.data.audio.sets import ClipSet
from snndelay.data.audio.shd import Reading
from snndelay.data.audio.split import split_clips
from snndelay.data.audio.waves import WaveSet
from snndelay.data.catalog import kind_of, open_clips, open_splits
from snndelay.errors import DataError

from ...helpers_training import write_tiny
from ...helpers_waves import write_speech_commands, write_words


@pytest.fixture
def words(tmp_path):
    return write_words(tmp_path / "words", each=3)


def write_spikes(folder, lines="0.1 3\n0.2 5\n"):
    for name in ("a/1.txt", "b/2.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(lines)
    return folder


def test_forms_and_kinds(words, tmp_path):
    (words / "list.csv").write_text("file,label\nno/0.wav,no\nyes/1.wav,yes\n")
    forms = {
        words: "waves", write_spikes(tmp_path / "text"): "text", words / "list.csv": "csv",
        write_tiny(tmp_path / "a.h5"): "file", tmp_path / "gone.npz": "npz",
    }  # fmt: skip
    for path, form in forms.items():
        assert form_of(path) == form, path
        assert kind_of(str(path)) == "audio", path
    recordings = tmp_path / "recordings" / "a"
    recordings.mkdir(parents=True)
    for name in ("1.bin", "readme.txt"):
        (recordings / name).write_bytes(b"0.1 3\n")
    assert form_of(recordings.parent) is None and kind_of(str(recordings.parent)) == "vision"
    write_spikes(tmp_path / "four", "1000 3 4 1\n")
    assert form_of(tmp_path / "four") is None, "t x y p are a recording's"
    assert form_of(tmp_path / "nowhere") is None


def test_what_is_beside_the_classes_does_not_matter(words):
    (words / "notes.bin").write_bytes(b"")
    (words / ".git").mkdir()
    (words / ".git" / "x.bin").write_bytes(b"")
    (words / "yes" / "LICENSE.txt").write_text("CC BY")
    assert form_of(words) == "waves"
    spikes = write_spikes(words.parent / "text")
    (spikes / "a" / "0.txt").write_text("These clips are mine.\n")
    assert form_of(spikes) == "text", "a note before the first clip"


def test_mixed_folders_are_one_sentence(words):
    (words / "yes" / "a.aedat4").write_bytes(b"")
    with pytest.raises(DataError, match=r"6 audio files \(no/0\.wav\) and 1 recordings \(yes/a\."):
        kind_of(str(words))


def test_files_without_classes_are_one_sentence(words):
    with pytest.raises(DataError, match=r"holds 0\.wav but no class folders"):
        kind_of(str(words / "yes"))
    with pytest.raises(DataError, match="is one audio file: give a folder"):
        kind_of(str(words / "yes" / "0.wav"))


def test_sets_of_every_form(words, tmp_path):
    assert isinstance(open_path(words)["train"](), WaveSet)
    assert isinstance(open_path(write_spikes(tmp_path / "text"))["train"](), ClipSet)
    file = open_path(write_tiny(tmp_path / "a.h5"), Reading(n_units=800))
    assert [*file] == ["train"] and file["train"]().n_units == 800
    with pytest.raises(DataError, match=r"there is no file .*gone\.npz"):
        open_path(tmp_path / "gone.npz")["train"]()
    with pytest.raises(DataError, match="has no test split but train; give test_file"):
        open_clips(str(words), split="test")


def test_own_splits_are_used_and_others_are_drawn(tmp_path):
    halves = tmp_path / "halves"
    for part in ("train", "test", "valid"):
        write_words(halves / part, each=3 if part == "train" else 1)
    assert [*open_splits(str(halves))] == ["train", "valid", "test"]
    train, valid, test = split_clips(str(halves))
    assert [len(part) for part in (train, valid, test)] == [6, 2, 2]
    assert "valid" in valid.identity(0) and "test" in test.identity(0)
    plain = write_words(tmp_path / "plain", each=4)
    train, valid, test = split_clips(str(plain), valid_fraction=0.25)
    assert test is None and sorted(valid.labels.tolist()) == [0, 1] and len(train) == 6
    train, valid, test = split_clips(str(plain), test_file=str(halves))
    assert all("test" in test.identity(i) for i in range(len(test))), "its own test split"
    archive = write_speech_commands(tmp_path / "archive")
    assert {*open_splits(str(archive))} == {"train", "valid", "test"}


def test_a_list_says_splits_and_speakers(words):
    rows = [
        f"{w}/{i}.wav,{w},{i},{'test' if i == 2 else ''}" for w in ("no", "yes") for i in range(3)
    ]
    rows = [row.removesuffix(",") + ",train" if row.endswith(",") else row for row in rows]
    (words / "list.csv").write_text("\n".join(["file,label,speaker,split", *rows]))
    train, valid, test = split_clips(str(words / "list.csv"), valid_fraction=0.5)
    speakers = [np.unique(part.speakers).tolist() for part in (train, valid, test)]
    assert sorted(speakers[0] + speakers[1]) == [0, 1] and speakers[2] == [2]
    with pytest.raises(DataError, match="no valid split but train or test"):
        open_clips(str(words / "list.csv"), split="valid")


@pytest.fixture
def listings(tmp_path, monkeypatch):
    """(folder -> how often it was listed so far, how many folders there are)"""
    count, scandir = Counter(), os.scandir

    def counted(path="."):
        count[os.fspath(path)] += 1
        return scandir(path)

    monkeypatch.setattr("os.scandir", counted)
    monkeypatch.setattr("os.listdir", lambda path=".": [e.name for e in counted(path)])
    return count


@pytest.mark.parametrize("what", ["waves", "text", "words", "gsc"])
def test_a_folder_is_walked_once_for_its_kind_and_once_for_all_splits(what, tmp_path, listings):
    root = tmp_path / "speech_commands_v0.02"
    if what == "words":
        write_words(root, each=3)
    elif what == "gsc":
        write_speech_commands(root)
    else:
        write = {"waves": lambda part: write_words(part, each=2), "text": write_spikes}[what]
        for part in ("train", "test", "valid"):
            write(root / part)
    folders = {place for place, *_ in os.walk(root) if "_background" not in place}
    listings.clear()
    if what != "gsc":
        kind_of(str(root))
        assert listings == Counter(folders), f"{what}: {listings}"
    listings.clear()
    split_clips("gsc" if what == "gsc" else str(root), root=str(tmp_path), valid_fraction=0.5)
    unfinished = [str(root)] if what == "gsc" else []  # where an unpacking may have been cut short
    assert listings == Counter([*folders, *unfinished]), f"{what}: {listings}"
