"""`fit`: settings -> trained network, run folder and summary, for sounds and for event cameras.

A run is a pure function of its settings: order and augmentation depend on (seed, epoch, clip),
everything random in a step on (seed, epoch, step). So a checkpoint at the end of an epoch is enough
to resume exactly.
"""

import shutil
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..errors import Interrupted, RunError
from . import audio as sound
from . import checkpoint
from .evaluation import Evaluation
from .machine import keep_freed_memory, new_run_folder, pick_device, set_threads, write_json
from .report import Report, closing_lines, read_metrics
from .session import Session
from .settings import DataConfig, ModelConfig, TrainConfig, to_flat

if TYPE_CHECKING:
    from .audio import SoundJob
    from .vision import VisionJob

    Job = SoundJob | VisionJob


def open_job(data: DataConfig, model: ModelConfig, train: TrainConfig) -> "Job":
    """Open the recordings of a run and complete its settings from them.

    Raises ConfigError, DataError or EventFormatError.
    """
    if model.network == "delay":
        return sound.open_job(data, model, train)
    from . import vision  # its readers are slow to import

    return vision.open_job(data, model, train)


def fit(
    data: DataConfig,
    model: ModelConfig,
    train: TrainConfig,
    *,
    preset: str | None = None,
    resume: Path | None = None,
    draw: bool = True,
) -> dict:
    """Train a network, write the run's folder, and return its summary (also in summary.json).

    preset: name for the summary. resume: folder of an interrupted run with the same settings.
    draw: whether to make the pictures.
    The test clips are used once, at the end, unless the protocol is `best-on-test`.

    Raises ConfigError, RunError, DataError, EventFormatError, BackendError, CheckpointCorrupt or
    CheckpointWriteError, each with one sentence; a run without a completed epoch leaves no folder.
    """
    if resume is not None and (resume / "summary.json").exists():
        raise RunError(f"{resume} is complete: nothing to resume, start a new run")
    device = pick_device(train.device)
    set_threads(train.threads)
    keep_freed_memory()
    job = open_job(data, model, train)
    session = job.new_session(job.new_net(device))
    job.try_network(session.net)
    if resume is not None:
        state = checkpoint.load(resume / "last.pt", device)
        job.check_same(state)
        session.restore(state)
    _announce(job, session.net)
    folder = resume or new_run_folder(train.runs, train.run or run_name(data, train, preset))
    try:
        write_json(folder / "config.json", {"preset": preset, **to_flat(data, model, train)})
        run_epochs(session, job, folder)
        summary = finish(session, job, folder, preset, draw)
    except KeyboardInterrupt:
        raise Interrupted(_farewell(folder)) from None
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"cannot write in {folder} ({reason}): make room or use --runs") from error
    finally:
        if not (folder / "last.pt").exists():
            shutil.rmtree(folder)
    if train.compare and train.transfer != "off":
        _compare(job, folder, summary, preset)
    return summary


def _compare(job: "Job", folder: Path, summary: dict, preset: str | None) -> None:
    """The same run on events alone, in a folder of its own, and both in one picture."""
    from .plots.vision import compare_runs  # matplotlib is slow to import

    name = f"{folder.name}-events-alone"
    print(f"\nfor comparison, the same on events alone: {folder.parent / name}", flush=True)
    alone = replace(job.train, transfer="off", compare=False, run=name, runs=str(folder.parent))
    other = fit(job.data, job.model, alone, preset=preset)
    runs = {"events and images": (folder, summary)}
    runs["events alone"] = (folder.parent / other["folder"], other)
    compare_runs(
        {name: (read_metrics(f / "metrics.jsonl"), made) for name, (f, made) in runs.items()},
        folder / "comparison.png",
    )
    summary["events_alone"] = {k: other[k] for k in ("test_accuracy", "n_test", "folder")}
    write_json(folder / "summary.json", summary)
    with_images, without = summary["test_accuracy"], other["test_accuracy"]
    print(
        f"with images {with_images:.1%}, events alone {without:.1%} (n = {summary['n_test']}, "
        f"one seed); comparison.png in {folder}",
        flush=True,
    )


def run_epochs(session: Session, job: "Job", folder: Path) -> None:
    """Train the epochs that are left; after each, evaluate, write metrics and checkpoints."""
    steps = len(job.batches(job.train_clips, 0))
    with Report(folder, job.train.epochs, session.epoch, steps) as report:
        while session.epoch < job.train.epochs:
            started = time.perf_counter()
            record = job.one_epoch(session, report)
            for schedule in session.schedules:
                schedule.step()
            improved = _evaluate(session, job, record)
            record["seconds"] = time.perf_counter() - started
            session.seconds += record["seconds"]
            session.epoch += 1
            report.epoch(record)
            state = session.state() | {
                "config": to_flat(job.data, job.model, job.train),
                "classes": list(job.train_clips.classes),
                "clips": job.digest(),
            }
            if improved:
                checkpoint.save(folder / "best.pt", state)
            checkpoint.save(folder / "last.pt", state)


