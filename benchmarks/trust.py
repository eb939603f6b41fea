"""What it costs that a run survives: memory over many steps, guards against NaN, checkpoints.

    python benchmarks/trust.py [--preset spoken-digits] [--steps 1000] [--rounds 100]

Trains as a run does, saving every hundred steps, and watches the resident memory after the first
hundred. Then the guarded step alternates with a plain one (the same gradients, optimizers and
clamp) of an equal network, and checkpoints are timed; at `--checkpoint-every 10m`, the default,
there is one in ten minutes of training. Appends one JSON line each to
benchmarks/results/trust.jsonl; the other lines there are those of `pytest -m faults --trust`.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from common import RESULTS, append

from snndelay.kernels.profile.measure import resident, where
from snndelay.learning import clamp_
from snndelay.runs.audio import AudioJob, open_job, step_gradients, train_step
from snndelay.runs.checkpoint import NEWEST
from snndelay.runs.flat import from_flat
from snndelay.runs.keeping import Keeper, Signals, interval
from snndelay.runs.machine import keep_freed_memory, set_threads
from snndelay.runs.presets import preset_settings
from snndelay.runs.session import Session, new_net
from snndelay.runs.training import one_epoch, to_flat

WARM = 100  # steps before memory is watched, and between two checkpoints meanwhile


class Enough(Exception):
    """As many steps as were asked for."""


def new_session(job: AudioJob) -> Session:
    """A network before training, on the CPU."""
    return job.new_session(new_net(job.settings, job.sizes, torch.device("cpu")))


def memory(job: AudioJob, session: Session, keeper: Keeper, steps: int) -> dict:
    """Bytes by which the process grew at most during so many steps, after WARM of them."""
    seen: list[int] = []

    def step(*_) -> None:
        seen.append(resident("VmRSS"))
        if len(seen) == WARM + steps:
            raise Enough

    session.after_step = keeper.after_step
    start = time.perf_counter()
    try:
        while True:
            one_epoch(session, job, SimpleNamespace(step=step))
            session.end_epoch()
    except Enough:
        seconds = time.perf_counter() - start
    _, *watched = seen[WARM - 1 :]
    growth = max(watched) - seen[WARM - 1]
    return {"cost": "memory", "steps": steps, "growth_bytes": growth, "seconds": seconds}


def seconds_of(run: Callable) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def guards(job: AudioJob, session: Session, rounds: int) -> dict:
    """Seconds of a guarded step and of a plain one in turn, and what the guards are of it."""
    plain = new_session(job)
    plain.net.load_state_dict(session.net.state_dict())
    batch = next(iter(job.batches(job.train, 0)))
    session.step = 1

    def plainly() -> None:
        plain.net.zero_grad(set_to_none=True)
        step_gradients(job, plain, batch.x, batch.label_B)
        for optimizer in plain.optimizers:
            optimizer.step()
        clamp_(plain.net)

    def guarded() -> None:
        train_step(job, session, batch)

    plain.net.train()
    for run in (plainly, guarded):  # optimizers make their state
        run()
    pairs = []
    for i in range(rounds):
        order = (plainly, guarded) if i % 2 else (guarded, plainly)
        took = {run: seconds_of(run) for run in order}
        pairs.append((took[guarded], took[plainly]))
    usual = statistics.median(b for _, b in pairs)
    extra = statistics.median(a - b for a, b in pairs)
    return {"cost": "guards", "rounds": rounds, "step_seconds": usual, "of_a_step": extra / usual}


def checkpoints(session: Session, keeper: Keeper, rounds: int) -> dict:
    """Seconds of a checkpoint, and what one in so many minutes is of the time."""
    seconds = statistics.median(seconds_of(lambda: keeper.save(session)) for _ in range(rounds))
    line = {"cost": "checkpoints", "rounds": rounds, "seconds": seconds, "minutes": keeper.minutes}
    bytes_ = (keeper.folder / NEWEST).stat().st_size
    return line | {"bytes": bytes_, "of_a_step": seconds / (60 * keeper.minutes)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--preset", default="spoken-digits")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "trust.jsonl")
    given = parser.parse_args()
    set_threads(given.threads)
    keep_freed_memory()
    flat = preset_settings(given.preset) | {"epochs": WARM + given.steps}  # more than are made
    job = open_job(from_flat(flat))
    every = to_flat(job.settings)["checkpoint_every"]
    session = new_session(job)
    with tempfile.TemporaryDirectory() as folder:
        often = Keeper(Path(folder), {}, str(WARM), Signals())
        usual = Keeper(Path(folder), {}, every, Signals())
        assert usual.minutes, f"{interval(every)} is no time"
        lines = [
            memory(job, session, often, given.steps),
            guards(job, session, given.rounds),
            checkpoints(session, usual, min(given.rounds, 20)),
        ]
    for line in lines:
        append(line | {"preset": given.preset} | where(torch.device("cpu")), given.out)
        print(line)


if __name__ == "__main__":
    main()
