"""Tables of the studies, from the grids and lines that benchmarks/studies.py keeps, and of the
memory tasks.
"""

import statistics
from functools import partial

from common import RESULTS
from tables_common import NOT_MEASURED, read

from snndelay.runs.grid import cells_of
from snndelay.runs.statistics import table
from snndelay.runs.studies import STUDIES
from snndelay.runs.study_file import read_results, read_study
from snndelay.runs.study_table import accuracy_table, difference_table, groups_of


def study(name: str) -> str:
    """Accuracy of every cell, and what kinds of delays differ by."""
    folder = RESULTS / "studies" / name
    if (found := read_study(folder)) is None:
        return NOT_MEASURED
    results = read_results(folder, found)
    groups = groups_of(cells_of(found.base, found.grid), results)
    lines = [*results.values()]
    chance = statistics.mean(1 / line["n_classes"] for line in lines)
    about = (
        f"`snndelay study --preset {name}`: accuracy on n = {lines[0]['n']} test samples after the "
        f"last epoch, delays rounded, protocol {found.base['protocol']}; mean ± standard error "
        f"over seeds; chance {chance:.1%}. Differences in points, p of Welch's test over seeds, "
        "not corrected for the number of comparisons."
    )
    return "\n\n".join(
        part for part in (accuracy_table(groups), difference_table(groups), about) if part
    )


def memory() -> str:
    """How far curricula come in equal numbers of training steps, and with which time constants."""
    found: dict[tuple, dict[int, dict]] = {}
    for line in read("memory.jsonl"):  # the newest of a seed
        s = line["settings"]
        what = f"single, N = {s['n_start']}" if "n_start" in s else s["curriculum"]
        neurons = s.get("network", "rate")
        if "delays" in s:
            neurons += f", delays {s['delays']}"
        key = (line["task"], neurons, what, s["epochs"])
        found.setdefault(key, {})[s["seed"]] = line
    if not found:
        return NOT_MEASURED
    rows = []
    for key, by_seed in found.items():
        runs = [by_seed[seed] for seed in sorted(by_seed)]
        row = [*key, ", ".join(str(r["largest_n"] or "–") for r in runs)]
        for name in ("tau_mean", "tau_net_mean"):
            row.append(", ".join("–" if r[name] is None else f"{r[name]:.2f}" for r in runs))
        rows.append([*row, ", ".join(str(r["epochs"]) for r in runs)])
    head = "task | neurons | curriculum | at most epochs | largest N solved | mean tau | mean tau "
    about = (
        "`python benchmarks/memory.py`, a value for each seed, – where nothing was solved. An "
        "epoch is 50 steps of 128 trials. Solved: above 98 % on fresh trials with balanced bits. "
        "Time constants in steps of one bit, of neurons and of their activity within the network, "
        "at the end."
    )
    return table(f"{head}of activity | epochs", rows, about)


TABLES = {"memory": memory} | {f"study-{name}": partial(study, name) for name in STUDIES}
