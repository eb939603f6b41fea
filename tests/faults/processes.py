"""Trainings in real processes, which can be signalled and killed. They are forked from one that
has imported everything (warm.py), so that each starts in a moment.
"""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from snndelay.runs import audio
from snndelay.runs.cli import guarded
from snndelay.runs.training import fit

from ..helpers_runs import final, same, stopped_at
from ..helpers_training import ROOT

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.faults.warm", "tests.faults.processes"])


def started(said: Path, work: Callable, *given: Any) -> BaseProcess:
    """A process that does `work(*given)`, in a group of its own; what it says goes to the file
    `said`. It ends with the exit code of the command."""
    process = _CONTEXT.Process(target=_do, args=(said, work, given))
    process.start()
    return process


def _do(said: Path, work: Callable, given: tuple) -> None:
    multiprocessing.set_start_method(None, force=True)  # its own are made as by any program
    os.setpgrp()  # as a shell does, so that Ctrl-C can be sent to the group
    with said.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    raise SystemExit(guarded(lambda _: work(*given), []))


def train(flat: dict[str, Any], resume: Path | None = None) -> None:
    """A run, without pictures."""
    fit(flat, resume=resume, draw=False)


def stop_at(flat: dict[str, Any], step: int) -> None:
    """A run that hears of SIGTERM while it makes its step of this number."""
    with pytest.MonkeyPatch.context() as patch:
        stopped_at(step, patch, **flat)


def train_without_end(flat: dict[str, Any], within: Path) -> None:
    """A run whose first step does not end, and which makes the file `within` meanwhile."""

    def take_step(*_: Any) -> None:
        within.touch()
        time.sleep(600)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio, "take_step", take_step)
        train(flat)


def program(flat: dict[str, Any], said: Path) -> subprocess.Popen:
    """`python train.py` with these settings, which has yet to import everything; in a group of its
    own."""
    words = [w for k, v in flat.items() for w in (f"--{k.replace('_', '-')}", str(v))]
    with said.open("w") as file:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *words],
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def wait_until(true: Callable[[], Any], seconds: float = 60) -> None:
    """Returns when `true()` holds. AssertionError if it does not within so many seconds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def assert_ends_alike(whole: Path, cut: Path) -> None:
    """Two runs have ended with the same bits, whatever made their batches and wherever
    they lie."""
    a, b = final(whole), final(cut)
    for state, _ in (a, b):
        for name in ("workers", "runs"):
            state["config"].pop(name, None)
    differ = [name for name in a[0] if not same(a[0][name], b[0].get(name))]
    assert not differ, f"{cut.name} ends with other {', '.join(differ)}"
    assert same(a[1], b[1]), f"{cut.name} has other metrics"
