"""`snndelay data` on named sets, files and folders as a new user has them."""

import hashlib
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from snndelay.data import download
from snndelay.data.archives import Archive
from snndelay.data.audio.shd import write_shd
from snndelay.data.catalog import DATASETS, listing
from snndelay.data.events import Events
from snndelay.runs import look
from snndelay.runs.audio import open_job
from snndelay.runs.cli import main
from snndelay.runs.flat import from_flat
from snndelay.runs.options import parse_train
from snndelay.runs.settings import VisionSettings

from ...helpers_data import small_file
from ...helpers_formats import FORMATS, sample
from ...helpers_http import served
from ...helpers_training import call, write_tiny
from ...helpers_vision import write_tiny_vision
from ...helpers_waves import write_wave, write_words
from .test_audio_plots import assert_picture


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def data(*argv: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of `snndelay data ARGV`."""
    return call(main, "data", *argv)


def found(*argv: str) -> dict:
    """What it finds, read from its JSON."""
    code, out, err = data(*argv, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.fixture
def messy(tmp_path):
    """Recordings among other things; the parts of which are what is found."""
    folder, _ = write_tiny_vision(tmp_path, 6)
    path = tmp_path / "recordings"
    shutil.copy(path / "bar/image_0000.bin", path / "dot/copy ä.bin")
    (path / "bar/cut.bin").write_bytes((path / "bar/image_0001.bin").read_bytes()[:-2])
    (path / "bar/empty.bin").touch()
    (path / "bar/._image_0000.bin").write_text("x")
    (path / "notes.txt").write_text("x")
    (path / "_old").mkdir()
    (path / "_old/a.bin").write_text("x")
    (path / "dot/link.bin").symlink_to(path / "dot/image_0001.bin")
    return folder


def test_without_data_it_lists_the_sets():
    assert data() == (0, "\n".join(listing()) + "\n", "")


def test_a_messy_folder_is_told_in_full(messy):
    code, out, err = data(messy)
    assert (code, err) == (0, "")
    for words in (
        "skipped 1: hidden (bar/._image_0000.bin)",
        "skipped 1: .txt file (notes.txt)",
        "skipped 1: in a folder that begins with _ (_old/a.bin)",
        "22 files",
        "duplicates: 2 of 22 samples have the events of another one",
        "the same events have different classes in 1 case",
        "cut.bin, byte 305: 3 bytes of a 5-byte record",
        "bar/empty: the recording has no events",
        "(16 x 16, height x width)",
        "sha256",
    ):
        assert words in out, f"{words!r} is not in:\n{out}"


def test_files_that_differ_in_their_endings_are_told_apart(messy, tmp_path):
    (tmp_path / "recordings/bar/empty.txt").touch()
    code, out, _ = data(messy, "--check")
    assert code == 1 and "bar/empty.bin: the recording" in out and "bar/empty.txt: the re" in out
    assert "bar/cut" in out, "others keep their short names"


def test_check_names_every_bad_sample_and_ends_with_1(messy, tmp_path):
    for i in range(7):
        shutil.copy(f"{messy}/bar/cut.bin", f"{messy}/post/cut_{i}.bin")
    code, out, _ = data(messy)
    assert code == 0 and "more, see --check" in out
    code, out, err = data(messy, "--check")
    assert code == 1 and err == "error: 9 of 29 samples cannot be used\n"
    assert all(f"post/cut_{i}.bin, byte" in out for i in range(7)) and "see --check" not in out
    code, out, _ = data(messy, "--check", "--json")
    bad = [row["sample"] for part in json.loads(out)["parts"] for row in part["bad"]]
    assert code == 1 and len(bad) == 9 and {"bar/cut", "bar/empty"} < {*bad}


def test_figures_of_a_folder_add_up(messy):
    told = found(messy)
    parts = told["parts"]
    assert sum(part["samples"] for part in parts) == 22 and told["classes"] == [
        "bar",
        "dot",
        "post",
    ]
    of_class = [sum(part["per_class"][name] for part in parts) for name in told["classes"]]
    assert of_class == [8, 8, 6]
    assert sum(part["events"] for part in parts) == 20 * 62
    assert told["sensor"] == [16, 16] and told["files"]["n"] == 22
    assert told["skipped"][0]["reason"] == ".txt file"
    assert {row["n"] for row in told["skipped"]} == {1}
    assert all(part["lost_share"] == 0 for part in parts if part["events"])


def test_equal_samples_of_two_parts_are_told(tmp_path):
    train = write_tiny(tmp_path / "a.h5", 12)
    told = found(train, "--test-file", train, "--valid-fraction", "0")
    assert told["duplicates"]["between"] == [{"parts": ["training", "test"], "groups": 12}]
    assert told["duplicates"]["of_other_classes"] == 0
    other = write_tiny(tmp_path / "b.h5", 12, seed=1)
    assert found(train, "--test-file", other)["duplicates"]["groups"] == 0
    assert (
        "warning: 12 samples of training also in test"
        in data(train, "--test-file", train, "--valid-fraction", "0")[1]
    )


def test_figures_of_a_file_are_those_computed_by_hand(tmp_path):
    clips = [Events(np.array([0, 100, 200]) * 1000, np.array([5, 5, 6])) for _ in range(4)]
    clips[3] = Events(np.array([0, 1_500_000]), np.array([5, 699]))
    write_shd(tmp_path / "a.h5", clips, [0, 0, 1, 1], ["x", "y"])
    told = found("a.h5", "--n-steps", "100", "--dt-ms", "10", "--valid-fraction", "0")
    (part,) = told["parts"]
    assert part["samples"] == 4 and part["per_class"] == {"x": 2, "y": 2} and part["events"] == 11
    assert part["lost_share"] == pytest.approx(1 / 11)
    assert part["events_per_sample"] == pytest.approx([2.15, 3, 3])
    assert part["duration_s"][1] == pytest.approx(0.2, rel=1e-4)
    assert part["events_per_second"][1] == pytest.approx(15, rel=1e-4)
    places = told["places"]
    assert (places["n"], places["silent"], places["hot"]) == (700, 697, 0)
    assert told["duplicates"]["surplus"] == 2 and told["duplicates"]["of_other_classes"] == 1
    digest = hashlib.sha256((tmp_path / "a.h5").read_bytes()).hexdigest()
    assert told["files"]["sha256"] == {"a.h5": digest}
    assert any("the frames leave out 9.1% of the events" in note for note in told["notes"])
    assert found("a.h5", "--n-steps", "200")["parts"][0]["lost_share"] == 0


def test_how_a_run_would_read_it_is_respected(tmp_path):
    write_shd(
        tmp_path / "a.h5", [Events(np.array([0, 100_000]), np.array([0, 1]))] * 4, [0] * 4, "a"
    )
    late = found("a.h5", "--time-unit", "ms", "--valid-fraction", "0")["parts"][0]
    assert late["duration_s"][1] == pytest.approx(1e-4, rel=1e-3)
    assert found("a.h5")["frames"].startswith("10 ms each, 100 of them, 140 channels")
    assert found("a.h5", "--preset", "shd")["frames"].startswith("10 ms each, 140 channels")
    assert [p["name"] for p in found("a.h5", "--preset", "shd")["parts"]] == [
        *("training", "validation")
    ]


def test_a_sensor_may_be_stated(messy, tmp_path):
    one = f"{messy}/bar/0.txt"
    Path(one).write_text("24 20\n1000 5 3 1\n9000 15 0 0\n")
    for words in (("20", "24"), ("20,24",)):
        assert found(one, "--sensor", *words)["sensor"] == [20, 24]
        assert found(messy, "--sensor", *words)["sensor"] == [20, 24]
    code, _, err = data(one, "--sensor", "20", "23")
    assert code == 2 and "0.txt is of a sensor of 20 x 24, not of 20 x 23 pixels" in err
    code, _, err = data("dvs", "--sensor", "34", "34")
    assert code == 2 and "dvs has its sensor: leave out --sensor" in err


def test_the_size_of_the_frames_is_shown_with_what_it_leaves_out(messy):
    told = found(messy, "--frame-size", "4")
    assert "frame_size 4, frame_resize aligned" in told["frames"]
    assert any("events of 75.0% of the pixels never count" in note for note in told["notes"])
    told = found(messy)
    assert "resize" not in told["frames"] and not any("pixels" in note for note in told["notes"])


def test_what_a_run_would_refuse_is_told_and_the_rest_shown(tmp_path):
    train = write_tiny(tmp_path / "a.h5", 12)
    told = found(train, "--test-file", write_tiny(tmp_path / "b.h5", 12, n_classes=4))
    assert [part["name"] for part in told["parts"]] == ["training"]
    assert any("are of classes that no training sample has" in note for note in told["notes"])
    (tmp_path / "root/SHD").mkdir(parents=True)
    small_file(tmp_path / "root/SHD/shd_test.h5", 5)
    told = found("shd", "--root", "root")
    assert [part["name"] for part in told["parts"]] == ["test"]
    assert any("shd_train.h5 is missing" in note for note in told["notes"])


def test_of_many_samples_a_part_is_read_and_all_with_check(tmp_path, monkeypatch):
    monkeypatch.setattr(look, "MOST", 5)
    monkeypatch.setattr(look, "LEAST", 3)
    train = write_tiny(tmp_path / "a.h5", 30)
    told = found(train, "--valid-fraction", "0")["parts"][0]
    assert (told["looked_at"], told["samples"]) == (5, 30)
    assert "5 of 30" in data(train)[1] and "all: --check" in data(train)[1]
    monkeypatch.setattr(look, "MOST_READ", (tmp_path / "a.h5").stat().st_size * 9 // 60)
    assert found(train, "--valid-fraction", "0")["parts"][0]["looked_at"] == 4
    assert found(train, "--check", "--valid-fraction", "0")["parts"][0]["looked_at"] == 30


def test_audio_files_are_told_by_their_values(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    rng = np.random.default_rng(0)
    for i in range(20):
        path = tmp_path / f"words/{'ab'[i % 2]}/{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.uniform(-0.5, 0.5, 8000 + 8000 * (i % 2)), 16_000)
    (tmp_path / "words/a/cut.wav").write_bytes(b"RIFF")
    shutil.copy(tmp_path / "words/a/0.wav", tmp_path / "words/b/copy.wav")
    (tmp_path / "words/notes.txt").touch()
    told = found("words", "--n-steps", "51", "--valid-fraction", "0")
    (part,) = told["parts"]
    assert part["samples"] == 22 and part["per_class"] == {"a": 11, "b": 11}
    assert part["events"] == 11 * 8000 + 10 * 16_000 and part["events_per_second"][1] == (
        pytest.approx(16_000, rel=1e-3)
    )
    assert part["lost_share"] == pytest.approx(10 * 8000 / part["events"])  # half of the long ones
    assert [row["sample"].endswith("a/cut.wav") for row in part["bad"]] == [True]
    assert told["duplicates"]["of_other_classes"] == 1 and told["duplicates"]["surplus"] == 1
    assert {row["reason"] for row in told["skipped"]} == {".txt file"}
    code, _, err = data("words", "--plot", "w.png", "--check")
    assert code == 1 and err == "error: 1 of 22 samples cannot be used\n"
    assert_picture(tmp_path / "w.png")


def one_of_each(folder):
    """(file of one sample, its kind), of every ending that leaves open which it is."""
    folder.mkdir()
    for name in ("npz", "dsec", "metavision", "text"):
        path = folder / f"{name}{'.csv' if name == 'text' else FORMATS[name][0]}"
        path.write_bytes(sample(name, 40, 0)[0])
        yield path, "vision"
    (folder / "spikes.txt").write_text("0.1 5\n0.2 7\n")
    yield folder / "spikes.txt", "audio"
    yield write_wave(folder / "tone.wav", ms=900), "audio"


def test_one_sample_of_any_kind_is_told(tmp_path):
    for path, kind in one_of_each(tmp_path / "own"):
        told = found(str(path))
        assert (told["kind"], told["classes"], told["files"]["n"]) == (kind, ["own"], 1), path
        (part,) = told["parts"]
        assert part["samples"] == 1 and part["events"] and not part["bad"], path
    assert part["lost_share"] == 0 and part["duration_s"][1] == pytest.approx(0.9, rel=1e-3)
    assert found("own/tone.wav", "--window-ms", "500")["parts"][0]["samples"] == 2
    code, _, err = data("own/tone.wav", "--time-unit", "ms")
    assert code == 2 and "leave out --time-unit" in err
    (tmp_path / "own/empty.wav").touch()
    assert data("own/empty.wav", "--check")[0] == 1


@pytest.mark.parametrize("what", ["clips", "words"])
def test_windows_are_counted_as_a_run_cuts_them(what, tmp_path):
    if what == "words":
        write_words(tmp_path / what, ms=1500)
    else:
        t_us = np.arange(0, 3_000_000, 40_000)
        write_shd(tmp_path / what, [Events(t_us, t_us % 700)] * 6, [0, 1] * 3, ["a", "b"])
        what = str((tmp_path / what).rename(tmp_path / "a.h5"))
    words = [what, "--preset", "gsc", "--window-ms", "500", "--window-overlap", "0.5"]
    words += ["--n-steps", "51", "--valid-fraction", "0.34"]
    settings = from_flat(parse_train(["--dataset", *words]).settings)
    job = open_job(replace(settings, machine=replace(settings.machine, device="cpu")))
    told = found(*words)
    n = [part["samples"] for part in told["parts"]]
    assert n == [len(job.train), len(job.valid)] and min(n) > 6
    assert [part["lost_share"] for part in told["parts"]] == [0, 0]
    assert max(part["duration_s"][2] for part in told["parts"]) <= 0.5
    notes = [note for note in told["notes"] if " are cut into " in note]
    assert len(notes) == 2 and f"{n[0]} windows of 500 ms" in notes[0]


def test_clips_of_text_are_files_and_a_table_says_which(tmp_path):
    for name in ("a/0", "a/1", "b/0", "b/1"):
        path = tmp_path / f"spikes/{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"0.{len(name)} 5\n0.2 {ord(name[0])}\n")
    (tmp_path / "spikes/a/notes.md").touch()
    told = found("spikes")
    assert told["files"]["n"] == 4 and [row["first"] for row in told["skipped"]] == ["a/notes.md"]
    assert "skipped" not in found(write_list(tmp_path / "spikes"))


def write_list(folder):
    """A table of two recordings, beside much else."""
    for k in range(2):
        (folder / f"{k}.txt").write_text("100 1 1 1\n200 2 2 0\n")
    (folder / "list.csv").write_text("file,label\n0.txt,x\n1.txt,y\n")
    return folder / "list.csv"


@pytest.mark.parametrize("name", [n for n, e in DATASETS.items() if e.size == "no download"])
def test_every_set_without_a_download_is_told(name, monkeypatch):
    monkeypatch.setattr(look, "MOST_READ", 10**5)
    monkeypatch.setattr(look, "MOST", 20)
    code, out, err = data(name)
    assert code == 0 and not err, err
    entry = DATASETS[name]
    assert entry.title in out and entry.protocol in out and entry.command(name) in out
    assert "warning" not in out and "refuse" not in out and max(map(len, out.split("\n"))) < 140


@pytest.mark.parametrize("name", DATASETS)
def test_the_command_of_a_set_is_whole(name):
    words = DATASETS[name].command(name).split()[2:]
    settings = from_flat(parse_train(words).settings)
    if isinstance(settings, VisionSettings) and settings.transfer.transfer != "off":
        assert settings.transfer.static is not None, "the run would ask for images"
    if settings.kind != "memory":
        assert settings.data.download == bool(DATASETS[name].archives)


def test_guessing_a_memory_task_is_right_as_often_as_computed():
    rows = {row["n"]: row for row in found("n-parity", "--n-max", "9")["tasks"]}
    assert rows[2]["bits"] == [4, 7] and rows[9]["bits"] == [11, 24]
    for n, row in rows.items():  # always `even`, see data/tasks/memory.py
        even = 1 / 2 + 1 / (2 * n + 2) if n % 2 == 0 else 1 / 2
        assert row["chance"]["training"] == pytest.approx(even, abs=0.03), n
        assert row["chance"]["validation"] == pytest.approx(0.5, abs=0.03), n


def test_the_picture_of_clips_and_of_recordings(tmp_path, messy):
    train = write_tiny(tmp_path / "a.h5", 12)
    for target in (train, messy, f"{messy}/dot/copy ä.bin"):
        code, out, err = data(target, "--plot", "x.png")
        assert code == 0 and out.endswith("picture: x.png\n"), err
        assert_picture(tmp_path / "x.png")  # the second replaces the first
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a").mkdir()
    (tmp_path / "bad/a/1.bin").touch()
    assert data("bad/a/1.bin", "--plot", "bad.png")[0] == 0, "nothing to show is no error"


def refusals(tmp_path):
    """Arguments, and words of the sentence."""
    (tmp_path / "mine.png").write_bytes(b"mine")
    (tmp_path / "wav/a").mkdir(parents=True)
    (tmp_path / "wav/a/1.wav").touch()
    (tmp_path / "wav/notes.txt").write_text("not a row\n")
    (tmp_path / "a.md").touch()
    train = write_tiny(tmp_path / "a.h5", 12)
    return [
        ((train, "--plot", "mine.png"), "mine.png is no picture of snndelay data"),
        ((train, "--plot", "x.jpg"), "give a name that ends in .png"),
        ((train, "--plot", "no/x.png"), "there is no folder no"),
        ((train, "--plot"), "--plot needs a value"),
        ((train, "--plot", "--json"), "--plot needs a value"),
        (("n-dms", "--plot", "x.png"), "leave out --plot"),
        (("--check",), "say which data"),
        (("shdd",), "did you mean shd?"),
        (("audio-small-tuned",), "there is no data set"),
        ((train, "--epocs", "3"), "did you mean --epochs?"),
        ((train, "--chek"), "did you mean --check?"),
        (("--root", "x"), "say which data"),
        ((train, "more.h5"), "unexpected argument 'more.h5'"),
        ((train, "--preset", "dvs"), "preset dvs is for vision"),
        ((train, "--static", "x"), "--static is for vision"),
        (("wav/notes.txt",), "notes.txt, line 1: it says"),
        (("a.md",), "a.md is no recording: its name must end in .bin"),
        (("none.h5",), "there is no file none.h5"),
        (("shd", "--root", "none"), "shd_train.h5 is missing"),
    ]


def test_refusals_are_one_sentence(tmp_path):
    for argv, words in refusals(tmp_path):
        code, out, err = data(*argv)
        assert (code, out, err.count("\n")) == (2, "", 1), (argv, out, err)
        assert words in err, f"{argv}: {words!r} is not in {err}"
    assert (tmp_path / "mine.png").read_bytes() == b"mine"


def test_a_dead_link_is_told_as_it_is(messy, tmp_path):
    (tmp_path / "recordings/dot/dead.bin").symlink_to("nowhere")
    code, _, err = data(messy)
    assert code == 2 and err.endswith("dead.bin leads nowhere: mend it or take it away\n")


def test_download_fetches_what_is_missing_and_verifies_it(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "WAIT_S", 0)
    (tmp_path / "made").mkdir()
    bodies, known = {}, {}
    for part, train in (("train", True), ("test", False)):
        small_file(tmp_path / f"made/shd_{part}.h5", 6, seed=int(train))
        with zipfile.ZipFile(tmp_path / "made/z.zip", "w") as archive:
            archive.write(tmp_path / f"made/shd_{part}.h5", f"shd_{part}.h5")
        bodies[f"shd_{part}.h5.zip"] = (tmp_path / "made/z.zip").read_bytes()
    with served(bodies) as files:
        for (name, body), train in zip(bodies.items(), (True, False), strict=True):
            md5 = hashlib.md5(body).hexdigest()
            known["SHD", train] = Archive(name, files.url + name, md5)
        monkeypatch.setattr(download, "ARCHIVES", known)
        monkeypatch.setattr(look, "ARCHIVES", known)
        files.break_after = [len(bodies["shd_train.h5.zip"]) // 2]
        told = found("shd", "--root", "root", "--download", "--valid-fraction", "0", "--check")
        assert len(files.asked) == 3 and files.asked[1].startswith("bytes=")
    assert [part["samples"] for part in told["parts"]] == [6, 6]
    assert [row["as_published"] for row in told["archives"]] == [True, True]
    (tmp_path / "root/SHD/shd_test.h5.zip").write_bytes(b"other")
    told = found("shd", "--root", "root", "--check")
    assert [row["as_published"] for row in told["archives"]] == [True, False]
    assert "shd_test.h5.zip: NOT AS PUBLISHED" in data("shd", "--root", "root", "--check")[1]
    assert {row["as_published"] for row in found("shd", "--root", "root")["archives"]} == {None}
