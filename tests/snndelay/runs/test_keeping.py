"""Stopped at any step, saved, and gone on with: the same bits. Signals, and steps that are bad."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest
import torch

from snndelay import DelayNet
from snndelay.errors import ConfigError, DataError, Interrupted, RunError, UserError
from snndelay.runs import audio, checkpoint
from snndelay.runs.audio import new_session
from snndelay.runs.cli import main
from snndelay.runs.content import content_of
from snndelay.runs.files import read_json
from snndelay.runs.flat import from_flat
from snndelay.runs.keeping import Keeper, interval
from snndelay.runs.presets import preset_settings
from snndelay.runs.report import read_metrics
from snndelay.runs.session import WITHIN
from snndelay.runs.training import fit, open_job

from ...helpers_runs import KINDS, final, same, settings_of, stopped_at
from ...helpers_training import ROOT, TINY_OPTIONS, call
from ...helpers_vision import write_tiny_vision


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of a few tiny recordings and of images of the same classes."""
    return write_tiny_vision(tmp_path_factory.mktemp("vision"))


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    for job in ("audio.AudioJob", "vision.VisionJob", "memory.MemoryJob"):
        monkeypatch.setattr(f"snndelay.runs.{job}.draw", lambda *_, **__: [])


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_at_any_step_a_run_ends_with_the_same_bits(
    kind, files, folders, tmp_path, monkeypatch
):
    flat = settings_of(kind, files, *folders) | {"runs": str(tmp_path)}
    fit(flat | {"run": "whole"})
    whole = final(tmp_path / "whole")
    for step in (1, 3, 4, 8):  # within an epoch, at the end of its steps, in the next, near the end
        stopped_at(step, monkeypatch, **flat, run=f"cut-{step}")
        torch.rand(3)  # another process is in another random state
        folder = tmp_path / f"cut-{step}"
        fit(flat | {"run": folder.name}, resume=folder)
        cut = final(folder)
        differ = [k for k in whole[0] if not same(whole[0][k], cut[0].get(k))]
        assert same(whole, cut), (step, differ)


def test_a_run_stopped_while_it_is_evaluated_goes_on_there(files, tmp_path, monkeypatch):
    flat = settings_of("audio", files, "", "") | {"runs": str(tmp_path)}
    fit(flat | {"run": "whole"})
    evaluate, calls = audio.AudioJob.evaluate, []

    def stopped(*argv):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGHUP)
        return evaluate(*argv)

    with monkeypatch.context() as patch:
        patch.setattr(audio.AudioJob, "evaluate", stopped)
        with pytest.raises(Interrupted) as caught:
            fit(flat | {"run": "cut"})
    assert caught.value.exit_code == 129
    assert checkpoint.load(tmp_path / "cut" / "last.pt")["record"]["epoch"] == 2
    fit(flat | {"run": "cut"}, resume=tmp_path / "cut")
    assert same(final(tmp_path / "whole"), final(tmp_path / "cut"))


def test_checkpoints_come_by_steps_and_by_minutes(files, tmp_path, monkeypatch):
    flat = settings_of("audio", files, "", "") | {"runs": str(tmp_path), "epochs": 2}
    saved, save = [], checkpoint.save_newest

    def keep(folder, state):
        saved.append((state["epoch"], state["step"]))
        save(folder, state)

    monkeypatch.setattr(checkpoint, "save_newest", keep)
    fit(flat | {"checkpoint_every": "2"})
    assert saved == [(0, 2), (1, 0), (1, 2), (2, 0)]
    saved.clear()
    fit(flat | {"checkpoint_every": "0.000001m"})
    assert saved == [(0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3), (2, 0)]
    saved.clear()
    fit(flat)
    assert saved == [(1, 0), (2, 0)]


@pytest.mark.parametrize("word", ["", "0", "0m", "x", "10s", "-1", "1.5", "m", "nanm"])
def test_other_words_are_no_interval(word):
    with pytest.raises(ConfigError, match="give minutes, as 10m, or a number of steps, as 500"):
        interval(word)
    assert interval("10m") == (10, 0) and interval("1.5m") == (1.5, 0) and interval("3") == (0, 3)


