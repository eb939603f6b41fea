"""Trains a grid of settings over several seeds and appends one JSON line per run.

    python benchmarks/accuracy.py DATASET [--test-file T.h5] [--preset audio-small]
        [--delays learned fixed frozen none] [--seeds 0 1 2 3 4] [--jobs 2] [--set epochs=20 ...]

DATASET is a name (spoken-digits, shd, ssc) or an HDF5 file in SHD's layout. Every line is the
summary.json of a run (test accuracy of the last epoch, delays rounded) with its settings and the
commit. `python benchmarks/tables.py` turns the lines into the tables of
README.md and docs/results.md.
"""

import argparse
import itertools
from pathlib import Path

from common import RESULTS, append, changes, cores, trained

from snndelay.kernels.profile.measure import commit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("dataset")
    parser.add_argument("--test-file")
    parser.add_argument("--preset", default="audio-small")
    parser.add_argument("--delays", nargs="+", default=["learned"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--out", type=Path, default=RESULTS / "accuracy.jsonl")
    options = parser.parse_args()
    changed = {"dataset": options.dataset}
    changed |= {"test_file": options.test_file} if options.test_file else {}
    changed |= changes(options.set)
    if not 1 <= options.jobs <= cores():
        parser.error(f"--jobs is 1 to {cores()}, the processors at hand")
    threads = max(1, cores() // options.jobs)
    grid = itertools.product(options.seeds, options.delays)
    jobs = [(changed | {"delays": d, "seed": s}, options.preset, threads) for s, d in grid]
    made_at = commit()
    for line in trained(jobs, options.jobs):
        append(line | {"commit": made_at}, options.out)
        print(f"{line['delays']} seed {line['seed']}: {line['test_accuracy']}", flush=True)


if __name__ == "__main__":
    main()
