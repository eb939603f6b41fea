"""Worker processes of a loader that are killed at random moments."""

import os
import random
import signal
import time
from pathlib import Path

from snndelay.runs.training import fit

from ..helpers_runs import settings_of
from .conftest import often
from .processes import assert_ends_alike, started, train, wait_until


def children(pid: int) -> list[int]:
    """Process ids of those that a process has started."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


@often(1, 20)
def test_a_worker_is_killed(tries, trial, files, tmp_path):
    draw, made = random.Random(tries), 0
    flat = settings_of("audio", files, "", "") | {"runs": str(tmp_path), "epochs": 8}
    fit(flat | {"run": "whole"}, draw=False)
    while made < tries:
        folder, said = tmp_path / f"cut-{made}", tmp_path / f"said-{made}"
        process = started(said, train, flat | {"run": folder.name, "workers": 2})
        wait_until(lambda f=folder, p=process: f.exists() or p.exitcode is not None)
        time.sleep(draw.uniform(0, 1))
        wait_until(lambda p=process: children(p.pid) or p.exitcode is not None)
        workers = children(process.pid)
        number = (signal.SIGKILL, signal.SIGSEGV)[made % 2]
        made += 1
        with trial("loader workers", f"{made}, {number.name}"):
            for worker in workers[:1]:
                os.kill(worker, number)
            process.join(30)
            assert process.exitcode is not None, "the run hangs"
            text = said.read_text()
            assert "Traceback" not in text, text
            if process.exitcode:  # else it did not need that worker any more
                assert process.exitcode == 2 and f"was killed by {number.name}" in text, text
            left = [pid for pid in workers if Path(f"/proc/{pid}").exists()]
            assert not left, f"processes {left} are left"
            if process.exitcode:
                resume = folder if folder.exists() else None
                fit(flat | {"run": folder.name}, resume=resume, draw=False)
            assert_ends_alike(tmp_path / "whole", folder)
