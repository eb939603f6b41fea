"""`snndelay study`: the trainings of a grid in parallel processes, one table and one picture.

A folder keeps a study: study.json, runs/ with the folder of every run, results.jsonl, and what is
made of them: table.md, table.csv, study.png. A finished run is trained once, an interrupted one
goes on after its last complete epoch, and how many processes train changes no result.
"""

import shutil
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..data.making import alone_in
from ..errors import CellsFailed, ConfigError, Interrupted, RunError, UserError
from .files import check_is_text, read_summary
from .flat import from_flat
from .grid import Cell, Run, cells_of, check_effects, named, words_of
from .machine import pick_device
from .network import network_settings, new_network
from .report import read_metrics
from .study_file import (
    Study,
    add_result,
    extended,
    mend_results,
    read_results,
    read_study,
    write_study,
)
from .study_options import StudyRequest
from .study_table import groups_of, write_tables
from .training import fit, open_job
from .workers import cores, in_processes

OTHERS = ("angle_error",)  # figures that only some data have
SIZED_BY = ("dataset", "test_file", "units_per_channel", "frame_size")  # settings


class Job(NamedTuple):
    """What a process needs to train a run; `runs` is the folder that holds the run's folder."""

    run: Run
    runs: Path
    preset: str | None


def run_study(request: StudyRequest) -> None:
    """Train what is left of a study, and write its tables and its picture.

    Raises:
        UserError: one sentence, before anything is trained, if a cell cannot be.
        CellsFailed: some runs failed; each has said why, and the others are finished.
        Interrupted: Ctrl-C; what is finished is kept.
    """
    out, study = request.out, _study(request)
    cells = cells_of(study.base, study.grid)
    check_effects(study.base, cells, request.given)
    runs = {cell.run.key: cell.run for cell in cells}
    done = read_results(out, study).keys() & runs.keys()
    left = [run for key, run in runs.items() if key not in done]
    _check_runs(left)
    with _alone_in(out):
        write_study(out, study)
        mend_results(out)
        print(f"{len(cells)} cells, {len(runs)} runs, {len(done)} of them finished", flush=True)
        try:
            failed = _train(out, study, left, len(done), request.processes or _processes(left))
        except (KeyboardInterrupt, Interrupted):
            _write(out, study, cells, draw=False)
            finished = len(read_results(out, study).keys() & runs.keys())
            raise Interrupted(
                f"stopped; {finished} of {len(runs)} runs are finished, go on with: snndelay study "
                f"--resume {out}"
            ) from None
        _write(out, study, cells, draw=True)
    if failed:
        raise CellsFailed(
            f"{failed} of {len(runs)} runs failed, see above; try them again with: snndelay study "
            f"--resume {out}"
        )


def _study(request: StudyRequest) -> Study:
    """The study that a command asks for, together with what its folder holds already."""
    old = read_study(request.out)
    if request.study is None:
        assert old is not None, "the options were read by it"
        return replace(old, base=old.base | request.given)
    return (
        request.study if old is None else extended(request.out, old, request.study, request.given)
    )


def _check_runs(runs: list[Run]) -> None:
    """Opens each data set and makes each network once, so that what is missing or contradicts
    itself is said before the first run."""
    sizes, made = {}, set()
    for run in runs:
        flat = run.settings
        settings = from_flat(flat | {"device": "cpu", "data_on": "host"})
        data = tuple(map(flat.get, SIZED_BY))
        if data not in sizes:
            job = open_job(settings)
            if job.test is None and flat.get("protocol") != "validation":
                text = (
                    "a study compares accuracies on test clips: add --test-file FILE.h5, or "
                    "--protocol validation for clips held out of training"
                )
                raise ConfigError(text)
            sizes[data] = job.sizes
        network = f"{data} {[flat[name] for name in network_settings(settings.kind)]}"
        if network not in made:
            made.add(network)
            with named(run.values):
                new_network(settings, sizes[data])


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """Makes the folder of a study, in which one command works at a time."""
    check_is_text(out, "--out")
    with ExitStack() as stack:
        try:
            (out / "runs").mkdir(parents=True, exist_ok=True)
            stack.enter_context(
                alone_in(out, f"another command trains the study in {out}", RunError)
            )
        except OSError as error:
            text = f"cannot write in {out} ({error.strerror}): choose another --out"
            raise RunError(text) from error
        yield


