"""Jobs side by side: each has one result, and a process that dies takes no other job along."""

import os
import time
from multiprocessing.context import SpawnProcess

import pytest

from snndelay.runs import workers
from snndelay.runs.workers import in_processes

from ...helpers_workers import double, leave_a_note


def test_one_process_is_this_one():
    found = dict(in_processes(double, [1, 2, 3], 1))
    assert {job: made[0] for job, made in found.items()} == {1: 2, 2: 4, 3: 6}
    assert {made[1] for made in found.values()} == {os.getpid()}


def test_a_job_that_kills_its_process_has_no_result():
    found = dict(in_processes(double, [1, -1, 2, 3], 2))
    assert found.keys() == {1, -1, 2, 3} and found[-1] is None
    assert {job: made[0] for job, made in found.items() if made} == {1: 2, 2: 4, 3: 6}
    assert os.getpid() not in {made[1] for made in found.values() if made}


def test_closing_ends_the_processes():
    results = in_processes(double, [1, 500, 2], 2)
    _, (_, pid) = next(results)
    started = time.monotonic()
    results.close()
    assert time.monotonic() - started < 15, "the process at work was waited for"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_idle_process_tidies_up(tmp_path, monkeypatch):
    end = SpawnProcess.terminate

    def late(process):  # when the process has seen the end of its line, and is leaving
        time.sleep(0.3)
        end(process)

    monkeypatch.setattr(SpawnProcess, "terminate", late)
    notes = [f"{tmp_path}/{name}" for name in "ab"]
    list(in_processes(leave_a_note, notes, 2))
    assert len([*tmp_path.iterdir()]) == 2, "told to end, a process stopped tidying up"


def test_processes_share_out_the_cores(monkeypatch):
    pinned = {}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4}, raising=False)
    monkeypatch.setattr(
        os, "sched_setaffinity", lambda _, mine: pinned.update({len(pinned): mine}), raising=False
    )
    for number in range(2):
        workers.pin(number, 2)
    assert pinned == {0: [0, 2, 4], 1: [1, 3]}
    workers.pin(0, 6)
    assert len(pinned) == 2, "more processes than cores are not pinned"
