"""Files as somebody has them: which are samples, and which class they are of."""

import shutil

import h5py
import numpy as np
import pytest

from snndelay.data.audio.sets import open_file
from snndelay.data.audio.shd import Reading
from snndelay.data.audio.spike_files import text_clip
from snndelay.data.events import Events
from snndelay.data.unlabelled import find_clips, find_files, find_recordings, find_waves
from snndelay.data.vision.atis import write_atis
from snndelay.errors import DataError, EventFormatError

from ..helpers_training import write_tiny


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


def test_files_at_any_depth_in_order(tmp_path):
    good = ["b/z.bin", "a.BIN", "b/c/d/e.bin", "ü/f g.bin"]
    touch(tmp_path, *good, "b/.h.bin", ".git/x.bin", "_x/y.bin", "b/annotation_1.bin", "n.md", "n")
    (tmp_path / "b/loop").symlink_to("..")
    (tmp_path / "gone.bin").symlink_to("nowhere")
    folder, files, said = find_files(tmp_path, (".bin",), "recording")
    assert folder == tmp_path
    assert files == sorted(tmp_path / name for name in [*good, "gone.bin"])
    assert said == [
        "passed over 3 files that are no recording by their names (.bin 1, no ending 1, .md 1)"
    ]
    assert find_files(tmp_path / "a.BIN", (".bin",), "recording") == (
        tmp_path, [tmp_path / "a.BIN"], [],
    )  # fmt: skip


@pytest.mark.parametrize(("name", "words"), [
    ("none.bin", "there is no file, folder or data set"),
    ("n.md", "is no recording by its ending: give a file of .bin, .raw"),
    ("empty", "hold no recording: no file ends in .bin, .raw"),
])  # fmt: skip
def test_none_is_one_sentence(name, words, tmp_path):
    touch(tmp_path, "n.md", "empty/n.md")
    with pytest.raises(DataError, match=words):
        find_files(tmp_path / name, (".bin", ".raw"), "recording")


def test_a_recording_is_of_the_class_of_its_folder(tmp_path):
    events = Events(np.arange(3), np.arange(3), np.arange(3), np.zeros(3, np.int64))
    for name in ("x/two", "one"):
        (tmp_path / name).mkdir(parents=True)
        write_atis(tmp_path / name / "r.bin", events)
    found, _ = find_recordings(tmp_path, (4, 4))
    assert [found.classes[k] for k in found.labels] == ["one", "two"]
    assert found.names == ["one/r.bin", "x/two/r.bin"] and found.size == (4, 4)
    assert found[1][0].x.tolist() == [0, 1, 2]


def test_a_table_says_what_its_files_are(tmp_path):
    touch(tmp_path, "f/a.bin", "f/b.bin", "f/c.bin", "f/a.wav")
    (tmp_path / "t.csv").write_text("file,label\nf/b.bin,two\nf/a.bin,one\n")
    found, _ = find_recordings(tmp_path / "t.csv", (4, 4))
    assert found.names == ["f/b.bin", "f/a.bin"]
    assert [found.classes[k] for k in found.labels] == ["two", "one"]
    (tmp_path / "t.csv").write_text("file,label\nf/a.wav,yes\n")
    assert find_waves(tmp_path / "t.csv")[0] == [("f/a.wav", "yes", tmp_path / "f/a.wav")]


def test_clips_need_no_labels(tmp_path):
    path = write_tiny(tmp_path / "a.h5", 3)
    want = open_file(path)
    shutil.copy(path, tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5", "a") as file:
        del file["labels"]
    with pytest.raises(EventFormatError, match="it lacks labels"):
        open_file(tmp_path / "b.h5")
    (tmp_path / "c.txt").write_text("0.5 3\n")
    np.savez(tmp_path / "d.npz", times=[0.1, 0.2, 0.1], units=[3, 4, 5], offsets=[0, 2, 3])
    found, said = find_clips(tmp_path, Reading(), 10)
    assert [name for name, _ in found] == ["a.h5", "b.h5", "c.txt", "d.npz"] and said == []
    labelled, bare, text, arrays = (opened() for _, opened in found)
    assert (arrays.labels.tolist(), arrays.classes, len(arrays[1][0])) == ([-1, -1], [], 1)
    assert labelled.labels.tolist() == want.labels.tolist() and labelled.classes == want.classes
    assert bare.labels.tolist() == [-1, -1, -1] and bare.classes == []
    assert bare[2][0].t_us.tolist() == want[2][0].t_us.tolist()
    assert (text[0][0].t_us.tolist(), text.n_units, len(text)) == ([500_000], 10, 1)
    assert [text.classes[k] for k in text.labels] == [tmp_path.name]


def test_one_clip_is_read_as_files_are():
    clip = text_clip(b"700 1\n500 2\n900 3\n", "-", Reading("ms", "first-event", reverse=True))
    assert clip[0][0].t_us.tolist() == [200_000, 400_000, 0] and clip.labels.tolist() == [-1]
