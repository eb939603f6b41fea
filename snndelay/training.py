"""`fit`: settings -> trained network, run folder and summary.

A run is a pure function of its settings: order and augmentation depend on (seed, epoch, clip),
dropout on (seed, epoch, step). So a checkpoint at the end of an epoch is enough to resume exactly.
"""

import shutil
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch

from . import checkpoint
from .config import ConfigError, DataConfig, ModelConfig, TrainConfig, to_flat
from .data.datasets import Dataset, splits
from .data.events import DataError
from .data.loader import Loader, loader
from .evaluation import Evaluation, evaluate, unrounded
from .kernels import OPS
from .kernels.launch import choose
from .kernels.lif import why_not_compiled
from .models import DelayNet
from .report import Report, closing_lines, read_metrics
from .runtime import (
    RunError,
    keep_freed_memory,
    new_run_folder,
    pick_device,
    seed_init,
    set_threads,
    write_json,
)
from .session import Session, new_session, sigma_in_epoch, train_epoch


class Interrupted(RunError):
    """Ctrl-C; the message says how to go on."""

    exit_code = 130


@dataclass(frozen=True)
class Job:
    """What stays the same during a run: its settings and its clips."""

    data: DataConfig
    model: ModelConfig  # with n_in and n_out
    train: TrainConfig
    train_clips: Dataset
    valid_clips: Dataset | None
    test_clips: Dataset | None

    def batches(self, clips: Dataset, epoch: int | None = None) -> Loader:
        """Batches of clips: shuffled and augmented for an epoch, or as stored without one."""
        train = epoch is not None
        return loader(clips, self.data, train=train, seed=self.train.seed, epoch=epoch or 0)

    def watched(self) -> tuple[str, Dataset | None]:
        """Name and clips of the set that is evaluated after every epoch and chooses best.pt."""
        published = self.data.protocol == "published"
        return ("test", self.test_clips) if published else ("valid", self.valid_clips)

    def evaluate(self, net: DelayNet, clips: Dataset) -> Evaluation:
        """Accuracy and spikes of net, delays rounded."""
        return evaluate(net, self.batches(clips), self.train.loss)


def open_job(data: DataConfig, model: ModelConfig, train: TrainConfig) -> Job:
    """Open the clips and take n_in and n_out from them.

    Raises ConfigError if the model has other sizes, DataError or EventFormatError if the clips
    cannot be used.
    """
    parts = splits(data, train.seed)
    for name, part in zip(("training", "validation", "test"), parts, strict=True):
        if part is not None and not len(part):
            raise DataError(f"{data.dataset} leaves no {name} clips: change --valid-fraction")
    if data.protocol == "published" and parts[2] is None:
        raise ConfigError("protocol published evaluates the test clips: give --test-file")
    first = next(iter(loader(parts[0], replace(data, workers=0, batch_size=1), train=False)))
    found = {"n_in": first.x_TBC.shape[2], "n_out": len(parts[0].classes)}
    for name, value in found.items():
        if getattr(model, name) not in (None, value):
            text = f"{name} is {getattr(model, name)}, but the data need {value}: leave it out"
            raise ConfigError(text)
    return Job(data, replace(model, **found), train, *parts)


def first_net(job: Job, device: torch.device) -> DelayNet:
    """The network as it is before training: the same for the same seed."""
    seed_init(job.train.seed)
    return DelayNet(job.model, job.train.backend, job.data.dt_ms).to(device)


