"""Folders and tables of a user's own recordings, mixed and messy."""

from pathlib import Path

import pytest

from snndelay.data.catalog import kind_of, open_recordings
from snndelay.data.vision.folder import open_folder, open_table
from snndelay.errors import DataError, EventFormatError

from ...helpers_formats import FORMATS, assert_same, sample

PLAIN = [name for name in FORMATS if name != "aedat4"]  # AEDAT4 has a clock of its own


def put(path: Path, name: str = "npz", seed: int = 0):
    """A recording of a format at `path`, without its ending; returns its events and its path."""
    raw, events, _ = sample(name, 40, seed)
    path = path.with_name(path.name + FORMATS[name][0])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return events, path


def test_a_tree_of_every_format(tmp_path):
    want = {}
    for i, name in enumerate(PLAIN):
        events, path = put(tmp_path / "ab"[i % 2] / f"{i:02} ü {name}", name, i)
        want[path.relative_to(tmp_path).as_posix()] = events
    data = open_recordings(str(tmp_path))
    assert data.names == sorted(want) and data.classes == ["a", "b"] and data.in_test is None
    assert data.size == (720, 1280), "the largest"
    for i, name in enumerate(data.names):
        assert_same(data[i][0], want[name])
        assert data.identities[i] == name[: name.rindex(".")]


@pytest.mark.parametrize("half", ["", "train/"])
def test_recordings_that_lie_deeper_are_told(tmp_path, half):
    for name in ("a/sub/1", "a/_old/2", "a/sub/.git/3", "b/sub/er/4"):
        put(tmp_path / f"{half}{name}")
    with pytest.raises(
        DataError, match=rf"lie deeper than .*, the first: {half}a/sub/1\.npz: give"
    ):
        open_folder(tmp_path)
    for name in (f"{half}a/1", f"{half}b/1", f"{half}a/1".replace("train", "test")):
        put(tmp_path / name)
    (tmp_path / f"{half}b/again").symlink_to(tmp_path)  # an end is found all the same
    (line,) = open_folder(tmp_path).said
    assert "left out 2 files named as recordings are, deeper than <class>/<recording>" in line
    assert f"the first: {half}a/sub/1.npz" in line


def test_headers_that_differ_are_told(tmp_path):
    for k in range(2):
        put(tmp_path / "a" / f"{k}", "evt2")
    put(tmp_path / "a" / "none", "npz")
    assert open_folder(tmp_path).said == ()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "one.txt").write_text("34 30\n1000 5 3 1\n9000 15 0 0\n")
    (line,) = open_folder(tmp_path).said
    assert "different sensors, 30 x 34 in 1 file, 720 x 1280 in 2 files: all are framed" in line
    assert open_folder(tmp_path, (720, 1280)).said == ()


def test_a_size_comes_from_headers_without_reading_the_events(tmp_path):
    _, path = put(tmp_path / "a" / "1", "evt2")
    path.write_bytes(path.read_bytes() + b"1")
    data = open_folder(tmp_path)
    assert data.size == (720, 1280)
    with pytest.raises(EventFormatError, match="cut"):
        data[0]


@pytest.mark.parametrize("halves", [("train", "test"), ("Train", "Test"), ("TRAIN", "test")])
def test_official_halves(tmp_path, halves):
    for half, labels in zip(halves, ("ab", "bc"), strict=True):
        for label in labels:
            put(tmp_path / half / label / f"{half}{label}")
    data = open_folder(tmp_path)
    assert data.classes == ["a", "b", "c"] and data.labels.tolist() == [0, 1, 1, 2]
    assert data.in_test.tolist() == [False, False, True, True]
    assert data.identities[0] == f"a/{halves[0]}a"


def test_equal_names_in_both_halves_stay_apart(tmp_path):
    for half in ("train", "test"):
        for k in range(3):
            put(tmp_path / half / "a" / f"{k}", seed=k)
    assert open_folder(tmp_path).identities == [
        f"{half}/a/{k}" for half in ("train", "test") for k in range(3)
    ]


def test_classes_may_be_called_train_and_test(tmp_path):
    put(tmp_path / "train" / "1")
    put(tmp_path / "test" / "1")
    data = open_folder(tmp_path)
    assert data.classes == ["test", "train"] and data.in_test is None


def test_one_half_alone_is_no_split(tmp_path):
    put(tmp_path / "test" / "a" / "1")
    put(tmp_path / "test" / "b" / "1")
    data = open_folder(tmp_path)
    assert data.classes == ["a", "b"] and data.in_test is None


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("cat/1", "a class folder cat beside train and test: move it"),
        ("valid/a/1", "a third part, valid: put its recordings into train"),
        ("Train/a/1", "has Train and train: keep one"),
    ],
)
def test_folders_that_say_two_things(tmp_path, more, words):
    for half in ("train", "test"):
        put(tmp_path / half / "a" / half)
    put(tmp_path / more)
    with pytest.raises(DataError, match=words):
        open_folder(tmp_path)


def test_digits_of_another_format_are_not_taken_for_nmnist(tmp_path):
    for half in ("Train", "Test"):
        put(tmp_path / half / "3" / half)
    assert open_folder(tmp_path).size != (34, 34)


