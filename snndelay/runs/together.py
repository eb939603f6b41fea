"""A run in several processes, as torchrun starts them: one group, one device each, one sentence
where something ends it."""

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from ..data.batches import ALL, Shard, batches
from ..errors import ConfigError, DataError, ProcessLost, RunError, UserError
from ..ranks import ALONE, Ranks
from ..starting import started_together
from .evaluation import Evaluation, padded
from .machine import program
from .options import changed_names
from .session import Job, Session
from .settings import SAMPLE, Settings, VisionSettings

PATIENCE = timedelta(hours=1)  # one process makes the frames of a set while the others wait
LOST = r"gloo|NCCL|nccl|[Cc]onnection (closed|reset|refused)|[Tt]imed out"  # in words of backends


@contextmanager
def joined(settings: Settings) -> Iterator[Ranks]:
    """The processes that train together; a group that is there already is used. Prints of all but
    the first are dropped, and what they raise is told by the first.

    Raises ConfigError if the group cannot be made.
    """
    begun = dist.is_available() and dist.is_initialized()
    if not begun and not started_together():
        yield ALONE
        return
    if not begun:
        _begin(settings)
    ranks = Ranks()
    try:
        with _quiet() if ranks.rank else contextlib.nullcontext():
            yield ranks
    except UserError as error:
        error.told_elsewhere = ranks.rank > 0 and not isinstance(error, ProcessLost)
        raise
    finally:
        if not begun and dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def not_alone(ranks: Ranks, folder: Path | None = None) -> Iterator[None]:
    """Raises ProcessLost where another process is gone. folder: of the run, once there is one."""
    try:
        yield
    except RuntimeError as error:
        if ranks.size == 1 or isinstance(error, UserError) or not re.search(LOST, str(error)):
            raise
        text = "another process of this run is gone, or does not answer"
        if folder is not None:
            text += f": go on from what was saved last with: {program()} --resume {folder}"
        raise ProcessLost(text) from error


def _begin(settings: Settings) -> None:
    gpu = settings.machine.device != "cpu" and torch.cuda.is_available()
    if gpu:
        place, n = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if place >= n:
            text = f"process {place} of this machine has no device of its own: there are {n}"
            raise ConfigError(f"{text}, use --nproc-per-node {n} or --device cpu")
        torch.cuda.set_device(place)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise ConfigError(
            f"WORLD_SIZE says that {os.environ.get('WORLD_SIZE')} processes train together, and "
            f"they do not meet ({first}): start them with torchrun, or unset WORLD_SIZE"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def opened(ranks: Ranks, open_job: Callable[[], Job]) -> Job:
    """A job of which every process takes its part of each batch. The first process of a machine
    opens it before the others, who find its downloads and frames. Errors of all are those of any;
    also those of `check_batches`."""
    if ranks.size == 1:
        return open_job()
    first = int(os.environ.get("LOCAL_RANK") or ranks.rank) == 0
    job = ranks.all(lambda: open_job() if first else None)
    job = ranks.all(lambda: job or open_job())
    check_batches(job, ranks)
    return replace(job, shard=Shard(ranks.rank, ranks.size))  # type: ignore[type-var]


def synchronised(net: nn.Module, ranks: Ranks) -> nn.Module:
    """A network whose BatchNorms take the statistics of whole batches, wherever their parts are."""
    return net if ranks.size == 1 else nn.SyncBatchNorm.convert_sync_batchnorm(net)


def same(ranks: Ranks, about: dict[str, Any]) -> dict[str, Any]:
    """`about`, what is known of the run here. ConfigError where another process was given other
    settings, DataError where it sees other data."""
    mine = [about[part] for part in ("config", "data", "content")]
    first, *others = ranks.everyone(mine)
    for rank, (config, *data) in enumerate(others, 1):
        if changed := changed_names(first[0], config):
            raise ConfigError(
                f"process {rank} has another {changed[0]} than process 0: several processes make "
                "one run, so give all of them the same settings"
            )
        if data != first[1:]:
            text = f"process {rank} sees other data than process 0"
            raise DataError(f"{text}: give all of them the same files")
    return about


def check_batches(job: Job, ranks: Ranks) -> None:
    """ConfigError if a batch of an epoch has fewer samples than there are processes."""
    n, size, settings = len(job.train), job.settings.data.batch_size, job.settings
    drop_last = isinstance(settings, VisionSettings) and settings.frames.drop_last
    parts = batches(np.arange(n), size, True, drop_last)
    fewest = size if settings.kind == "memory" else min(map(len, parts))
    if fewest < ranks.size:
        raise ConfigError(
            f"a batch of the epoch has {fewest} {SAMPLE[settings.kind]}s, fewer than the "
            f"{ranks.size} processes: use fewer processes or another --batch-size"
        )


def in_step(ranks: Ranks, given: Iterable) -> Iterator[Any]:
    """This process's batches, once all processes have theirs, and as long as the longest of them.
    An error of one is raised in all."""
    if ranks.size == 1:
        yield from given
        return
    source = iter(given)
    while True:
        batch, error = None, None
        try:
            batch = next(source, None)
        except UserError as raised:
            error = raised
        n, steps = (0, 0) if batch is None else (batch.x.shape[1], len(batch.x))
        said = ranks.meet(n, steps, error is not None)
        if any(row[2] for row in said):
            ranks.tell(error)
        if batch is None:
            return
        yield batch._replace(x=padded(batch.x, max(row[1] for row in said)))


def evaluated(job: Job, session: Session, samples: Any) -> Evaluation:
    """What the session's result does on samples, of which every process takes its part."""
    session.evaluator = session.evaluator or job.evaluator(session.result)
    ranks = session.ranks
    if len(samples) < ranks.size:
        return whole(job).evaluate(session.result, samples, session.evaluator)
    part = ranks.all(lambda: job.evaluate(session.result, samples, session.evaluator))
    return part if ranks.size == 1 else merged(ranks.everyone(part))


def whole(job: Job) -> Job:
    """A job whose batches are whole, in one process."""
    return replace(job, shard=ALL)  # type: ignore[type-var]


def merged(parts: list[Evaluation]) -> Evaluation:
    """One evaluation of all samples, from evaluations of parts of them."""
    share = np.array([part.n for part in parts]) / sum(part.n for part in parts)

    def mean(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else (share @ np.array(values)).tolist()

    names = ("loss", "hidden_spikes", "input_spikes", "spike_rates")
    return Evaluation(
        labels=np.concatenate([part.labels for part in parts]),
        predictions=np.concatenate([part.predictions for part in parts]),
        steps=max(part.steps for part in parts),
        **{name: mean(name) for name in names},
    )


def check_alike(session: Session) -> None:
    """RunError if the processes have come to different weights: none of them could go on."""
    if session.ranks.size == 1:
        return
    kept = [*session.net.parameters(), *session.net.buffers()]
    sums = torch.stack([t.detach().double().sum() for t in kept]).tolist()
    if any(other != sums for other in session.ranks.everyone(sums)):
        raise RunError(
            f"the processes hold different weights after epoch {session.epoch + 1}: train on "
            "machines of one kind with one version of torch, or in one process"
        )