def fit(
    data: DataConfig,
    model: ModelConfig,
    train: TrainConfig,
    *,
    preset: str | None = None,
    resume: Path | None = None,
) -> dict:
    """Train a network, write the run's folder, and return its summary (also in summary.json).

    preset: name for the summary. resume: folder of an interrupted run with the same settings.
    The test clips are used once, at the end, unless the protocol is `published`.

    Raises ConfigError, RunError, DataError, EventFormatError, BackendError, CheckpointCorrupt or
    CheckpointWriteError, each with one sentence; a run without a completed epoch leaves no folder.
    """
    if resume is not None and (resume / "summary.json").exists():
        raise RunError(f"{resume} is complete: nothing to resume, start a new run")
    device = pick_device(train.device)
    set_threads(train.threads)
    keep_freed_memory()
    job = open_job(data, model, train)
    session = new_session(first_net(job, device), train)
    _try_network(session.net)
    if resume is not None:
        session.restore(checkpoint.load(resume / "last.pt", device))
    _announce(job, session.net)
    folder = resume or new_run_folder(train.runs, train.run or run_name(data, train, preset))
    try:
        write_json(folder / "config.json", {"preset": preset, **to_flat(data, model, train)})
        run_epochs(session, job, folder)
        return finish(session, job, folder, preset)
    except KeyboardInterrupt:
        raise Interrupted(_farewell(folder)) from None
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"cannot write in {folder} ({reason}): make room or use --runs") from error
    finally:
        if not (folder / "last.pt").exists():
            shutil.rmtree(folder)


def run_epochs(session: Session, job: Job, folder: Path) -> None:
    """Train the epochs that are left; after each, evaluate, write metrics and checkpoints."""
    steps = len(job.batches(job.train_clips, 0))
    with Report(folder, job.train.epochs, session.epoch, steps) as report:
        while session.epoch < job.train.epochs:
            started = time.perf_counter()
            record = _one_epoch(session, job, report)
            improved = _keep_best(session, record, job.watched()[0])
            record["seconds"] = time.perf_counter() - started
            session.seconds += record["seconds"]
            session.epoch += 1
            report.epoch(record)
            state = session.state() | {
                "config": to_flat(job.data, job.model, job.train),
                "classes": list(job.train_clips.classes),
            }
            if improved:
                checkpoint.save(folder / "best.pt", state)
            checkpoint.save(folder / "last.pt", state)


def _one_epoch(session: Session, job: Job, report: Report) -> dict:
    sigma = sigma_in_epoch(session.epoch, job.model, job.train)
    session.net.set_sigma(sigma)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in session.optimizers]
    record = {"epoch": session.epoch + 1, "sigma": sigma}
    record |= dict(zip(("lr", "lr_position"), rates, strict=False))
    batches = job.batches(job.train_clips, session.epoch)
    record |= train_epoch(session, batches, job.train, report)
    for schedule in session.schedules:
        schedule.step()
    name, clips = job.watched()
    if clips is not None:
        result = job.evaluate(session.net, clips)
        record |= {f"{name}_loss": result.loss, f"{name}_accuracy": result.accuracy}
    return record


def _keep_best(session: Session, record: dict, name: str) -> bool:
    accuracy = record.get(f"{name}_accuracy", -1.0)
    if accuracy <= session.best.get("accuracy", -1.0):
        return False
    session.best = {"accuracy": accuracy, "epoch": record["epoch"]}
    return True


def finish(session: Session, job: Job, folder: Path, preset: str | None) -> dict:
    """Evaluate the last epoch's weights, write summary.json and the plots, print the result."""
    from .plots import draw_run  # matplotlib is slow to import

    clips = job.test_clips or job.valid_clips or job.train_clips
    result = job.evaluate(session.net, clips)
    exact = job.evaluate(unrounded(session.net), clips)
    summary = summarise(session, job, result, exact) | {"preset": preset}
    device = next(session.net.parameters()).device
    start = [layer.delay_steps.cpu().numpy() for layer in first_net(job, device).delay_layers()]
    alone = replace(job.data, workers=0, batch_size=1, n_steps=result.steps)
    example = next(iter(loader(clips, alone, train=False)))
    records = read_metrics(folder / "metrics.jsonl")
    plots = draw_run(
        folder,
        records=records,
        net=session.net,
        start=start,
        example=example,
        prediction=int(result.predictions[0]),
        result=result,
        classes=job.train_clips.classes,
        title=f"{summary['measured_on']} clips: {result.accuracy:.1%} of {result.n} correct",
        dt_ms=job.data.dt_ms,
    )
    write_json(folder / "summary.json", summary)  # last: it marks the run as complete
    print("\n".join(closing_lines(summary, folder, plots)), flush=True)
    return summary


