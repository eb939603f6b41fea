"""Stopped at a random step by one process, gone on with by another: the same bits."""

import random

from snndelay.runs.flat import from_flat
from snndelay.runs.training import fit, open_job

from ..helpers_runs import KINDS, settings_of
from .conftest import often
from .processes import assert_ends_alike, started, stop_at

# settings of the process that is stopped, and of the next
CREWS = [({"workers": a}, {"workers": b}) for a in (0, 2) for b in (0, 2)]
WITH_WORKERS = ("audio", "average")


@often(2, 20)
def test_a_run_goes_on_in_another_process(tries, trial, files, folders, tmp_path):
    draw = random.Random(tries)
    for n in range(tries):
        kind = KINDS[n % len(KINDS)]
        before, after = draw.choice(CREWS) if kind in WITH_WORKERS else ({}, {})
        flat = settings_of(kind, files, *folders) | {"runs": str(tmp_path)}
        if not (tmp_path / kind).exists():
            fit(flat | {"run": kind}, draw=False)
        job = open_job(from_flat(flat))
        step = draw.randrange(1, flat["epochs"] * len(job.batches(job.train, 0)))
        cut, said = tmp_path / f"{kind}-{n}", tmp_path / f"said-{n}"
        with trial("exact resume", f"{kind}, step {step}, {before} and {after}"):
            process = started(said, stop_at, flat | {"run": cut.name} | before, step)
            process.join()
            assert process.exitcode == 0, said.read_text()
            fit(flat | {"run": cut.name} | after, resume=cut, draw=False)
            assert_ends_alike(tmp_path / kind, cut)
