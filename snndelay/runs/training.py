"""`fit`: settings -> trained network, run folder and summary, for every kind of run.

A run is a pure function of its settings: order and augmentation depend on (seed, epoch, sample),
everything random in a step on (seed, epoch, step). So a checkpoint between any two steps is enough
to resume exactly.
"""

import sys
from collections.abc import Collection
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import nn

from ..data.audio.paths import FILE_ENDINGS
from ..data.catalog import kind_of
from ..data.making import alone_in
from ..data.names import printable
from ..errors import ConfigError, DataError, EventFormatError, Interrupted, RunError
from ..learning import set_sigma
from ..ranks import Elsewhere, Ranks
from ..timescales import quantiles, time_constants
from ..weights import n_parameters
from . import checkpoint
from .content import content_of
from .evaluation import evaluating, rounds
from .files import absolute_paths, new_run_folder, read_summary, write_json
from .finishing import backends_in, finish, forgiven, watched
from .flat import from_flat, to_flat
from .keeping import Keeper, Signals, Stop, interval, one_sentence
from .machine import autocast, keep_freed_memory, pick_device, program, set_threads
from .options import RATES, check_unchanged
from .precision import float32_precision
from .report import Report, Silent, read_metrics
from .schedule import is_averaged, is_rounded, sigma_in_epoch
from .session import Job, Session, check_same, new_net, uses_graphs
from .settings import CLASSES, SAMPLE, Settings, VisionSettings
from .steps import totals
from .together import check_alike, evaluated, joined, not_alone, opened, same, synchronised


def jobs_of(kind: str) -> Any:
    """The module with the jobs of a kind; the readers of some are slow to import."""
    if kind == "memory":
        from . import memory

        return memory
    if kind == "vision":
        from . import vision

        return vision
    from . import audio

    return audio


def open_job(settings: Settings) -> Job:
    """Open the data of a run.

    Raises ConfigError, DataError or EventFormatError, one sentence each.
    """
    dataset = settings.data.dataset
    if (kind := kind_of(dataset)) != settings.kind:
        raise ConfigError(f"{dataset} is {kind}, and these settings are for {settings.kind}")
    return jobs_of(settings.kind).open_job(settings)


def fit(
    settings: Settings | dict[str, Any],
    *,
    preset: str | None = None,
    resume: Path | None = None,
    allow: Collection[str] | None = (),
    draw: bool = True,
) -> dict[str, Any]:
    """Train a network, write the run's folder, and return its summary (also in summary.json).

    Args:
        settings: those of a run, or flat ones, for example ``PRESETS["shd"] | {"epochs": 3}``.
        preset: its name, for the summary.
        resume: folder of an interrupted run with the same settings.
        allow: names of settings that may be others now; None: any.
        draw: whether to make the pictures.

    The test samples are used once, at the end, unless the protocol is ``best-on-test``. A run
    that was never saved leaves no folder. SIGINT, SIGTERM, SIGHUP and SIGUSR1 are answered where
    nobody else does: the step is made, the run saved, and ``Interrupted`` raised.

    Raises:
        UserError: of one of its kinds, with one sentence.
    """
    flat = settings if isinstance(settings, dict) else to_flat(settings)
    settings = from_flat(absolute_paths(flat))
    with joined(settings) as ranks:
        complete = ranks.one(lambda: resume is not None and (resume / "summary.json").exists())
        if complete:
            assert resume is not None
            folder, summary = resume, ranks.one(lambda: _complete(resume, settings))
        else:
            begun = None if resume is None else (resume, allow)
            precision = float32_precision(settings.machine.precision)
            with precision, Signals(ranks) as signals, not_alone(ranks):
                folder, summary = _fit(settings, preset, begun, draw, signals)
        if _wants_comparison(settings):
            _compare(settings, folder, summary, preset, ranks)
    return summary


def _complete(folder: Path, settings: Settings) -> dict[str, Any]:
    """The summary of a complete run, of which only a comparison is left. RunError if that is not
    so."""
    summary = read_summary(folder)
    if not _wants_comparison(settings) or "events_alone" in summary:
        raise RunError(f"{folder} is complete: nothing to resume, start a new run")
    return summary