def summarise(session: Session, job: Job, result: Evaluation, exact: Evaluation) -> dict:
    """Figures of a finished run. result and exact: the same clips with and without rounding."""
    measured, net = job.test_clips is not None, session.net
    name = job.watched()[0]
    best = {"test": "best_on_test", "valid": "best_valid"}[name]
    valid = job.valid_clips
    return {
        "test_accuracy": result.accuracy if measured else None,
        "n_test": result.n if measured else None,
        "test_standard_error": result.standard_error if measured else None,
        "protocol": job.data.protocol,
        "valid_accuracy": job.evaluate(net, valid).accuracy if valid is not None else None,
        "n_valid": len(valid) if valid is not None else None,
        **{f"{best}_{key}": value for key, value in session.best.items()},
        "measured_on": "test" if measured else "valid" if valid is not None else "train",
        "rounding_gap": exact.accuracy - result.accuracy,
        "spikes_per_inference": result.spikes_per_inference(),
        "parameters": sum(p.numel() for p in net.parameters() if p.requires_grad),
        "dataset": job.data.dataset,
        "n_train": len(job.train_clips),
        "seed": job.train.seed,
        "epochs": session.epoch,
        "seconds": round(session.seconds, 2),
        "device": next(net.parameters()).device.type,
        "backends": backends_used(net),
        "versions": {"snndelay": version("snndelay"), "torch": torch.__version__},
    }


def backends_used(net: DelayNet) -> dict[str, str]:
    """Backend that runs each op of the network on its device."""
    parameter, neuron = next(net.parameters()), net.blocks[0].neuron
    lif_refusal = ("cpu", why_not_compiled(parameter.dtype, neuron.neuron, neuron.options))
    one_tap = "a single tap is a plain product" if net.delay_out.max_delay_steps == 1 else None
    direct = tuple((b, one_tap) for b in ("cpu", "spectral"))
    refusals = {"delay_linear": direct, "lif": (lif_refusal,), "readout": ()}
    return {
        op: choose(op, OPS[op].backends, neuron.backend, parameter.device.type, why_not)
        for op, why_not in refusals.items()
    }


def run_name(data: DataConfig, train: TrainConfig, preset: str | None) -> str:
    """Name of a run's folder: data set, preset (if it is another word) and seed."""
    dataset = Path(data.dataset).stem if data.dataset.endswith((".h5", ".hdf5")) else data.dataset
    parts = [dataset, preset if preset != dataset else None, str(train.seed)]
    return "-".join(part for part in parts if part)


def _try_network(net: DelayNet) -> None:
    """One silent step: a backend that cannot run says so before the run's folder exists."""
    with torch.no_grad():
        net.eval()(torch.zeros(1, 1, net.config.n_in or 1, device=next(net.parameters()).device))
    net.train()


def _announce(job: Job, net: DelayNet) -> None:
    held_out = ((job.valid_clips, "validate"), (job.test_clips, "test"))
    counts = "".join(f", {word} on {len(part)}" for part, word in held_out if part is not None)
    parameters = sum(p.numel() for p in net.parameters() if p.requires_grad)
    if job.data.n_steps is not None:
        seconds = job.data.n_steps * job.data.dt_ms / 1000
        print(f"every clip is cut or padded to {job.data.n_steps} steps ({seconds:g} s)")
    print(
        f"{Path(job.data.dataset).name}: train on {len(job.train_clips)} clips{counts}; "
        f"{job.model.n_out} classes, {parameters:,} parameters, "
        f"{next(net.parameters()).device.type}\n"
        f"backends: {', '.join(f'{op} {name}' for op, name in backends_used(net).items())}",
        flush=True,
    )


def _farewell(folder: Path) -> str:
    if not (folder / "last.pt").exists():
        return "stopped before the first epoch was complete: nothing was saved"
    return f"stopped; complete epochs are saved, go on with: python train.py --resume {folder}"
