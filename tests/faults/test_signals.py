"""Signals at random moments of real processes, the first moments of a program among them."""

import os
import random
import signal
import time

import pytest

from snndelay.runs.presets import preset_settings
from snndelay.runs.training import fit

from ..helpers_runs import settings_of
from ..helpers_workers import any_of_group
from .conftest import often
from .processes import (
    assert_ends_alike,
    program,
    started,
    train,
    train_without_end,
    wait_until,
)

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
WITHIN_S = 10  # and a step, of a millisecond here
LIFE_S = 2.0  # of a run, from when it is started; PROGRAM_S: of one that imports everything first
PROGRAM_S = 6.0


def settings(files, runs):
    """Those of a run of a second or two."""
    flat = preset_settings("audio-small") | settings_of("audio", files, "", "")
    return flat | {"runs": str(runs), "epochs": 25}


def code_of(process):
    """Exit code of either kind of process; None while it runs."""
    return process.poll() if hasattr(process, "poll") else process.exitcode


def stopped(start, send, number, latest_s, draw):
    """The exit code of a process that was sent a signal while it ran, and the seconds that it took
    to end."""
    for _ in range(10):
        process = start()
        time.sleep(draw.uniform(0, latest_s))
        if code_of(process) is None:
            try:
                send(process.pid, number)
            except ProcessLookupError:  # it has no group yet
                os.kill(process.pid, number)
            sent = time.monotonic()
            wait_until(lambda p=process: code_of(p) is not None)
            if code_of(process) != 0:
                wait_until(lambda p=process: not any_of_group(p.pid), 5)
                return code_of(process), time.monotonic() - sent
        latest_s *= 0.7  # it was done before
    raise AssertionError("the run always ended before the signal came")


@often(1, 20)
@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_at_a_random_moment(name, tries, trial, files, tmp_path):
    number, draw = getattr(signal, name), random.Random(f"{name} {tries}")
    flat = settings(files, tmp_path)
    fit(flat | {"run": "whole"}, draw=False)
    for n in range(tries):
        own = flat | {"workers": 2 * (n % 2)}
        new, to_group = n % 4 == 3, n % 8 > 3  # Ctrl-C goes to all processes of a terminal
        made = iter(range(10))
        folder, said = None, tmp_path / f"said-{n}"

        def start(own=own, new=new, said=said, made=made, n=n):
            nonlocal folder
            folder = tmp_path / f"cut-{n}-{next(made)}"
            how = own | {"run": folder.name}
            return program(how, said) if new else started(said, train, how)

        with trial(name, f"{n}, {'a program' if new else 'a process'}"):
            send, latest_s = os.killpg if to_group else os.kill, PROGRAM_S if new else LIFE_S
            code, seconds = stopped(start, send, number, latest_s, draw)
            assert seconds < WITHIN_S, f"ended after {seconds:.1f} s"
            # before our first line the system ends it (a shell says 128 + number), or Python
            text = said.read_text()
            early = not folder.exists() and (code == -number or "train.py" not in text)
            assert code == 128 + number or (new and early), f"code {code}: {text}"
            assert "Traceback" not in text or (new and early), text
            if folder.exists():
                fit(flat | {"run": folder.name}, resume=folder, draw=False)
                assert_ends_alike(tmp_path / "whole", folder)


@often(1, 5)
@pytest.mark.parametrize("name", SIGNALS)
def test_a_second_signal_ends_a_process_at_once(name, tries, trial, files, tmp_path):
    number = getattr(signal, name)
    for n in range(tries):
        within, said = tmp_path / f"within-{n}", tmp_path / f"said-{n}"
        with trial("second signal", f"{name} {n}"):
            process = started(said, train_without_end, settings(files, tmp_path), within)
            wait_until(within.exists)
            os.kill(process.pid, number)
            process.join(0.3)
            assert process.exitcode is None, "the step was not finished"
            os.kill(process.pid, number)
            process.join(3)
            assert process.exitcode == 128 + number, f"{process.exitcode}: {said.read_text()}"