def test_the_previous_checkpoint_stands_in_for_a_damaged_one(files, tmp_path, monkeypatch, capsys):
    flat = settings_of("audio", files, "", "") | {"runs": str(tmp_path)}
    fit(flat | {"run": "whole"})
    stopped_at(5, monkeypatch, **flat, run="cut")
    path = tmp_path / "cut" / "last.pt"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    fit(flat | {"run": "cut"}, resume=tmp_path / "cut")
    warning = capsys.readouterr().err
    assert "last.pt is damaged (its checksum is wrong)" in warning
    assert "going on with previous.pt, epoch 2, step 0" in warning
    assert same(final(tmp_path / "whole"), final(tmp_path / "cut"))


def spoilt(state):
    """Name -> what is wrong in a checkpoint whose digest is right, and words of the sentence."""
    weight = next(iter(state["model"]))
    nan = torch.full_like(state["model"][weight], float("nan"))
    return {
        "list": ([1], "holds no run"),
        "epoch": (state | {"epoch": -5}, "is at epoch -5, step 0 of 3 epochs"),
        "late": (state | {"epoch": 99}, "is at epoch 99"),
        "word": (state | {"epoch": "x"}, "holds no run"),
        "nan": (state | {"model": state["model"] | {weight: nan}}, f"in {weight} that are NaN"),
        "future": (state | {"format": 99}, "has format 99, and this version reads up to"),
        "missing": ({k: v for k, v in state.items() if k != "optimizers"}, "lacks optimizers"),
        "shape": (state | {"model": state["model"] | {weight: torch.ones(1)}}, "another network"),
        "no settings": (state | {"config": [1]}, "holds no settings"),
        "no epochs": (state | {"config": {}}, "holds no settings"),
        "no moments": (state | {"optimizers": []}, "other optimizers"),
    }  # fmt: skip


@pytest.mark.parametrize("fault", [*spoilt({"model": {"a": torch.ones(2)}})])
def test_a_checkpoint_with_a_right_digest_and_wrong_content(fault, files, tmp_path, monkeypatch):
    flat = settings_of("audio", files, "", "") | {"runs": str(tmp_path), "run": "cut"}
    stopped_at(3, monkeypatch, **flat)
    path = tmp_path / "cut" / "last.pt"
    content, words = spoilt(checkpoint.load(path) | {"step": 0})[fault]
    checkpoint.save(path, content)
    with pytest.raises(UserError, match=words) as caught:
        fit(flat, resume=tmp_path / "cut")
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_the_first_format_goes_on(files, tmp_path, monkeypatch):
    flat = settings_of("audio", files, "", "") | {"runs": str(tmp_path)}
    fit(flat | {"run": "whole"})
    stopped_at(3, monkeypatch, **flat, run="cut")
    path = tmp_path / "cut" / "previous.pt"
    assert not path.exists()
    fit(flat | {"run": "b", "epochs": 3, "checkpoint_every": "1"})
    state = checkpoint.load(tmp_path / "whole" / "last.pt")
    old = {k: v for k, v in state.items() if k not in (*WITHIN, "format", "average")}
    checkpoint.save(tmp_path / "old.pt", old)
    found = checkpoint.load_run(tmp_path / "old.pt")
    assert found["format"] == checkpoint.FORMAT and found["step"] == 0 and found["epoch"] == 3


def test_a_run_that_is_trained_is_not_gone_on_with(files, tmp_path, monkeypatch):
    flat = settings_of("audio", files, "", "") | {"runs": str(tmp_path), "run": "a"}

    def second(keeper, session):
        with pytest.raises(RunError, match=r"another process trains .*a: wait for it, or end"):
            fit(flat, resume=tmp_path / "a")
        tried.append(1)

    tried = []
    monkeypatch.setattr(Keeper, "after_step", second)
    fit(flat | {"epochs": 1})
    assert tried and read_metrics(tmp_path / "a" / "metrics.jsonl")[-1]["epoch"] == 1