def _processes(runs: list[Run]) -> int:
    """One process for every core, or one for a GPU."""
    flat = runs[0].settings if runs else {"device": "cpu", "threads": None}
    on_gpu = pick_device(flat["device"]).type == "cuda"
    return 1 if on_gpu else max(1, cores() // (flat["threads"] or 1))


def _train(out: Path, study: Study, runs: list[Run], done: int, processes: int) -> int:
    """Train runs, keep their results, and say how far it is; returns how many failed."""
    jobs = [Job(run, out / "runs", study.preset) for run in runs]
    started, failed = time.monotonic(), 0
    with closing(in_processes(train_run, jobs, min(processes, len(jobs)) or 1)) as results:
        for count, (job, made) in enumerate(results, start=1):
            name = words_of(job.run.values)
            made = made or {"failed": "its process was killed, perhaps for lack of memory"}
            if "failed" in made:
                failed += 1
                print(f"failed: {name}: {made['failed']}", file=sys.stderr, flush=True)
                continue
            add_result(out, made)
            seconds = (time.monotonic() - started) / count * (len(runs) - count)
            print(
                f"{done + count - failed} / {done + len(runs)} done: {name}: accuracy "
                f"{made['accuracy']:.1%} (n = {made['n']}), {duration(made['seconds'])}"
                + (f"; about {duration(seconds)} left" if count < len(runs) else ""),
                flush=True,
            )
    return failed


def train_run(job: Job) -> dict[str, Any]:
    """Train a run, or the rest of it, in silence: what it says goes to train.log in its folder.

    Returns its line of results.jsonl, or {"failed": one sentence}. Raises Interrupted.
    """
    folder, log = job.runs / job.run.name, job.runs / f"{job.run.name}.log"
    try:
        with (
            log.open("a", encoding="utf-8", errors="backslashreplace") as file,
            redirect_stdout(file),
            redirect_stderr(file),
        ):
            try:
                summary = _summary(job, folder)
            except Exception as error:
                if not isinstance(error, UserError):
                    traceback.print_exc()
                raise
        log.replace(folder / "train.log")
    except Interrupted:
        raise
    except UserError as error:
        return {"failed": " ".join(str(error).split())}
    except Exception as error:
        text = " ".join(str(error).split())
        return {"failed": f"{type(error).__name__}, {text[:200]} (see {log})"}
    records = read_metrics(folder / "metrics.jsonl")
    return {
        "run": job.run.name,
        "settings": job.run.values,
        "seed": summary["seed"],
        "accuracy": summary["accuracy"],
        "n": summary["n"],
        "n_classes": summary["n_classes"],
        "loss": records[-1]["loss"] if records else None,
        "seconds": summary["seconds"],
        "parameters": summary["parameters"],
        **{name: summary[name] for name in OTHERS if name in summary},
    }


def _summary(job: Job, folder: Path) -> dict[str, Any]:
    """Summary of a run, trained as far as it is not yet.

    One thread unless the settings say otherwise: another number of threads rounds otherwise, and
    the number of processes shall change no result."""
    if (folder / "summary.json").exists():  # killed before its result was kept
        return read_summary(folder)
    begun = folder if (folder / "last.pt").exists() else None
    if begun is None and folder.exists():
        shutil.rmtree(folder)
    where = {
        "runs": str(job.runs),
        "run": job.run.name,
        "threads": job.run.settings["threads"] or 1,
    }
    return fit(job.run.settings | where, preset=job.preset, resume=begun, draw=False)


def _write(out: Path, study: Study, cells: list[Cell], draw: bool) -> None:
    """The tables of what is finished, and the picture."""
    groups = groups_of(cells, read_results(out, study))
    write_tables(out, study, groups)
    names = ["table.md", "table.csv"]
    if draw and any(group.lines for group in groups):
        from .plots.study import draw_study  # matplotlib is slow to import

        draw_study(study, groups, out / "study.png")
        names.append("study.png")
    print(f"{', '.join(names)} in {out}", flush=True)


def duration(seconds: float) -> str:
    """`45 s`, `12 min` or `3.4 h`"""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
