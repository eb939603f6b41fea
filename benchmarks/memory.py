"""How far curricula come in memory tasks, and with which time constants.

    python benchmarks/memory.py [--tasks n-parity n-dms] [--seeds 0 1 2] [--epochs 60]
                                [--curricula single single-head multi-head]
                                [--delays none fixed learned]

Trains the networks of the presets with equal numbers of training steps: `single` for several N from
scratch, `single-head` and `multi-head` from N = 2 on. Appends one JSON line per run: the largest N
solved, the accuracy of every head in the end, and time constants when each N was solved. With
--delays neurons spike, and every run is made with each of these: delays or time constants?
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

from common import RESULTS, append

from snndelay import fit
from snndelay.delays import DELAYS
from snndelay.kernels.profile.measure import commit
from snndelay.runs.memory_settings import CURRICULA
from snndelay.runs.presets import preset_settings
from snndelay.runs.report import read_metrics

SINGLE = {"n-parity": (5, 8, 10), "n-dms": (5, 10, 15)}
KEPT = (  # of summary.json
    "largest_n", "last_n", "accuracy_per_n", "tau_mean", "tau_net_mean", "silent", "epochs",
    "rounding_gap",
)  # fmt: skip


def cases(task: str) -> list[dict[str, Any]]:
    """Settings of the runs on a task, beside its preset."""
    grow = [{"curriculum": name, "n_max": 100} for name in ("single-head", "multi-head")]
    return [*grow, *({"curriculum": "single", "n_start": n} for n in SINGLE[task])]


def run(task: str, changed: dict[str, Any]) -> dict[str, Any]:
    """One run with some settings changed; its line."""
    start = time.process_time()
    with tempfile.TemporaryDirectory() as runs:
        settings = preset_settings(task) | changed | {"runs": runs, "run": "a", "threads": 1}
        summary = fit(settings, preset=task, draw=False)
        records = [r for r in read_metrics(Path(runs) / "a" / "metrics.jsonl") if "solved" in r]
    names = ("epoch", "tau_mean", "tau_net_mean")
    solved = {r["solved"]: {name: r.get(name) for name in names} for r in records}
    line = {"task": task, "settings": changed} | {k: summary[k] for k in KEPT}
    return line | {"solved": solved, "cpu_seconds": round(time.process_time() - start, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--tasks", nargs="+", choices=tuple(SINGLE), default=list(SINGLE))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--curricula", nargs="+", choices=CURRICULA, default=list(CURRICULA))
    parser.add_argument("--delays", nargs="+", choices=DELAYS, help="neurons spike, with these")
    parser.add_argument("--epochs", type=int, default=60, help="of 50 steps, at most")
    parser.add_argument("--out", type=Path, default=RESULTS / "memory.jsonl")
    options = parser.parse_args()
    made_at = commit()
    networks = [{"network": "spiking", "delays": d} for d in options.delays or ()] or [{}]
    for seed in options.seeds:
        for task in options.tasks:
            for changed, network in itertools.product(cases(task), networks):
                if changed["curriculum"] not in options.curricula:
                    continue
                line = run(task, changed | network | {"seed": seed, "epochs": options.epochs})
                append(line | {"commit": made_at}, options.out)
                print(line, flush=True)


if __name__ == "__main__":
    main()