def test_a_folder_that_is_removed_or_renamed_while_it_trains(files, tmp_path, monkeypatch):
    flat = settings_of("audio", files, "", "") | {"runs": str(tmp_path), "run": "a"}
    monkeypatch.setattr(Keeper, "after_step", lambda *_: shutil.rmtree(tmp_path / "a", True))
    with pytest.raises(RunError, match="a is gone, removed or renamed while it trained"):
        fit(flat)


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV"])
def test_a_worker_that_ends_costs_no_step(name, files, tmp_path, monkeypatch):
    flat = settings_of("audio", files, "", "") | {"runs": str(tmp_path), "workers": 2}
    fit(flat | {"run": "whole"})
    after, made = Keeper.after_step, []

    def kill_one(keeper, session):
        made.append(1)
        if len(made) == 4:
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, getattr(signal, name))
                worker.join()
        after(keeper, session)

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "after_step", kill_one)
        with pytest.raises(DataError, match=f"worker . was killed by {name}") as caught:
            fit(flat | {"run": "cut"})
    assert "what is trained is saved, go on with: snndelay train --resume" in str(caught.value)
    assert not multiprocessing.active_children()
    state = checkpoint.load(tmp_path / "cut" / "last.pt")
    assert (state["epoch"], state["step"]) == (1, 1), "what was made is saved"
    fit(flat | {"run": "cut", "workers": 0}, resume=tmp_path / "cut")
    whole, cut = final(tmp_path / "whole"), final(tmp_path / "cut")
    for state, _ in (whole, cut):
        del state["config"]["workers"]
    assert same(whole, cut)


# -- from the command line ---


def command(*argv):
    return call(main, "train", *argv)


@pytest.fixture
def cut(files, tmp_path, monkeypatch):
    """Folder of a run of three epochs that was stopped in its second."""
    monkeypatch.chdir(tmp_path)
    flat = settings_of("audio", files, "", "") | {"runs": "runs", "run": "cut"}
    stopped_at(4, monkeypatch, **flat)
    return Path("runs/cut")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed is 1 and was 0"),
        ({"dropout": 0.9}, "dropout is 0.9 and was 0.4"),
        ({"batch_size": 2, "n_steps": 10}, "batch_size is 2 and was 3"),
        ({"epochs": 2}, "epochs is 2 and was 3"),
        ({"epochs": "x"}, "epochs is 'x': give a value of type int"),
        ({"n_hidden": None}, "n_hidden is null"),
        ({"neuron": "lift"}, "unknown neuron 'lift': did you mean"),
        ({"delays": ["learned"]}, "delays is ('learned',): give a value of type str"),
        ({"nonsense": 1}, "unknown setting 'nonsense'"),
        ({"preset": 3}, "names no kind of run"),
        ({"kind": ["audio"]}, "names no kind of run"),
    ],
)
def test_an_edited_config_is_not_gone_on_with_in_silence(change, words, cut):
    config = read_json(cut / "config.json")
    (cut / "config.json").write_text(json.dumps(config | change))
    code, _, err = command("--resume", cut)
    assert code == 2 and words in err and len(err.splitlines()) == 1, err
    if "and was" in words:
        assert "add --allow-changes to go on with it" in err
    for text in ("[1, 2]", "{", "7"):
        (cut / "config.json").write_text(text)
        code, _, err = command("--resume", cut)
        assert code == 2 and "config.json" in err and len(err.splitlines()) == 1, err


def test_an_edited_config_is_gone_on_with_if_that_is_allowed(cut):
    config = read_json(cut / "config.json")
    (cut / "config.json").write_text(json.dumps(config | {"dropout": 0.1}))
    code, _, err = command("--resume", cut, "--allow-changes")
    assert (code, err) == (0, "")
    assert checkpoint.load(cut / "last.pt")["config"]["dropout"] == 0.1
    code, _, err = command("spoken-digits", "--allow-changes")
    assert code == 2 and "--allow-changes is for a run that goes on: add --resume RUN" in err
    code, _, err = command("--resume", "")
    assert code == 2 and "--resume is empty: give the folder or the name of a run" in err