def _fit(
    settings: Settings,
    preset: str | None,
    begun: tuple[Path, Collection[str] | None] | None,
    draw: bool,
    signals: Signals,
) -> tuple[Path, dict[str, Any]]:
    """The folder of a run, and its summary."""
    ranks = signals.ranks
    interval(settings.machine.checkpoint_every)
    device = pick_device(settings.machine.device)
    set_threads(settings.machine.threads)
    keep_freed_memory()
    uses_graphs(settings, device)  # if it cannot, it says so before the data are opened
    job = opened(ranks, lambda: open_job(settings))
    session = job.new_session(synchronised(new_net(job.settings, job.sizes, device), ranks))
    session.ranks = ranks
    _try_network(session.net, job)
    about = same(ranks, _about(job))
    name = settings.machine.run or run_name(settings, preset)
    folder = ranks.one(lambda: begun[0] if begun else new_run_folder(settings.machine.runs, name))
    with ExitStack() as stack:
        stack.enter_context(not_alone(ranks, folder))
        alone = alone_in(folder, f"another process trains {folder}", RunError)
        ranks.one(lambda: stack.enter_context(alone))
        if ranks.rank == 0:
            stack.enter_context(one_sentence(folder))
            checkpoint.tidy(folder)
        if begun is not None:
            session.restore(*ranks.one(lambda: _saved(job, about, *begun)))
        _announce(job, session.net)
        if ranks.rank == 0:
            write_json(folder / "config.json", {"preset": preset, **to_flat(job.settings)})
        run_epochs(session, job, folder, about, signals)
        return folder, finish(session, job, folder, preset, draw)


def _saved(job: Job, about: dict, folder: Path, allow: Collection[str] | None) -> tuple[dict, bool]:
    """The state in which the run in `folder` was saved, and whether its learning rates are others
    now. CheckpointCorrupt, DataError or RunError if it cannot go on as it began. about: what its
    checkpoints would say now."""
    state, warning = checkpoint.load_newest(folder)
    if warning:
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    now = about["config"]
    if allow is not None:
        check_unchanged(folder, state["config"], now, allow)
    check_same(job, state["data"])
    if state.get("content", about["content"]) != about["content"]:
        raise DataError(
            f"the files of {job.settings.data.dataset}, of its test clips or its images hold "
            "something else than when this run was started: restore them, or start a new run"
        )
    rates = [now.get(name) != state["config"].get(name) for name in RATES]
    return state, any(rates)


def _compare(
    settings: VisionSettings, folder: Path, summary: dict, preset: str | None, ranks: Ranks
) -> None:
    """The same run on events alone, in a folder of its own, or the rest of it, and both in one
    picture."""
    name = f"{folder.name}-events-alone"
    print(f"\nfor comparison, the same on events alone: {folder.parent / name}", flush=True)
    alone = replace(
        settings,
        transfer=replace(settings.transfer, transfer="off", compare=False),
        machine=replace(settings.machine, run=name, runs=str(folder.parent)),
    )
    begun = folder.parent / name
    files = ("summary.json", checkpoint.NEWEST)
    complete, saved = ranks.one(lambda: [(begun / file).exists() for file in files])
    if complete:
        other = ranks.one(lambda: read_summary(begun))
    else:
        other = _fit_or_go_on(alone, preset, begun if saved else None, folder)
    summary["events_alone"] = {
        k: other[k] for k in ("accuracy", "n", "test_accuracy", "n_test", "folder")
    }
    if ranks.rank == 0:
        _draw_comparison(folder, summary, other)


def _draw_comparison(folder: Path, summary: dict, other: dict) -> None:
    from .plots.vision import compare_runs  # matplotlib is slow to import

    runs = {"events and images": (folder, summary)}
    runs["events alone"] = (folder.parent / other["folder"], other)
    with forgiven("comparison.png"):
        compare_runs(
            {name: (read_metrics(f / "metrics.jsonl"), made) for name, (f, made) in runs.items()},
            folder / "comparison.png",
        )
    write_json(folder / "summary.json", summary)
    with_images, without = summary["accuracy"], other["accuracy"]
    print(
        f"with images {with_images:.1%}, events alone {without:.1%} (n = {summary['n']}, "
        f"one seed); comparison.png in {folder}",
        flush=True,
    )


def _fit_or_go_on(
    alone: VisionSettings, preset: str | None, begun: Path | None, first: Path
) -> dict[str, Any]:
    """The second run of a comparison; where it is stopped, the first is what goes on with both."""
    try:
        return fit(alone, preset=preset, resume=begun)
    except Interrupted as stop:
        text = f"stopped in the run for comparison, go on with: {program()} --resume {first}"
        raise Interrupted(text, stop.exit_code - 128) from None


def _wants_comparison(settings: Settings) -> TypeGuard[VisionSettings]:
    """Whether a second run, on events alone, belongs to a run."""
    if not isinstance(settings, VisionSettings):
        return False
    return settings.transfer.compare and settings.transfer.transfer != "off"


def _try_network(net: nn.Module, job: Job) -> None:
    """One silent step of two samples: a backend that cannot run says so before the run's folder
    exists."""
    x = torch.zeros(1, 2, *job.shape, device=next(net.parameters()).device)
    with torch.no_grad(), evaluating(net), autocast(x.device, job.settings.training.amp):
        net(x)