def _evaluate(session: Session, job: "Job", record: dict) -> bool:
    """Adds what the watched clips say to the record of an epoch; whether it is the best so far."""
    name, clips = watched(job)
    if clips is None:
        return False
    result = job.evaluate(session.net, clips)
    record |= {f"{name}_loss": result.loss, f"{name}_accuracy": result.accuracy}
    record.setdefault("spike_rates", result.spike_rates)
    if result.accuracy <= session.best.get("accuracy", -1.0):
        return False
    session.best = {"accuracy": result.accuracy, "epoch": record["epoch"]}
    return True


def finish(
    session: Session, job: "Job", folder: Path, preset: str | None, draw: bool = True
) -> dict:
    """Evaluate the last epoch's weights, write summary.json and the plots, print the result."""
    clips = next(c for c in (job.test_clips, job.valid_clips, job.train_clips) if c is not None)
    result = job.evaluate(session.net, clips)
    last = read_metrics(folder / "metrics.jsonl")[-1]
    summary = summarise(session, job, result, last) | {"preset": preset, "folder": folder.name}
    title = f"{summary['measured_on']} clips: {result.accuracy:.1%} of {result.n} correct"
    summary |= job.more_figures(session.net, clips, result)
    plots = job.draw(session, folder, clips, result, title) if draw else []
    write_json(folder / "summary.json", summary)  # last: it marks the run as complete
    print("\n".join(closing_lines(summary, folder, plots)), flush=True)
    return summary


def summarise(session: Session, job: "Job", result: Evaluation, last: dict) -> dict:
    """Figures of a finished run. result: what evaluating the clips gave; last: record of the last
    epoch."""
    measured, net = job.test_clips is not None, session.net
    best = {"test": "best_on_test", "valid": "best_valid"}[watched(job)[0]]
    valid = job.valid_clips
    return {
        "test_accuracy": result.accuracy if measured else None,
        "n_test": result.n if measured else None,
        "test_standard_error": result.standard_error if measured else None,
        "protocol": job.data.protocol,
        "valid_accuracy": last.get("valid_accuracy"),
        "n_valid": len(valid) if valid is not None else None,
        **{f"{best}_{key}": value for key, value in session.best.items()},
        "measured_on": "test" if measured else "valid" if valid is not None else "train",
        "spikes_per_inference": result.spikes_per_inference(),
        "parameters": sum(p.numel() for p in net.parameters() if p.requires_grad),
        "dataset": job.data.dataset,
        "n_train": len(job.train_clips),
        "seed": job.train.seed,
        "epochs": session.epoch,
        "seconds": round(session.seconds, 2),
        "device": session.device.type,
        "backends": job.backends(net),
        "versions": {"snndelay": version("snndelay"), "torch": torch.__version__},
    }


def watched(job: "Job") -> tuple:
    """Name and clips of the set that is evaluated after every epoch and chooses best.pt."""
    published = job.data.protocol == "best-on-test"
    return ("test", job.test_clips) if published else ("valid", job.valid_clips)


def run_name(data: DataConfig, train: TrainConfig, preset: str | None) -> str:
    """Name of a run's folder: data set, preset (if it is another word) and seed."""
    path = Path(data.dataset)
    dataset = path.stem if path.suffix in (".h5", ".hdf5") else path.name
    parts = [dataset, preset if preset != dataset else None, str(train.seed)]
    return "-".join(part for part in parts if part)


def _announce(job: "Job", net: torch.nn.Module) -> None:
    held_out = ((job.valid_clips, "validate"), (job.test_clips, "test"))
    counts = "".join(f", {word} on {len(part)}" for part, word in held_out if part is not None)
    parameters = sum(p.numel() for p in net.parameters() if p.requires_grad)
    for line in job.notes():
        print(line)
    print(
        f"{Path(job.data.dataset).name}: train on {len(job.train_clips)} clips{counts}; "
        f"{job.model.n_out} classes, {parameters:,} parameters, "
        f"{next(net.parameters()).device.type}\n"
        f"backends: {', '.join(f'{op} {name}' for op, name in job.backends(net).items())}",
        flush=True,
    )


def _farewell(folder: Path) -> str:
    if not (folder / "last.pt").exists():
        return "stopped before the first epoch was complete: nothing was saved"
    return f"stopped; complete epochs are saved, go on with: python train.py --resume {folder}"