def test_rates_may_be_lowered_when_a_run_goes_on(cut):
    code, _, err = command("--resume", cut, "--lr-max", 1e-5, "--grad-clip", 0.1)
    assert (code, err) == (0, "")
    first, second, third = read_metrics(cut / "metrics.jsonl")
    fresh = new_session(DelayNet(4, 3, 8, max_delay_steps=5), from_flat({
        "kind": "audio", "lr_max": 1e-5, "epochs": 3}))  # fmt: skip
    fresh.epoch = 2
    for _ in range(2):
        fresh.next_rates()
    assert first["lr"] == pytest.approx(2e-4) and third["lr"] == fresh.rates()["lr"] < 1e-5
    assert second["lr_position"] > third["lr_position"] > 0


def test_data_that_were_moved_are_the_same_data_and_others_are_not(cut, files, tmp_path):
    moved, other = tmp_path / "elsewhere.h5", tmp_path / "other.h5"
    shutil.copy(files[0], moved)
    shutil.copy(files[0], other)
    with h5py.File(other, "a") as file:  # equal labels
        file["spikes/units"][0] = (file["spikes/units"][0] + 1) % 700
    code, _, err = command("--resume", cut, "--dataset", other)
    assert code == 2 and "hold something else than when this run was started" in err, err
    code, _, err = command("--resume", cut, "--dataset", moved)
    assert (code, err) == (0, "")


def test_the_content_of_a_named_set_is_no_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = open_job(from_flat(preset_settings("spoken-digits")))
    before = content_of(job)
    (tmp_path / "spoken-digits").mkdir()
    (tmp_path / "spoken-digits" / "a.wav").write_bytes(b"x")
    assert content_of(job) == before


def test_content_is_that_of_files_wherever_they_lie(folders, tmp_path):
    recordings, images = (shutil.copytree(f, tmp_path / Path(f).name) for f in folders)
    flat = settings_of("align", ("", ""), str(recordings), str(images))

    def content():
        return content_of(open_job(from_flat(flat)))

    before = content()
    flat |= {"dataset": str(recordings.rename(tmp_path / "b"))}
    flat |= {"static": str(images := images.rename(tmp_path / "c"))}
    assert content() == before
    (tmp_path / "b" / "notes.txt").write_text("no recording")
    (images / "notes.txt").write_text("no image")
    assert content() == before, "what is not used is no change"
    for folder in (tmp_path / "b", images):
        path, other, *_ = sorted(p for p in folder.rglob("*") if p.is_file())
        raw = path.read_bytes()
        path.write_bytes(other.read_bytes())
        assert content() != before, path
        path.write_bytes(raw)
        assert content() == before


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_signal_saves_a_run_of_a_process(name, files, tmp_path):
    number = getattr(signal, name)
    words = [sys.executable, ROOT / "train.py", files[0], "--test-file", files[1], *TINY_OPTIONS]
    words += ["--epochs", "100000", "--run", "a"]
    process = subprocess.Popen(
        [*map(str, words)],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    while not (tmp_path / "runs/a/last.pt").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert err == "stopped and saved, go on with: python train.py --resume runs/a\n"


@pytest.mark.parametrize("delay_s", [0.1, 0.4, 0.8, 1.2, 2.0])
def test_ctrl_c_while_the_program_starts_is_no_traceback(delay_s, files, tmp_path):
    words = [sys.executable, ROOT / "train.py", files[0], "--test-file", files[1], *TINY_OPTIONS]
    where = dict(cwd=tmp_path, stderr=subprocess.PIPE, stdout=-3, text=True)
    process = subprocess.Popen([*map(str, words)], **where)
    time.sleep(delay_s)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    # before Python runs any of our lines it answers by itself
    assert "Traceback" not in err or "snndelay" not in err, err


@pytest.mark.parametrize("name", ["../x", "a/b", "/tmp/x", "..", ""])
def test_a_run_lies_in_the_folder_of_runs(name, files):
    code, _, err = command(files[0], "--run", name)
    assert code == 2 and "give a name, and the folder that holds it with --runs" in err, err