def run_epochs(
    session: Session, job: Job, folder: Path, about: dict[str, Any], signals: Signals
) -> None:
    """Train what is left of the epochs; after each, evaluate, write metrics and checkpoints, which
    say `about` beside the session. Raises Stop after a signal, with the run saved."""
    epochs, steps = job.settings.training.epochs, len(job.batches(job.train, 0))
    ranks, every = session.ranks, job.settings.machine.checkpoint_every
    keeper = Keeper(folder if ranks.rank == 0 else None, about, every, signals)
    session.after_step = keeper.after_step
    told = (folder, epochs, session.epoch, steps, session.step)
    with Report(*told) if ranks.rank == 0 else Silent() as report:
        while session.epoch < epochs and not session.done:
            keeper.start_epoch(session)
            try:
                with signals.held():
                    session.record = session.record or one_epoch(session, job, report)
                record = dict(session.record)
                with signals.held() if ranks.size > 1 else nullcontext():
                    improved = _evaluate(session, job, record)
            except (Stop, DataError, EventFormatError, Elsewhere):  # all come between two steps
                if session.step:
                    keeper.save(session)
                ranks.wait()
                raise
            with signals.held():
                record["seconds"] = keeper.epoch_seconds
                session.seconds += record["seconds"]
                session.best = improved or session.best
                session.end_epoch()
                report.epoch(record)
                check_alike(session)
                keeper.save(session, best=improved is not None)


def _about(job: Job) -> dict[str, Any]:
    """What a checkpoint says about its run."""
    return {
        "format": checkpoint.FORMAT,
        "config": to_flat(job.settings),
        "sizes": job.sizes,
        "classes": list(job.train.classes),
        "data": job.digest(),
        "content": content_of(job),
        "sensor": getattr(job, "sensor", None),  # of recordings
        "waves": getattr(job, "of_waves", False),  # clips are audio files, no spikes
    }


def one_epoch(session: Session, job: Job, report: Report) -> dict[str, Any]:
    """Train what is left of an epoch, at its width and learning rates; returns its record."""
    if is_rounded(job.settings, session.epoch):
        session.hold_positions()
    record = {"epoch": session.epoch + 1} | session.rates()
    if rounds(session.net):
        record["sigma"] = sigma_in_epoch(job.settings, session.epoch)
        set_sigma(session.net, record["sigma"])
    record |= job.train_epoch(session, report)
    if skipped := totals(session).bad_steps:
        record["skipped_steps"] = skipped
    session.next_rates()
    if learned := time_constants(session.net, learned=True):
        record["time_constants"] = quantiles(learned)
    if is_averaged(job.settings, session.epoch):
        session.add_to_average()
    return record


def _evaluate(session: Session, job: Job, record: dict) -> dict | None:
    """Adds what the watched samples say to the record of an epoch; accuracy and epoch, if it is the
    best so far."""
    name, samples = watched(job)
    if samples is None:
        return None
    result = evaluated(job, session, samples)
    record |= {f"{name}_loss": result.loss, f"{name}_accuracy": result.accuracy}
    record.setdefault("spike_rates", result.spike_rates)
    if result.accuracy <= session.best.get("accuracy", -1.0):
        return None
    return {"accuracy": result.accuracy, "epoch": record["epoch"]}


def run_name(settings: Settings, preset: str | None) -> str:
    """Name of a run's folder: data set, preset (if it is another word) and seed."""
    path = Path(settings.data.dataset)
    dataset = path.stem if path.suffix in FILE_ENDINGS else path.name
    parts = [printable(dataset), preset if preset != dataset else None, str(settings.training.seed)]
    return "-".join(part for part in parts if part)


def _announce(job: Job, net: nn.Module) -> None:
    held_out = ((job.valid, "validate"), (job.test, "test"))
    counts = "".join(f", {word} on {len(part)}" for part, word in held_out if part is not None)
    device = next(net.parameters()).device
    graphs = ", CUDA graphs" if device.type == "cuda" else ""
    graphs = graphs if uses_graphs(job.settings, device) else graphs and f"{graphs} off"
    backends = backends_in(job, net)
    for line in job.notes():
        print(printable(line))
    if len(job.train.classes) < 2:
        print("warning: all samples are of one class, so that there is nothing to learn")
    products = any(isinstance(module, nn.Linear | nn.Conv2d) for module in net.modules())
    if job.settings.training.amp and device.type == "cpu" and not products:
        print("amp changes nothing here: on a CPU delay layers multiply in float32")
    print(
        f"{printable(Path(job.settings.data.dataset).name)}: train on {len(job.train)} "
        f"{SAMPLE[job.settings.kind]}s{counts}; {len(job.train.classes)} "
        f"{CLASSES[job.settings.kind]}, "
        f"{n_parameters(net):,} parameters, {device.type}{graphs}\n"
        f"backends: {', '.join(f'{op} {b}' for op, b in backends.items()) or 'plain PyTorch'}",
        flush=True,
    )
