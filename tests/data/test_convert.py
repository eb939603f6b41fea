"""What is converted is what peers read, whole or not at all."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from snndelay.data.audio.shd import Reading
from snndelay.data.catalog import open_clips, open_recordings
from snndelay.data.convert import convert
from snndelay.data.events import Events
from snndelay.errors import DataError, EventFormatError

from ..helpers_formats import FORMATS, assert_same, sample
from ..helpers_waves import write_words


def put(path: Path, name: str = "evt3", seed: int = 0) -> Events:
    raw, events, _ = sample(name, 40, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return events


def as_peers_read(path: Path) -> Events:
    """As SpikingJelly's and tonic's users do: np.load and the names of the columns."""
    with np.load(path) as file:
        assert set(file) == set("txyp")
        return Events(file["t"], file["x"], file["y"], file["p"])


def left(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("name", FORMATS)
def test_one_recording(tmp_path, name):
    path = tmp_path / f"in{FORMATS[name][0]}"
    want = put(path, name)
    done = convert(str(path), tmp_path / "new" / "out.npz")
    got = as_peers_read(tmp_path / "new" / "out.npz")
    assert_same(got, Events(got.t_us if name == "aedat4" else want.t_us, want.x, want.y, want.p))
    assert (done["samples"], done["events"]) == (1, 40)
    assert left(tmp_path / "new") == ["out.npz"]


def test_times_in_milliseconds(tmp_path):
    want = put(tmp_path / "in.npy", "npy")
    convert(str(tmp_path / "in.npy"), tmp_path / "out.npz", time_unit="ms")
    later = Events(want.t_us * 1000, want.x, want.y, want.p)
    assert_same(as_peers_read(tmp_path / "out.npz"), later)
    (tmp_path / "set" / "x").mkdir(parents=True)
    (tmp_path / "in.npy").rename(tmp_path / "set" / "x" / "a.npy")
    convert(str(tmp_path / "set"), tmp_path / "tree", time_unit="ms")
    assert_same(as_peers_read(tmp_path / "tree" / "x" / "a.npz"), later)
    with pytest.raises(DataError, match="unknown unit of time 'm': "):
        convert(str(tmp_path / "set"), tmp_path / "other", time_unit="m")


def test_a_tree_with_halves(tmp_path):
    want = {}
    for half, names in (("train", ("a", "b")), ("test", ("c", "d"))):
        for k, name in enumerate(names):
            want[f"{half}/{'xy'[k]}/{name}"] = put(tmp_path / "in" / half / "xy"[k] / f"{name}.raw")
    convert(str(tmp_path / "in"), tmp_path / "out")
    made = open_recordings(str(tmp_path / "out"), size=(720, 1280))
    assert [name.removesuffix(".npz") for name in made.names] == list(want)
    assert made.in_test.tolist() == [False, False, True, True]
    for i, events in enumerate(want.values()):
        assert_same(as_peers_read(tmp_path / "out" / made.names[i]), events)
    done = convert(str(tmp_path / "in"), tmp_path / "part", split="test")
    assert done["samples"] == 2 and (tmp_path / "part" / "test" / "x" / "c.npz").is_file()


def test_one_file_takes_one_split_of_either_wing(tmp_path):
    for half, names in (("train", "ab"), ("test", "c")):
        for name in names:
            put(tmp_path / f"recordings/{half}/x/{name}.aedat", "aedat2")
            path = tmp_path / f"clips/{half}/x/{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("0.1 5\n")
            write_words(tmp_path / "words" / half, each=1)
    out = tmp_path / "out.h5"
    for name in ("recordings", "clips"):
        source = str(tmp_path / name)
        with pytest.raises(DataError, match="has splits, train, test: convert each with --split"):
            convert(source, out)
        with pytest.raises(DataError, match="has no split 'valid' but train or test"):
            convert(source, out, split="valid")
        for split, n in (("train", 2), ("test", 1)):
            assert convert(source, out, split=split)["samples"] == n, f"{name} {split}"
            assert len(open_clips(str(out), reading=Reading(n_units=2 * 128 * 128))) == n
            out.unlink()
    with pytest.raises(DataError, match="words are audio files: see snndelay encode audio"):
        convert(str(tmp_path / "words"), out)


def test_two_files_of_one_name(tmp_path):
    put(tmp_path / "in" / "x" / "a.raw")
    put(tmp_path / "in" / "x" / "a.npz", "npz")
    with pytest.raises(DataError, match="two recordings called x/x_a: rename one"):
        convert(str(tmp_path / "in"), tmp_path / "out")
    assert left(tmp_path) == ["in", "in/x", "in/x/a.npz", "in/x/a.raw"]


def test_recordings_in_the_layout_of_clips(tmp_path):
    want = [put(tmp_path / "in" / "xy"[k] / "a.aedat", "aedat2", k) for k in range(2)]
    done = convert(str(tmp_path / "in"), tmp_path / "out.h5")
    assert done["samples"] == 2
    with h5py.File(tmp_path / "out.h5") as file:
        assert [name.decode() for name in file["extra/keys"]] == ["x", "y"]
        assert file["labels"][:].tolist() == [0, 1]
        for i, events in enumerate(want):
            unit = (events.p * 128 + events.y) * 128 + events.x
            assert np.array_equal(file["spikes/units"][i], unit)
            t_us = file["spikes/times"][i].astype(np.float64) * 1e6
            assert abs(t_us - events.t_us).max() <= 2, "float32 seconds up to 40 s"


def test_clips_keep_labels_and_speakers(tmp_path, files):
    convert(files[0], tmp_path / "out.h5")
    with h5py.File(files[0]) as old, h5py.File(tmp_path / "out.h5") as new:
        for name in ("labels", "extra/speaker"):
            if name in old:
                assert np.array_equal(old[name], new[name]), name
        assert len(new["spikes/units"]) == len(old["spikes/units"])
    a, b = open_clips(files[0]), open_clips(str(tmp_path / "out.h5"))
    same = [np.array_equal(a[i][0].x, b[i][0].x) for i in range(len(a))]
    assert all(same) and a.classes == b.classes


@pytest.mark.parametrize("out", ["out", "out.h5"])
def test_damage_stops_or_is_left_out(tmp_path, out):
    for k in range(3):
        put(tmp_path / "in" / "x" / f"{k}.aedat", "aedat2", k)
    bad = tmp_path / "in" / "x" / "1.aedat"
    bad.write_bytes(bad.read_bytes()[:-3])
    before = left(tmp_path)
    with pytest.raises(EventFormatError, match=r"1\.aedat, byte"):
        convert(str(tmp_path / "in"), tmp_path / out)
    assert left(tmp_path) == before, "something was left behind"
    done = convert(str(tmp_path / "in"), tmp_path / out, skip_bad=True)
    assert (done["samples"], done["events"]) == (2, 80)
    assert len(done["skipped"]) == 1 and "1.aedat" in done["skipped"][0]


def test_what_cannot_be_is_refused(tmp_path, files):
    put(tmp_path / "in" / "x" / "a.raw")
    one, folder = str(tmp_path / "in" / "x" / "a.raw"), str(tmp_path / "in")
    for source, out, split, words in (
        (folder, "in", None, "in exists already"),
        (one, "out", None, r"is one recording: give an output that ends in \.npz"),
        (folder, "out.npz", None, r"is no recording, and an \.npz holds one"),
        (folder, "out.h5", None, "has 1843200 units, and SHD's layout holds 65536"),
        (folder, "out", "test", "has no split 'test' but train"),
        (files[0], "out", None, r"clips go into one file: .* \.h5"),
        ("nothing", "out", None, "there is no data set"),
        ("n-parity", "out", None, "a task of kind memory"),
    ):
        with pytest.raises(DataError, match=words):
            convert(source, tmp_path / out, split=split)
    assert left(tmp_path) == ["in", "in/x", "in/x/a.raw"]
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"):
        convert(one, tmp_path / "file" / "out.npz")


def test_from_the_command_line(tmp_path, capsys):
    from snndelay.runs.cli import main

    put(tmp_path / "in" / "x" / "a.raw")
    put(tmp_path / "in" / "x" / "b.raw", "evt2", 1)
    (tmp_path / "in" / "x" / "c.raw").write_bytes(b"junk")
    words = ["convert", str(tmp_path / "in"), str(tmp_path / "out")]
    assert main(words) == 2
    assert "c.raw, byte 0" in capsys.readouterr().err
    assert main([*words, "--skip-bad"]) == 0
    said = capsys.readouterr().out
    assert "1 left out, the first because" in said and "2 samples, 80 events" in said
    assert main(words) == 2
    assert "exists already: delete it" in capsys.readouterr().err
