"""SIGKILL, again and again, while a run does little else than save."""

import os
import random
import signal
import time

from snndelay.runs import checkpoint
from snndelay.runs.training import fit

from ..helpers_runs import settings_of
from .conftest import often
from .processes import assert_ends_alike, started, train, wait_until


def place(folder):
    """(epoch, step) of what a run would go on from."""
    state, _ = checkpoint.load_newest(folder)
    return state["epoch"], state["step"]


def stamp(folder):
    """Changes with every checkpoint; 0 before the first."""
    path = folder / checkpoint.NEWEST
    return path.stat().st_mtime_ns if path.exists() else 0


@often(3, 100)
def test_a_storm_of_kills(tries, trial, files, tmp_path):
    draw, n, cut_short = random.Random(tries), 0, 0
    flat = settings_of("audio", files, "", "") | {"runs": str(tmp_path), "checkpoint_every": "1"}
    flat |= {"epochs": min(60, 10 * tries)}
    fit(flat | {"run": "whole"}, draw=False)
    folder, said = tmp_path / "cut-0", tmp_path / "said"

    def start():
        """A process that trains, once it has saved."""
        before, resume = stamp(folder), folder if folder.exists() else None
        process = started(said, train, flat | {"run": folder.name}, resume)
        wait_until(lambda: stamp(folder) != before or process.exitcode is not None)
        return process

    process = start()
    while n < tries:
        time.sleep(draw.uniform(0, 0.04))
        saved = place(folder)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        if process.exitcode == 0:  # it was done before
            assert_ends_alike(tmp_path / "whole", folder)
            folder = tmp_path / f"cut-{n}"
            process = start()
            continue
        n += 1
        with trial("kills", f"kill {n}"):
            litter = [*folder.glob(f".*{process.pid}")]
            cut_short += bool(litter)
            assert place(folder) >= saved, f"goes on from {place(folder)}, and {saved} was saved"
            process = start()
            assert process.exitcode in (None, 0), said.read_text()
            assert not any(path.exists() for path in litter), "what the kill left is still there"
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    fit(flat | {"run": folder.name}, resume=folder, draw=False)
    assert_ends_alike(tmp_path / "whole", folder)
    assert cut_short or tries < 100, "no kill hit a run while it saved"
