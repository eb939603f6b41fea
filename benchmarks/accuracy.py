"""Trains a grid of settings over several seeds and appends one JSON line per run.

    python benchmarks/accuracy.py DATASET [--test-file T.h5] [--preset short]
        [--delays learned fixed none] [--seeds 0 1 2] [--jobs 2] [--set epochs=20 ...]

DATASET is a name (spoken-digits, shd, ssc) or an HDF5 file in SHD's layout. Every line is the
summary.json of a run (test accuracy of the last epoch, delays rounded) with its settings and the
commit. `python benchmarks/tables.py` turns the lines into the tables of the README.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from snndelay.kernels.profile.measure import commit

RESULTS = Path(__file__).parent / "results" / "accuracy.jsonl"


def train(job: tuple[dict, str, int]) -> dict:
    """One run in a temporary folder; returns its summary with the settings that were changed."""
    changes, preset, threads = job
    from snndelay.runs.settings import from_flat, preset_settings
    from snndelay.runs.training import fit

    with tempfile.TemporaryDirectory() as runs:
        settings = preset_settings(preset) | {"n_in": None, "n_out": None} | changes
        settings |= {"runs": runs, "threads": threads}
        summary = fit(*from_flat(settings), preset=preset, draw=False)
    shown = {k: Path(v).name if k in ("dataset", "test_file") else v for k, v in changes.items()}
    return summary | shown | {"settings": shown}


def pin(number: multiprocessing.Queue, jobs: int) -> None:
    """Gives every process of the pool processors of its own: unpinned, two single-threaded runs on
    two cores take twice as long (docs/log.md)."""
    mine = sorted(os.sched_getaffinity(0))[number.get() :: jobs]
    os.sched_setaffinity(0, mine)


def trained(jobs: list[tuple[dict, str, int]], at_a_time: int) -> Iterator[dict]:
    """Lines of `train` for the jobs, in their order, so many at a time."""
    context = multiprocessing.get_context("spawn")
    numbers = context.Queue()
    for i in range(at_a_time):
        numbers.put(i)
    with context.Pool(at_a_time, pin, (numbers, at_a_time)) as pool:
        yield from pool.imap(train, jobs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("dataset")
    parser.add_argument("--test-file")
    parser.add_argument("--preset", default="short")
    parser.add_argument("--delays", nargs="+", default=["learned"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    changes = {"dataset": options.dataset}
    changes |= {"test_file": options.test_file} if options.test_file else {}
    changes |= {k: yaml.safe_load(v) for k, v in (pair.split("=", 1) for pair in options.set)}
    if not 1 <= options.jobs <= len(os.sched_getaffinity(0)):
        parser.error(f"--jobs is 1 to {len(os.sched_getaffinity(0))}, the processors at hand")
    threads = max(1, len(os.sched_getaffinity(0)) // options.jobs)
    grid = itertools.product(options.seeds, options.delays)
    jobs = [(changes | {"delays": d, "seed": s}, options.preset, threads) for s, d in grid]
    made_at = commit()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for line in trained(jobs, options.jobs):
        with options.out.open("a") as file:
            file.write(json.dumps(line | {"commit": made_at}) + "\n")
        print(f"{line['delays']} seed {line['seed']}: {line['test_accuracy']}", flush=True)


if __name__ == "__main__":
    main()