def test_a_messy_folder(tmp_path):
    want, path = put(tmp_path / "cat" / "good")
    for clutter in (".hidden.npz", "notes.md", "Thumbs.db", "a.jpg"):
        (tmp_path / "cat" / clutter).write_bytes(b"junk")
    put(tmp_path / "_old" / "1")
    put(tmp_path / ".git" / "1")
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "linked.NPZ").symlink_to(path)
    data = open_folder(tmp_path)
    assert data.names == ["cat/good.npz", "dog/linked.NPZ"]
    assert_same(data[1][0], want)
    (tmp_path / "dog" / "bad.npz").write_bytes(b"junk")
    (tmp_path / "dog" / "none.npz").touch()
    data = open_folder(tmp_path)
    for i, name in enumerate(data.names):
        if "bad" in name or "none" in name:
            with pytest.raises(EventFormatError, match=Path(name).name):
                data[i]
    (tmp_path / "dog" / "gone.npz").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"gone\.npz leads nowhere"):
        open_folder(tmp_path)


def test_no_recordings(tmp_path):
    for make in ("a.jpg", "cat/a.jpg"):
        (tmp_path / make).parent.mkdir(exist_ok=True)
        (tmp_path / make).touch()
    with pytest.raises(DataError, match=r"no recordings in class folders, .* \.bin \.npz"):
        open_folder(tmp_path)
    put(tmp_path / "1")
    with pytest.raises(DataError, match="lie in no class folders: give the folder above"):
        open_folder(tmp_path)
    put(tmp_path / "1", "evt3")
    with pytest.raises(DataError, match=r"1\.raw is one recording: give a folder of class folders"):
        kind_of(str(tmp_path / "1.raw"))
    with pytest.raises(DataError, match="there is no folder"):
        open_folder(tmp_path / "none")


def table(tmp_path: Path, text: str) -> Path:
    for k in range(3):
        put(tmp_path / "files" / f"{k}", ("npz", "evt3", "text")[k], k)
    (tmp_path / "my.csv").write_text(text, encoding="utf-8-sig")
    return tmp_path / "my.csv"


ROWS = "file,label,split\nfiles/0.npz,dog,train\nfiles/1.raw,cat, Test\nfiles/2.txt,cat,\n"


def test_table(tmp_path):
    path = table(tmp_path, ROWS)
    assert kind_of(str(path)) == "vision"
    data = open_recordings(str(path))
    assert data.names == ["files/0.npz", "files/2.txt", "files/1.raw"]
    assert data.classes == ["cat", "dog"] and data.labels.tolist() == [1, 0, 0]
    assert data.in_test.tolist() == [False, False, True] and data.size == (720, 1280)
    assert data.identities == ["dog/0", "cat/2", "cat/1"]
    for i, k in enumerate((0, 2, 1)):
        assert_same(data[i][0], sample(("npz", "evt3", "text")[k], 40, k)[1])


def test_table_without_split_and_with_absolute_paths(tmp_path):
    other = table(tmp_path, "").parent / "files" / "1.raw"
    path = table(tmp_path, f"label,file\ndog,files/0.npz\ncat,{other}\n")
    data = open_table(path)
    assert data.in_test is None and data.labels.tolist() == [1, 0]
    assert_same(data[1][0], sample("evt3", 40, 1)[1])
    first = data.fingerprint()
    other.write_bytes(other.read_bytes() + b"12")
    assert open_table(path, data.size).fingerprint() != first


def test_a_table_of_files_that_lie_elsewhere(tmp_path, monkeypatch):
    files = table(tmp_path, "").parent / "files"
    (tmp_path / "lists").mkdir()
    text = f"file,label\n{files / '1.raw'},cat\n../files/2.txt,cat\n"
    (tmp_path / "lists" / "a.csv").write_text(text)
    monkeypatch.chdir(tmp_path)
    for path in (Path("lists/a.csv"), tmp_path / "lists" / "a.csv"):
        data = open_table(path)
        assert_same(data[0][0], sample("evt3", 40, 1)[1])
        assert data.names[0] == (files / "1.raw").as_posix()
        assert all((data.folder / name).is_file() for name in data.names) and data.fingerprint()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,label\n1,2\n", "needs a first line `file,label`"),
        ("file,label\n", "needs a first line `file,label`"),
        ("", "needs a first line `file,label`"),
        ("file,label\nfiles/0.npz,\n", "row 2: a field is empty"),
        ("file,label\nfiles/9.npz,a\n", "row 2: there is no file .*9.npz"),
        ("file,label,split\nfiles/0.npz,a,valid\n", "has a third part, valid: put its recordings"),
        ("file,label,split\nfiles/0.npz,a,tset\n", "row 2: no split 'tset': did you mean test"),
    ],
)
def test_tables_that_are_wrong(tmp_path, text, words):
    path = table(tmp_path, text)
    with pytest.raises(DataError, match=words):
        open_table(path)


def test_a_table_of_other_files_is_none_of_recordings(tmp_path):
    (tmp_path / "a.wav").touch()
    path = table(tmp_path, "file,label,split\na.wav,a,valid\n")
    assert kind_of(str(path)) == "audio"


def test_a_set_of_tables_trains(tmp_path):
    """Frames of every recording of a table, from the largest sensor."""
    from snndelay.data.vision.framing import Framing
    from snndelay.data.vision.loader import recording_frames

    data = open_recordings(str(table(tmp_path, ROWS)))
    made = recording_frames(data, Framing(n_steps=2), None)
    assert made.frames.shape == (3, 2, 2, 720, 1280)
    assert made.frames.sum() == 3 * 40, "an event was lost or counted twice"
