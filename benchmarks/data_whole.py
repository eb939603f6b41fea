"""A set of N-Caltech101's size, 8,709 recordings of 1e9 events in all: time of its frames by the
number of events, memory, and for what part of a training step it waits for data.

    python benchmarks/data_whole.py --folder SPACE [--share 1] [--batches 8]

SPACE needs 10 GB for a whole set: files, and frames of 6 x 2 x 180 x 240. Memory is the process's
largest, from reading directories to training. One core; what it wrote is deleted at the end.
Appends a JSON line per size, and one for training, to benchmarks/results/data.jsonl.
"""

import argparse
import os
import resource
import tempfile
import time
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from common import RESULTS, append
from synthetic import RECORDINGS, write_ncaltech101

from snndelay.data.catalog import open_recordings
from snndelay.data.vision.framing import Framing
from snndelay.data.vision.loader import loader, recording_frames
from snndelay.kernels.profile.measure import where
from snndelay.runs.flat import from_flat
from snndelay.runs.machine import keep_freed_memory
from snndelay.runs.session import new_net
from snndelay.runs.vision import open_job, train_step

CPU = torch.device("cpu")
HELD = {"RssAnon": "own_bytes", "RssFile": "file_bytes"}  # as Linux calls them
SHARES = (1 / 8, 1 / 4, 1 / 2, 1)


def memory() -> dict:
    """Largest memory of this process so far, in bytes, and what it has now: its own, and pages of
    files. Of no child: those that ran git began as copies of this one, and count all it had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    now = {ours: int(found[theirs].split()[0]) * 1024 for theirs, ours in HELD.items()}
    return {"peak_bytes": peak, **now}


def framing(folder: Path, n_steps: int, share: float) -> dict:
    """A line for the frames of a share of the set, made from its files, and for a pass over them in
    the order of an epoch."""
    recordings = open_recordings("ncaltech101", str(folder))
    some = recordings.subset(np.arange(int(share * len(recordings))))
    events = sum((folder / name).stat().st_size for name in some.names) // 5
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        start, cpu = time.perf_counter(), time.process_time()
        frames = recording_frames(some, Framing(n_steps=n_steps), cache)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        start = time.perf_counter()
        for _ in loader(frames, None, batch_size=32, epoch=0):
            pass
        return {
            "case": "whole set, frames",
            "samples": len(some),
            "events": events,
            "seconds": seconds,
            "cpu_seconds": cpu,
            "pass_seconds": time.perf_counter() - start,
            "frame_bytes": frames.frames.nbytes,
            **memory(),
        }


def training(folder: Path, batches: int) -> dict:
    """A line for some steps of training on the whole set, at the size of the sensor."""
    flat = {"kind": "vision", "dataset": "ncaltech101", "root": str(folder), "transfer": "off"}
    flat |= {"network": "small", "n_steps": 6, "frame_size": None, "batch_size": 25}
    flat |= {"delays": "none", "max_delay_steps": 3, "valid_fraction": 0.0}
    settings = from_flat(flat | {"device": "cpu"})
    start = time.perf_counter()
    job = open_job(settings)
    opening = time.perf_counter() - start
    session = job.new_session(new_net(settings, job.sizes, CPU))
    session.net.train()
    waits, steps = [], []
    made = islice(iter(job.batches(job.train, 0)), batches)
    for session.step in range(batches):
        start = time.perf_counter()
        batch = next(made)
        waits.append(time.perf_counter() - start)
        train_step(job, session, batch)
        steps.append(time.perf_counter() - start)
    return {
        "case": "whole set, training",
        "samples": len(job.recordings),
        "batch": settings.data.batch_size,
        "batch_bytes": batch.x.nbytes,
        "open_seconds": opening,
        "wait_seconds": float(np.median(waits[1:])),  # the first one compiles
        "step_seconds": float(np.median(steps[1:])),
        "waiting": sum(waits[1:]) / sum(steps[1:]),
        **memory(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    add = parser.add_argument
    add("--folder", type=Path, required=True, help="Write the set here, and delete it at the end.")
    add("--root", type=Path, help="A folder that has such a set from before, and keeps it.")
    add("--share", type=float, default=1.0, help="Of the recordings of N-Caltech101.")
    add("--batches", type=int, default=8, help="Steps of training.")
    add("--only", nargs="+", choices=("frames", "training"), default=["frames", "training"])
    add("--out", type=Path, default=RESULTS / "data.jsonl", help="Append JSON lines here.")
    o = parser.parse_args()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    keep_freed_memory()  # as train.py does
    with tempfile.TemporaryDirectory(dir=o.folder) as folder:
        root = o.root or Path(folder)
        if o.root is None:
            write_ncaltech101(root / "NCALTECH101", int(o.share * RECORDINGS))
        parts = [partial(framing, root, 6, share) for share in SHARES if "frames" in o.only]
        parts += [partial(training, root, o.batches)] if "training" in o.only else []
        for part in parts:
            line = part()
            line |= {"share": o.share, "load": os.getloadavg()[0], **where(CPU)}
            print(line, flush=True)
            append(line, o.out)


if __name__ == "__main__":
    main()
