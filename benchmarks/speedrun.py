"""The whole published recipe on SHD against the clock, from the first step to the last epoch.

    python benchmarks/speedrun.py --root FOLDER --what "what has changed"      # SHD in FOLDER
    python benchmarks/speedrun.py [--epochs 150] [--device cuda]               # a set of its size

Protocol clean: all training clips train, the last epoch's weights are tested once, delays rounded.
It is what `train.py shd --valid-fraction 0` does between reading the clips and the test, by the
same functions: on CUDA the events lie on the device, where every batch is counted into frames, and
steps are replays of graphs. What a run writes and shows is left out. Opening the data and compiling
(an epoch with another network) are timed beside it. One JSON line is appended to
benchmarks/results/speedrun.jsonl; a run of all epochs that is faster than any before it on the same
card is a record of docs/records.md.
"""

import argparse
import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import shd_size
from common import RESULTS, append, changes
from common_gpu import PRECISIONS, here, set_precision, synchronize

from snndelay.errors import UserError
from snndelay.runs.audio import AudioJob, open_job
from snndelay.runs.flat import from_flat
from snndelay.runs.machine import keep_freed_memory, pick_device
from snndelay.runs.presets import preset_settings
from snndelay.runs.session import Session, new_net
from snndelay.runs.settings import FROM_DATA, AudioSettings
from snndelay.runs.training import one_epoch

SILENT = SimpleNamespace(step=lambda *_: None)  # in the place of a report


def new_session(job: AudioJob) -> Session:
    """A network before training, on the device of the job."""
    device = pick_device(job.settings.machine.device)
    return job.new_session(new_net(job.settings, job.sizes, device))


def epoch(job: AudioJob, session: Session) -> float:
    """One epoch of a run; returns its mean loss. Errors: NonFiniteError."""
    loss = one_epoch(session, job, SILENT)["loss"]
    session.end_epoch()
    return loss


def settings_of(root: str | None, n_clips: tuple[int, int], folder: str, **changed) -> dict:
    """Flat settings of the recipe on SHD under root, or on a set of its size that is made."""
    flat = {k: v for k, v in preset_settings("shd").items() if k not in FROM_DATA}
    flat |= {"valid_fraction": 0.0} | changed
    if root is not None:
        return flat | {"dataset": "shd", "root": root}
    train, test = shd_size.files(folder, n_clips)
    return flat | {"dataset": str(train), "test_file": str(test)}


def run(settings: AudioSettings, precision: str, say: Callable[[str], None] = print) -> dict:
    """Opens, compiles, trains and tests; returns the figures of a result line."""
    device, epochs = pick_device(settings.machine.device), settings.training.epochs
    set_precision(precision)
    clock = [time.perf_counter()]

    def mark() -> float:
        synchronize(device)
        clock.append(time.perf_counter())
        return clock[-1] - clock[-2]

    job = open_job(settings)
    opening = mark()
    epoch(job, new_session(job))
    gc.collect()  # that session's graphs
    compiling = mark()
    session, steps = new_session(job), epochs * len(job.batches(job.train, 0))
    mark()
    for i in range(epochs):
        loss = epoch(job, session)
        if device.type == "cpu":
            say(f"epoch {i + 1} of {epochs}")
    seconds = mark()
    result = job.evaluate(session.net, job.test)
    assert session.update is not None
    return {
        "seconds": seconds,
        "ms_per_step": 1e3 * seconds / steps,
        "epochs": epochs,
        "steps": steps,
        "graphs": session.update.n_graphs,
        "data": "shd" if settings.data.dataset == "shd" else "spoken digits repeated",
        "n_train": len(job.train),
        "n_test": result.n,
        "test_accuracy": result.accuracy,
        "loss": loss,
        "open_seconds": opening,
        "compile_seconds": compiling,
        "test_seconds": mark(),
        "precision": precision,
        "graph": device.type == "cuda",
        "seed": settings.training.seed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    add = parser.add_argument
    add("--root", help="Folder with SHD; without it a set of SHD's size is made.")
    add("--cache", default=shd_size.FOLDER, help="Keep the set that is made here.")
    add("--clips", type=int, nargs=2, default=shd_size.N_CLIPS, help="Clips of that set.")
    add("--epochs", type=int, default=150, help="Train so many epochs; a record has 150.")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="Run there.")
    add("--precision", choices=PRECISIONS, default="default", help="Of matrix products.")
    add("--seed", type=int, default=0, help="Seed of weights, order and dropout.")
    add("--set", nargs="+", default=[], metavar="NAME=VALUE", help="Change settings.")
    add("--what", default="", help="What has changed since the last record.")
    add("--commit", help="Say this in the line where git cannot.")
    add("--out", type=Path, default=RESULTS / "speedrun.jsonl", help="Append a JSON line here.")
    o = parser.parse_args()
    keep_freed_memory()  # as train.py does
    changed = changes(o.set)
    try:
        flat = settings_of(
            o.root,
            tuple(o.clips),
            o.cache,
            epochs=o.epochs,
            seed=o.seed,
            device=o.device,
            **changed,
        )
        line = run(from_flat(flat), o.precision)
    except UserError as error:
        sys.exit(str(error))
    device = pick_device(o.device)
    append(line | {"what": o.what, "settings": changed} | here(device, o.commit), o.out)
    print(
        f"{line['epochs']} epochs in {line['seconds']:.2f} s ({line['ms_per_step']:.2f} ms a step; "
        f"opening {line['open_seconds']:.1f} s, compiling {line['compile_seconds']:.1f} s), "
        f"test {line['test_accuracy']:.1%} of {line['n_test']}"
    )


if __name__ == "__main__":
    main()
