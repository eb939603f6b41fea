"""What is converted is what peers read, whole or not at all."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from snndelay.data.audio.shd import Reading, write_shd
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


def test_all_units_of_a_file_are_kept(tmp_path):
    path, clip = tmp_path / "in.h5", Events(np.array([0, 1000]), np.array([3, 4999]))
    write_shd(path, [clip] * 2, [0, 1], ["a", "b"], n_units=5000)
    flat = dict(times=[0.0, 0.1], units=[3, 4999], offsets=[0, 1, 2], labels=[0, 1])
    np.savez(tmp_path / "in.npz", **flat)
    for name, n in (("in.h5", 4), ("in.npz", 2), ("in.npz.h5", 2)):  # the last was converted
        source = str(tmp_path / name)
        assert convert(source, f"{source}.h5")["events"] == n
        with h5py.File(f"{source}.h5") as file:
            assert sorted({*np.concatenate(file["spikes/units"][:])}) == [3, 4999]
        with pytest.raises(EventFormatError, match=r"lies outside 0\.\.699, see --n-units"):
            convert(source, tmp_path / "no.h5", n_units=700)
    with pytest.raises(DataError, match=r"in\.npz is no recording, .*: give an output .* in \.h5"):
        convert(str(tmp_path / "in.npz"), tmp_path / "no.npz")
    with pytest.raises(DataError, match="--n-units is 65537: give 1 to 65536"):
        convert(str(path), tmp_path / "no.h5", n_units=65537)
    put(tmp_path / "recordings/x/a.aedat", "aedat2")
    with pytest.raises(DataError, match="recordings are recordings: leave out --n-units"):
        convert(str(tmp_path / "recordings"), tmp_path / "no", n_units=700)


def test_labels_of_another_name(tmp_path):
    flat = dict(times=[0.0, 0.1], units=[3, 4], offsets=[0, 1, 2], speaker=[7, 5])
    np.savez(tmp_path / "in.npz", **flat)
    convert(str(tmp_path / "in.npz"), tmp_path / "out.h5", label_key="speaker")
    clips = open_clips(str(tmp_path / "out.h5"))
    assert (clips.classes, clips.labels.tolist()) == (["5", "7"], [1, 0])


def test_clocks_that_start_late(tmp_path):
    late = np.array([3600.0, 3600.5, 3600.75])
    np.savez(tmp_path / "in.npz", times=late, units=[1, 2, 3], offsets=[0, 3], labels=[0])
    (tmp_path / "set/x").mkdir(parents=True)
    xyp = dict(x=[1, 2, 3], y=[1, 2, 3], p=[0, 1, 1])
    np.savez(tmp_path / "set/x/a.npz", t=np.int64(1e6) * late.astype(np.int64), **xyp)
    for source, last_s, name in (("in.npz", 0.75, "in.npz:0"), ("set", 0, "x/a.npz")):
        out = tmp_path / f"{source}.h5"
        words = f"{name}: its last event comes at 3600.* s, .* 1000 s: give --time-zero first-event"
        with pytest.raises(DataError, match=words):
            convert(str(tmp_path / source), out)
        convert(str(tmp_path / source), out, time_zero="first-event")
        with h5py.File(out) as file:
            assert [file["spikes/times"][0].min(), file["spikes/times"][0].max()] == [0, last_s]
    convert(str(tmp_path / "set"), tmp_path / "tree", time_zero="first-event")
    convert(str(tmp_path / "set/x/a.npz"), tmp_path / "one.npz", time_zero="first-event")
    for path in ("tree/x/a.npz", "one.npz"):
        assert as_peers_read(tmp_path / path).t_us.tolist() == [0, 0, 0]
    with pytest.raises(DataError, match="unknown time zero 'first': "):
        convert(str(tmp_path / "set"), tmp_path / "no", time_zero="first")
    np.savez(tmp_path / "long.npz", times=[0, 3600.5], units=[1, 2], offsets=[0, 2], labels=[0])
    with pytest.raises(DataError, match=r"long\.npz:0: .*: cut it, or see --time-unit"):
        convert(str(tmp_path / "long.npz"), tmp_path / "no.h5")


def test_two_files_of_one_name(tmp_path):
    put(tmp_path / "in" / "x" / "a.raw")
    put(tmp_path / "in" / "x" / "a.npz", "npz")
    convert(str(tmp_path / "in"), tmp_path / "out")
    assert left(tmp_path / "out") == ["x", "x/a.npz.npz", "x/a.raw.npz"]
    (tmp_path / "in/x/a.npz.npz").write_bytes((tmp_path / "in/x/a.npz").read_bytes())
    convert(str(tmp_path / "in"), tmp_path / "more")
    assert len(left(tmp_path / "more" / "x")) == 3


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
    clips = [str(tmp_path / name) for name in ("clips.npz", "clips.h5")]
    np.savez(clips[0], times=[3600.0, 3600.5], units=[1, 900], offsets=[0, 2], speaker=[1])
    options = ["--n-units", "901", "--time-zero", "first-event", "--label-key", "speaker"]
    assert main(["convert", *clips, *options]) == 0
    assert "1 samples, 2 events" in capsys.readouterr().out
    assert main(words) == 2
    assert "exists already: delete it" in capsys.readouterr().err
