"""A run in several processes is the run of one, and whatever ends one of them ends all."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from snndelay import fit
from snndelay.errors import UserError
from snndelay.runs import keeping
from snndelay.runs.cli import main

from ...helpers_ranks import together
from ...helpers_runs import KINDS, settings_of
from ...helpers_training import ROOT, TINY_OPTIONS, call
from ...helpers_vision import write_tiny_vision

STOPS = (1, 4)  # steps after which a run is stopped: in the first epoch and in a later one


@pytest.fixture(scope="module")
def flats(files, tmp_path_factory):
    """Settings of a run of each kind, which draws no dropout masks: they differ by process."""
    folders = write_tiny_vision(tmp_path_factory.mktemp("vision"))
    where = {"runs": str(tmp_path_factory.mktemp("runs")), "dropout": 0.0}
    found = {kind: settings_of(kind, files, *folders) | where for kind in KINDS}
    found["memory"].pop("dropout")
    return found


def _outcome(flat: dict, **how) -> dict:
    """Metrics, accuracy and weights of a run, or the sentence that ends it."""
    try:
        summary = fit(flat, draw=False, **how)
    except UserError as error:
        return {"error": (type(error).__name__, str(error), error.told_elsewhere)}
    folder = Path(flat["runs"]) / summary["folder"]
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    weights = torch.load(folder / "last.pt", weights_only=True)["model"]
    return {"summary": summary, "losses": [r["loss"] for r in metrics], "weights": weights}


def _runs(flats: dict) -> dict:
    """Every kind of run, in this process and in those beside it."""
    size = dist.get_world_size() if dist.is_initialized() else 1
    return {k: _outcome(flat | {"run": f"{k}-{size}"}) for k, flat in flats.items()}


def _stopped(flats: dict) -> dict:
    """Runs that end after some steps, by a signal to the second process."""
    found, after_step = {}, keeping.Keeper.after_step

    def stopping(keeper, session):
        nonlocal steps
        steps += 1
        if steps == at and session.ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        after_step(keeper, session)

    keeping.Keeper.after_step = stopping
    for kind, flat in flats.items():
        for at in STOPS:
            steps = 0
            found[f"{kind}-{at}"] = _outcome(flat | {"run": f"{kind}-stopped-{at}"})
    keeping.Keeper.after_step = after_step
    return found


def _resumed(flats: dict, name: str) -> dict:
    """The rest of these runs, copied before so that it can be trained again."""
    found = {}
    for kind, flat in flats.items():
        for at in STOPS:
            folder = Path(flat["runs"]) / f"{kind}-stopped-{at}-{name}"
            flat = flat | {"run": f"{kind}-stopped-{at}"}
            found[f"{kind}-{at}"] = _outcome(flat, resume=folder)
    return found


@pytest.fixture(scope="module")
def alone(flats):
    """The runs in one process."""
    return _runs(flats)


@pytest.fixture(scope="module")
def stopped(flats):
    """Runs of two processes that were stopped: their checkpoints go on in one, two and three."""
    found = together(2, _stopped, flats)
    for kind, flat in flats.items():
        for at in STOPS:
            folder = Path(flat["runs"]) / f"{kind}-stopped-{at}"
            for name in "123":
                shutil.copytree(folder, f"{folder}-{name}")
    return found


def _same(got: dict, want: dict, most: float = 1e-4) -> None:
    assert "error" not in got, got
    assert got["losses"] == pytest.approx(want["losses"], rel=most)
    for name, value in want["weights"].items():
        off = (got["weights"][name].double() - value.double()).norm()
        assert off <= most * value.double().norm().clamp_min(1e-3), name
    assert got["summary"]["accuracy"] == want["summary"]["accuracy"]
    assert got["summary"]["n"] == want["summary"]["n"]


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.faults)])
def test_every_kind_of_run_is_that_of_one_process(size, flats, alone):
    for found in together(size, _runs, flats):
        for kind in KINDS:
            _same(found[kind], alone[kind])
            assert found[kind]["summary"]["processes"] == size


def test_a_signal_to_one_process_stops_all_at_one_step(flats, stopped):
    for rank, found in enumerate(stopped):
        for kind, flat in flats.items():
            for at in STOPS:
                what, text, told = found[f"{kind}-{at}"]["error"]
                assert what == "Interrupted" and told == (rank > 0)
                if rank == 0:
                    assert f"--resume {flat['runs']}/{kind}-stopped-{at}" in text


@pytest.mark.parametrize("size", [1, 2, pytest.param(3, marks=pytest.mark.faults)])
def test_what_two_processes_have_saved_any_number_goes_on_with(size, flats, alone, stopped):
    alike = (_resumed, flats, str(size))
    for found in together(size, *alike) if size > 1 else [_resumed(*alike[1:])]:
        for kind in KINDS:
            for at in STOPS:
                _same(found[f"{kind}-{at}"], alone[kind])


def _refused(flats: dict, other: str) -> dict:
    """Runs that cannot start."""
    audio, rank = flats["audio"], dist.get_rank()
    second = audio | ({"dataset": other} if rank == 1 else {})
    missing = audio | ({"dataset": "nowhere.h5"} if rank == 1 else {})
    return {
        "small": _outcome(audio | {"batch_size": 1, "run": "small"}),
        "other": _outcome(second | {"run": "other"}),
        "settings": _outcome(audio | {"epochs": 3 + rank, "run": "settings"}),
        "missing": _outcome(missing | {"run": "missing"}),
        "complete": _outcome(audio, resume=Path(audio["runs"]) / "audio-1"),
    }


def test_a_run_that_cannot_start_says_so_once(flats, files, alone):
    first, second = together(2, _refused, flats, files[1])
    sentences = {
        "small": "a batch of the epoch has 1 clips, fewer than the 2 processes",
        "other": "process 1 sees other data than process 0",
        "settings": "process 1 has another epochs than process 0",
        "missing": "nowhere.h5",
        "complete": "is complete: nothing to resume",
    }
    for kind, sentence in sentences.items():
        assert sentence in first[kind]["error"][1] and sentence in second[kind]["error"][1]
    for kind in first:
        assert not first[kind]["error"][2] and second[kind]["error"][2]
        assert not (Path(flats["audio"]["runs"]) / kind).exists()


# -- torchrun ---


def _torchrun(files, folder: Path, *options: str) -> subprocess.Popen:
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--"]
    words += [ROOT / "train.py", files[0], "--test-file", files[1], *TINY_OPTIONS, *options]
    place = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*map(str, words)],
        cwd=folder,
        env=os.environ | place,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _workers(of: subprocess.Popen) -> list[int]:
    """The processes that train, in the order of their ranks."""
    children = Path(f"/proc/{of.pid}/task/{of.pid}/children").read_text().split()
    return sorted(map(int, children))


def _once_saved(process: subprocess.Popen, folder: Path) -> None:
    while not (folder / "runs/a/last.pt").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def test_torchrun_trains_what_one_process_trains(files, tmp_path):
    process = _torchrun(files, tmp_path, "--run", "a", "--dropout", "0")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert out.count("test accuracy") == 1 and out.count("plots:") == 1
    folder = tmp_path / "runs" / "a"
    assert [path.name for path in folder.parent.iterdir()] == ["a"]
    one = ["--run", "b", "--runs", tmp_path / "runs", "--dropout", "0", *TINY_OPTIONS]
    code, _, err = call(main, "train", files[0], "--test-file", files[1], *one)
    assert code == 0, err
    lines = [(folder.parent / name / "metrics.jsonl").read_text().splitlines() for name in "ab"]
    got, want = ([json.loads(line)["loss"] for line in part] for part in lines)
    assert got == pytest.approx(want, rel=1e-4)


def test_a_process_that_is_killed_ends_the_other_and_the_run_goes_on(files, tmp_path):
    long = ["--run", "a", "--epochs", "100000"]
    process = _torchrun(files, tmp_path, *long)
    _once_saved(process, tmp_path)
    workers = _workers(process)
    os.kill(workers[1], signal.SIGKILL)
    _, err = process.communicate(timeout=30)
    assert process.returncode != 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    sentence = "another process of this run is gone, or does not answer: go on from what was saved"
    assert err.count(sentence) <= 1 and str(ROOT / "snndelay") not in err  # no traceback of ours
    before = len((tmp_path / "runs/a/metrics.jsonl").read_text().splitlines())
    again = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "--resume", "a"], cwd=tmp_path, stdout=-3
    )
    end = time.monotonic() + 60
    while len((tmp_path / "runs/a/metrics.jsonl").read_text().splitlines()) <= before + 1:
        assert again.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    again.send_signal(signal.SIGTERM)
    assert again.wait(30) == 143


def test_other_commands_run_in_one_process(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    code, _, err = call(main, "study", "--list")
    assert code == 2 and "study runs in one process: start it without torchrun" in err
    monkeypatch.setenv("RANK", "1")
    assert call(main, "study", "--list") == (2, "", "")


def test_the_script_for_a_cluster_trains_and_goes_on(files, tmp_path):
    page = (ROOT / "docs" / "devices.md").read_text()
    script = page.split("<!-- slurm -->\n```bash\n")[1].split("```")[0]
    for words in ("shd --run $RUN", "-- train.py $WHAT"):
        assert words in script
    data = f"{files[0]} --test-file {files[1]} {' '.join(TINY_OPTIONS)}"
    script = script.replace("shd --run $RUN", f"{data} --run $RUN --device cpu")
    script = script.replace("train.py $WHAT", f"{ROOT / 'train.py'} $WHAT")
    script = script.replace("torchrun", f"{sys.executable} -m torch.distributed.run")
    fakes = {
        "srun": 'exec "$@"',
        "scontrol": '[ "$1" = show ] && echo localhost || echo "$@" >> queue',
    }
    for name, text in fakes.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
    slurm = dict(SLURM_JOB_ID="7", SLURM_JOB_NODELIST="localhost", SLURM_NNODES="1")
    slurm |= dict(SLURM_GPUS_ON_NODE="2", PATH=f"{tmp_path}:{os.environ['PATH']}")
    slurm |= dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    how = dict(cwd=tmp_path, env=os.environ | slurm, capture_output=True, text=True, timeout=240)
    run = subprocess.run(["bash", "-c", script], **how)
    assert (tmp_path / "runs/shd-7/summary.json").exists(), run.stderr
    assert not (tmp_path / "queue").exists()
    (tmp_path / "runs/shd-7/summary.json").unlink()  # as if its time had been over
    run = subprocess.run(["bash", "-c", script], **how)
    assert (tmp_path / "runs/shd-7/summary.json").exists(), run.stderr
