"""The official lists of Speech Commands say what is trained on and what is tested."""

import hashlib
import io
import tarfile

import pytest

from snndelay.data import download
from snndelay.data.archives import SPEECH_COMMANDS, Archive
from snndelay.data.audio.speech_commands import FOLDERS, find_archive, list_clips
from snndelay.data.audio.split import split_clips
from snndelay.data.audio.waves import open_waves
from snndelay.data.catalog import open_clips
from snndelay.errors import DataError

from ...helpers_http import served
from ...helpers_waves import write_speech_commands


@pytest.fixture
def root(tmp_path):
    write_speech_commands(tmp_path / "SpeechCommands" / "speech_commands_v0.02")
    return tmp_path


def test_splits_are_the_official_ones(root):
    parts = {split: open_clips("gsc", str(root), split) for split in ("train", "valid", "test")}
    for letter, part in zip("abc", parts.values(), strict=True):
        names = {path.name[0] for path in part.paths}
        assert names == {letter}, f"{part.name} has clips of {names}"
        assert part.classes == ["cat", "dog", "one"] and part.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert len({int(part.speakers[0]) for part in parts.values()}) == 3
    train, valid, test = split_clips("gsc", root=str(root), valid_fraction=0.5, seed=3)
    assert [part.paths for part in (train, valid, test)] == [p.paths for p in parts.values()]


def test_a_path_to_the_archive_has_the_official_lists_too(root):
    folder = find_archive(str(root))
    assert set(open_waves(folder)) == {"train", "valid", "test"}


def test_what_is_missing_is_said(root, tmp_path):
    with pytest.raises(DataError, match=r"Speech Commands is missing: .*speech_commands_v0.02.tar"):
        find_archive(str(tmp_path / "elsewhere"))
    folder = find_archive(str(root))
    lost = next((folder / "dog").glob("c*_0.wav"))
    lost.unlink()
    with pytest.raises(DataError, match=r"testing_list.txt names dog/c.*\(1 such files"):
        list_clips(folder)
    for path in (folder / "dog").iterdir():
        path.unlink()
    assert {clip.label for clip in list_clips(folder)} == {"cat", "one"}, "words left out are fine"


@pytest.mark.parametrize("lost", ["validation_list.txt", "testing_list.txt"])
def test_one_list_alone_is_refused(lost, root):
    (find_archive(str(root)) / lost).unlink()
    for opened in (lambda: find_archive(str(root)), lambda: open_waves(root / FOLDERS[2])):
        with pytest.raises(DataError, match=f"but no {lost}: extract it from the archive again"):
            opened()


def test_it_is_fetched_verified_and_unpacked(tmp_path, monkeypatch):
    made, packed = write_speech_commands(tmp_path / "made"), io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(made, ".")  # as published: no folder around it
    name, body, root = f"{SPEECH_COMMANDS}.tar.gz", packed.getvalue(), tmp_path / "root"
    with served({name: body}) as files:
        known = Archive(name, files.url + name, hashlib.md5(body).hexdigest())
        monkeypatch.setattr(download, "ARCHIVES", {(SPEECH_COMMANDS, None): known})
        parts = split_clips("gsc", root=str(root), download=True)
        assert [len(part) for part in parts] == [6, 6, 6] and len(files.asked) == 1
        assert find_archive(str(root)) == root / SPEECH_COMMANDS
        wrong = known._replace(md5="0" * 32)
        monkeypatch.setattr(download, "ARCHIVES", {(SPEECH_COMMANDS, None): wrong})
        with pytest.raises(DataError, match="is not the file that was published"):
            open_clips("gsc", str(tmp_path / "other"), download=True)
