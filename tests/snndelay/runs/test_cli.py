"""The command line from end to end: options, one sentence per error, nothing half-written."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from snndelay.kernels import dispatch as launch
from snndelay.runs import audio
from snndelay.runs.cli import guarded
from snndelay.runs.cli import main as snndelay_main
from snndelay.runs.files import new_run_folder, read_json

from ...helpers_training import ROOT, TINY_OPTIONS, call, load_train_py, write_tiny

train_main = load_train_py().main


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py"])  # which command the sentences name
    monkeypatch.setattr("snndelay.runs.audio.AudioJob.draw", lambda *_, **__: [])


def train(*argv):
    """Exit code, stdout, stderr of `python train.py ARGV`."""
    return call(train_main, *argv)


def error_cases(files):
    """Name -> (arguments, words of the sentence)."""
    train_file, test_file = files
    return {
        "preset": (["sdh"], "unknown preset 'sdh': did you mean shd?"),
        "option": (["--epocs", "3"], "unknown option --epocs: did you mean --epochs?"),
        "abbreviation": (["--epoch", "3"], "did you mean --epochs?"),
        "preset option": ([train_file, "--preset", "audio-smal"], "did you mean audio-small?"),
        "data set": (["--dataset", "shdd"], "shd"),
        "value": (["--epochs", "1.5"], "--epochs is 1.5: give a value of type int"),
        "optional value": (["--n-steps", "x"], "--n-steps is x: give a value of type int or null"),
        "range": ([train_file, "--dropout", "2"], "dropout is 2.0: choose a number from 0"),
        "choice": ([train_file, "--neuron", "lfi"], "did you mean lif?"),
        "no value": (["--lr"], "--lr needs a value"),
        "two targets": ([train_file, test_file], "unexpected argument"),
        "missing file": (["none.h5"], "there is no file none.h5"),
        "missing test file": ([train_file, "--test-file", "none.h5"], "none.h5"),
        "missing data set": (["shd", "--root", "empty"], "shd_train.h5 is missing"),
        "no data for gsc": (["gsc", "--root", "empty"], "Speech Commands is missing: no valid"),
        "missing config": (["--config", "none.yaml"], "there is no config file none.yaml"),
        "missing run": (["--resume", "none"], "none is no run"),
        "broken file": (["broken.h5"], "broken.h5"),
        "foreign file": (["foreign.h5"], "lacks spikes/times"),
        "other classes": ([train_file, "--test-file", "four.h5"], "that no training sample has"),
        "unwritable": ([train_file, "--runs", "broken.h5/runs"], "--runs"),
        "backend": ([train_file, "--backend", "triton", "--device", "cpu"], "triton"),
        "bad yaml": (["--config", "bad.yaml"], "bad.yaml"),
        "unknown in yaml": (["--config", "unknown.yaml"], "did you mean epochs?"),
        "no text": (["--config", "none.pt"], "none.pt is no text file"),
        "rate": ([train_file, "--lr", "0.1"], "add --lr-max null"),
        "two data sets": ([train_file, "--dataset", "shd"], "give one of them"),
        "device": ([train_file, "--device", "gpu"], "gpu"),
        "too large": ([train_file, "--n-hidden", "1000000"], "out of memory"),
        "type in yaml": (["--config", "type.yaml"], "give a value of type int"),
        "other kind": (
            [train_file, "--static", "digits"],
            "--static is for vision, and this run is on audio",
        ),
        "other kind in yaml": (["--config", "kind.yaml"], "aug_crop is for vision"),
        "preset of the other kind": ([train_file, "--preset", "dvs"], "preset dvs is for vision"),
        "network of the other kind": (
            [train_file, "--network", "vgg"],
            "network vgg is for vision",
        ),
        "empty folder": (["empty"], "empty holds no recordings in class folders"),
        "recordings": (["vision-small"], "preset vision-small has no data: python train.py FOLDER"),
        "no effect": (
            [train_file, "--lr-position", "1", "--delays", "none", "--sliding", "off"],
            "vision",
        ),
        "widths": ([train_file, "--n-hidden", "8,8", "--n-layers", "3"], "leave out --n-layers"),
        "width of 0": ([train_file, "--n-hidden", "8,0"], "n_hidden is 0"),
    }


@pytest.mark.parametrize("case", error_cases(("a", "b")))
def test_an_error_is_one_sentence(case, files, tmp_path, monkeypatch):
    (tmp_path / "broken.h5").write_bytes(Path(files[0]).read_bytes()[:5000])
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = 1
    write_tiny(tmp_path / "four.h5", 8, n_classes=4)
    (tmp_path / "none.pt").write_bytes(bytes(range(128, 256)))
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.yaml").write_text("epochs: [3\n")
    (tmp_path / "unknown.yaml").write_text("epocs: 3\n")
    (tmp_path / "type.yaml").write_text("epochs: many\n")
    (tmp_path / "kind.yaml").write_text("dataset: spoken-digits\naug_crop: 3\n")
    argv, words = error_cases(files)[case]
    monkeypatch.setattr(launch, "INTERPRETED", False)  # else backend triton runs, slowly
    monkeypatch.setattr(launch, "_choose_once", launch.choose)  # no earlier choice
    code, _, err = train(*argv)
    assert code == 2, f"exit code {code}: {err}"
    assert err.startswith("error: "), err
    assert len(err.splitlines()) == 1, f"not one line: {err}"
    assert words in err, f"{words!r} is not in {err!r}"
    assert not (tmp_path / "runs").exists(), "a run folder was left"


def test_train_evaluate_and_name_collisions(files, tmp_path):
    code, out, err = train(files[0], "--test-file", files[1], *TINY_OPTIONS)
    assert code == 0, err
    assert "epoch 1/2" in out
    assert "test accuracy" in out
    assert "n = 6" in out
    assert "protocol clean" in out
    train(files[0], *TINY_OPTIONS, "--epochs", 1)
    names = {"train-audio-small-0", "train-audio-small-0-2"}
    assert {p.name for p in (tmp_path / "runs").iterdir()} == names
    code, out, err = call(snndelay_main, "evaluate", "train-audio-small-0")
    assert code == 0, err
    summary = read_json(tmp_path / "runs/train-audio-small-0/summary.json")
    assert f"accuracy {summary['test_accuracy']:.1%} (n = 6" in out
    assert "three" not in out
    assert "two" in out
    code, _, err = call(snndelay_main, "evaluate", "train-audio-small-0-2")
    assert code == 2, "this run has no test clips"
    assert "test_file" in err or "--test-file" in err


def test_config_file_and_priorities(files, tmp_path):
    (tmp_path / "my.yaml").write_text(f"dataset: {files[0]}\nepochs: 1\nlr_max: 1e-3\nseed: 3\n")
    argv = TINY_OPTIONS[: TINY_OPTIONS.index("--epochs")]
    code, _, err = train("--config", "my.yaml", "--seed", 4, "--download", *argv)
    assert code == 0, err
    made = read_json(tmp_path / "runs/train-audio-small-4/config.json")
    assert (made["epochs"], made["lr_max"], made["seed"], made["download"]) == (1, 1e-3, 4, True)
    assert made["preset"] == "audio-small"
    assert made["valid_fraction"] == 0.0, "the preset fills what nobody gave"
    code, _, err = train("--config", "runs/train-audio-small-4/config.json", "--run", "again")
    assert code == 0, err
    again = read_json(tmp_path / "runs/again/config.json")
    assert again == made | {"run": "again"}, "a run's config.json does not reload"


def test_resume_refuses_other_settings(files, tmp_path):
    train(files[0], *TINY_OPTIONS, "--run", "a")
    (tmp_path / "runs/a/summary.json").unlink()  # as if killed before the final evaluation
    code, _, err = train("--resume", "runs/a", "--epochs", 9)
    assert code == 2
    assert "--resume cannot change --epochs from 2 to 9" in err
    code, _, err = train(files[0], "--resume", "runs/a")
    assert code == 2
    assert f"leave out {files[0]}" in err
    code, out, err = train("--resume", "a", "--workers", 1)
    assert code == 0, err
    assert "epoch" not in out.split("test accuracy")[0].split("cpu")[1], "nothing to train was left"
    code, _, err = train("--resume", "runs/a")
    assert code == 2
    assert "is complete" in err


def test_damaged_checkpoint_is_refused(files, tmp_path):
    train(files[0], *TINY_OPTIONS, "--run", "a", "--epochs", 1)
    path = tmp_path / "runs/a/last.pt"
    path.write_bytes(path.read_bytes()[:-100])
    code, _, err = call(snndelay_main, "evaluate", "runs/a")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "last.pt is damaged" in err


@pytest.mark.parametrize("when", ["first", "second"])
def test_interrupt(files, tmp_path, monkeypatch, when):
    train_epoch, calls = audio.train_epoch, []

    def interrupted(*argv):
        calls.append(1)
        if len(calls) == {"first": 1, "second": 2}[when]:
            raise KeyboardInterrupt
        return train_epoch(*argv)

    monkeypatch.setattr(audio, "train_epoch", interrupted)
    code, _, err = train(files[0], *TINY_OPTIONS)
    assert code == 130
    assert len(err.splitlines()) == 1
    if when == "first":
        assert "nothing was saved" in err
        assert not list((tmp_path / "runs").iterdir())
    else:
        assert "python train.py --resume runs/train-audio-small-0" in err
        assert train("--resume", "runs/train-audio-small-0")[0] == 0


def test_disk_full(files, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("snndelay.runs.checkpoint.write_atomic", fail)
    code, _, err = train(files[0], *TINY_OPTIONS)
    assert code == 1
    assert "No space left on device" in err
    assert not list((tmp_path / "runs").iterdir())


def test_metrics_that_cannot_be_written(files, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("snndelay.runs.report.Report.epoch", fail)
    code, _, err = train(files[0], *TINY_OPTIONS)
    assert code == 2
    where = "runs/train-audio-small-0"
    assert err.startswith(f"error: cannot write in {where} (No space left on device)")
    assert not list((tmp_path / "runs").iterdir())


def test_verbs(tmp_path):
    for argv in ([], ["--help"], ["data"], ["encode", "--help"], ["profile", "--help"]):
        code, out, err = call(snndelay_main, *argv)
        assert (code, err) == (0, ""), f"{argv}: {err}"
        assert "snndelay" in out or "spoken-digits" in out
    assert call(snndelay_main, "--version")[1].startswith("snndelay 0.")
    for argv, words in (
        (["evalute"], "did you mean evaluate?"),
        (["evaluate"], "required: run"),
        (["evaluate"], "usage: snndelay evaluate RUN"),
        (["encode"], "usage: snndelay encode audio FOLDER OUT.h5, snndelay encode images FOLDER"),
        (["data", "--nope"], "unknown option --nope: see --help-all"),
        (["evaluate", "a", "--bogus"], "choose one of --checkpoint, --device, --root"),
        (["evaluate", "none"], f"config.json in none and {tmp_path / 'runs/none'}"),
        (["evaluate", "none"], "none is no run"),
        (["evaluate", "none", "--checkpoint", "lst"], "did you mean last?"),
        (["encode", "video", "a", "b.h5"], "choose one of audio, images"),
        (["encode", "audio", "none", "b.h5"], "none"),
        (["profile", "--ops", "none"], "unknown op 'none'"),
    ):
        code, _, err = call(snndelay_main, *argv)
        assert code == 2, f"{argv}: {err}"
        assert len(err.splitlines()) == 1, err
        assert words in err, f"{words!r} is not in {err!r}"


def test_encode_audio(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    import numpy as np

    rng = np.random.default_rng(0)
    for name in ("yes/a.wav", "yes/b.wav", "no/a.wav"):
        (tmp_path / "audio" / name).parent.mkdir(parents=True, exist_ok=True)
        sound = rng.normal(size=4000) * np.hanning(4000) * 0.3
        soundfile.write(tmp_path / "audio" / name, sound, 16000)
    code, out, err = call(snndelay_main, "encode", "audio", "audio", "out.h5", "--processes", 1)
    assert code == 0, err
    assert "3 clips of 2 classes" in out
    code, _, err = train("out.h5", *TINY_OPTIONS, "--epochs", 1)
    assert code == 0, err


def test_as_programs(files, tmp_path):
    """The real processes: exit code and streams as a shell sees them."""
    run = subprocess.run(
        [sys.executable, ROOT / "train.py", "--neuron", "lfi"], capture_output=True, text=True
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "error: unknown neuron 'lfi': did you mean lif?\n"
    here = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "snndelay", "data"]
    run = subprocess.run(command, capture_output=True, text=True, env=here)
    assert run.returncode == 0
    assert "spoken-digits" in run.stdout


def test_a_reader_may_have_enough():
    command = f"{sys.executable} {ROOT / 'train.py'} --help-all | head -1"
    run = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert run.stdout.startswith("usage: ") and run.stderr == ""


def test_a_bare_checkout_without_the_dependencies_says_so(monkeypatch):
    command = [sys.executable, "-S", ROOT / "train.py"]  # -S: no installed packages
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1 and len(run.stderr.splitlines()) == 1, run.stderr
    assert run.stderr.startswith("error: there is no ") and "pip install -e ." in run.stderr

    def lazily(_):
        raise ModuleNotFoundError("No module named 'aedat'", name="aedat")

    code, _, err = call(lambda argv: guarded(lazily, argv))
    assert (code, err) == (2, "error: there is no aedat: install snndelay anew\n")


def test_run_folders(tmp_path):
    names = [new_run_folder(tmp_path / "r", "a").name for _ in range(3)]
    assert names == ["a", "a-2", "a-3"]
    (tmp_path / "r/a/config.json").write_text("{")
    code, _, err = train("--resume", tmp_path / "r/a")
    assert code == 2
    assert "cannot read" in err
