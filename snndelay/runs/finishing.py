"""The end of a run: what its last epoch left is evaluated, summed up and drawn."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data.vision.frames import TIMED
from ..timescales import quantiles, time_constants
from ..version import VERSION
from ..weights import n_parameters
from .evaluation import Evaluation
from .files import write_json
from .report import closing_lines, read_metrics
from .session import Job, Session, backends_of, new_net
from .settings import SAMPLE
from .together import evaluated, whole


def finish(
    session: Session, job: Job, folder: Path, preset: str | None, draw: bool = True
) -> dict[str, Any]:
    """Evaluate what the last epoch left, write summary.json and the plots, print the result."""
    samples = next(part for part in (job.test, job.valid, job.train) if part is not None)
    session.net = session.result  # nothing more is learned
    result = evaluated(job, session, samples)
    return session.ranks.one(
        lambda: _sum_up(session, whole(job), samples, result, folder, preset, draw)
    )


def _sum_up(
    session: Session,
    job: Job,
    samples: Any,
    result: Evaluation,
    folder: Path,
    preset: str | None,
    draw: bool,
) -> dict[str, Any]:
    """The summary of a run, written, and told with its plots."""
    records = read_metrics(folder / "metrics.jsonl")
    last = next((record for record in records if record["epoch"] == session.epoch), {})
    if not last and job.valid is not None:  # its line is lost
        last = {"valid_accuracy": job.evaluate(session.net, job.valid).accuracy}
    summary = summarise(session, job, result, last) | {"preset": preset, "folder": folder.name}
    what = f"{summary['measured_on']} {SAMPLE[job.settings.kind]}s"
    title = f"{what}: {result.accuracy:.1%} of {result.n} correct"
    summary |= job.figures(session.net, samples, result)
    plots = []
    if draw:
        with forgiven("a picture of this run"):
            plots += job.draw(session, folder, samples, result, title)
        with forgiven("the picture of the time constants"):
            plots += _draw_time_constants(session, job, folder)
    write_json(folder / "summary.json", summary)  # last: it marks the run as complete
    print("\n".join(closing_lines(summary, folder, plots)), flush=True)
    return summary


@contextmanager
def forgiven(what: str) -> Iterator[None]:
    """Whatever goes wrong while a picture is drawn is one sentence: a run is more than that."""
    try:
        yield
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"warning: {what} was not drawn ({reason})", file=sys.stderr, flush=True)


def _draw_time_constants(session: Session, job: Job, folder: Path) -> list[Path]:
    """How learned time constants spread over the epochs; nothing where none are learned."""
    if not (end := time_constants(session.net, learned=True)):
        return []
    from .plots.time_constants import time_constants as draw  # matplotlib is slow to import

    start = time_constants(new_net(job.settings, job.sizes, session.device), learned=True)
    records = read_metrics(folder / "metrics.jsonl")
    frames: Any = getattr(job.settings, "frames", None)  # a memory task has none
    points = [(r["epoch"], r["time_constants"]) for r in records if "time_constants" in r]
    timed = job.settings.kind == "audio" or (frames and frames.framing in TIMED)
    dt_ms, path = frames.dt_ms if timed else None, folder / "time_constants.png"
    before, after = ({k: v.cpu().numpy() for k, v in part.items()} for part in (start, end))
    draw([(0, quantiles(start)), *points], path, dt_ms=dt_ms, start=before, end=after)
    return [path]


def summarise(session: Session, job: Job, result: Evaluation, last: dict) -> dict[str, Any]:
    """Figures of a finished run. result: what evaluating the samples gave; last: record of the
    last epoch."""
    measured, net, valid = job.test is not None, session.net, job.valid
    best = {"test": "best_on_test", "valid": "best_valid"}[watched(job)[0]]
    return {
        "kind": job.settings.kind,
        "accuracy": result.accuracy,
        "n": result.n,
        "standard_error": result.standard_error,
        "test_accuracy": result.accuracy if measured else None,
        "n_test": result.n if measured else None,
        "test_standard_error": result.standard_error if measured else None,
        "protocol": job.settings.data.protocol,
        "valid_accuracy": last.get("valid_accuracy"),
        "n_valid": len(valid) if valid is not None else None,
        **{f"{best}_{key}": value for key, value in session.best.items()},
        "measured_on": "test" if measured else "valid" if valid is not None else "train",
        "spikes_per_inference": result.spikes_per_inference(),
        "parameters": n_parameters(net),
        "dataset": job.settings.data.dataset,
        "n_classes": len(job.train.classes),
        "n_train": len(job.train),
        "seed": job.settings.training.seed,
        "epochs": session.epoch,
        "seconds": round(session.seconds, 2),
        "device": session.device.type,
        "processes": session.ranks.size,
        "backends": backends_in(job, net),
        "versions": {"snndelay": VERSION, "torch": torch.__version__},
    }


def watched(job: Job) -> tuple[str, Any]:
    """Name and samples of the part that is evaluated after every epoch and chooses best.pt."""
    on_test = job.settings.data.protocol == "best-on-test"
    return ("test", job.test) if on_test else ("valid", job.valid)


def backends_in(job: Job, net: nn.Module) -> dict[str, str]:
    """Op -> backend that runs it on a usual batch."""
    return backends_of(net, job.steps, job.settings.data.batch_size)
