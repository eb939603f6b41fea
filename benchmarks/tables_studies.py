"""Tables of the studies, from the grids and lines that benchmarks/studies.py keeps, and of the
memory tasks.
"""

import statistics
from dataclasses import replace
from functools import partial

from common import RESULTS
from tables_common import NOT_MEASURED, read

from snndelay.data.catalog import DATASETS
from snndelay.runs.grid import cells_of
from snndelay.runs.statistics import table
from snndelay.runs.studies import STUDIES
from snndelay.runs.study_file import Study, read_results, read_study
from snndelay.runs.study_table import (
    Group,
    accuracy_table,
    difference_table,
    effect_table,
    from_to,
    groups_of,
)


def kept(name: str) -> tuple[Study, list[Group], list[dict]] | None:
    """A study that is kept with its groups and lines; None if there is none."""
    folder = RESULTS / "studies" / name
    if (found := read_study(folder)) is None:
        return None
    if found.base["dataset"] not in DATASETS:  # somebody's own, which need not be here
        alike = {"audio": "spoken-digits", "vision": "dvs"}[found.base["kind"]]
        found = replace(found, base=found.base | {"dataset": alike})
    results = read_results(folder, found)
    return found, groups_of(cells_of(found.base, found.grid), results), [*results.values()]


def study(name: str) -> str:
    """Accuracy of every cell, and what kinds of delays differ by."""
    if (of_it := kept(name)) is None:
        return NOT_MEASURED
    found, groups, lines = of_it
    chance = statistics.mean(1 / line["n_classes"] for line in lines)
    on = "validation" if found.base["protocol"] == "validation" else "test"
    about = (
        f"{f'`snndelay study --preset {name}`: a' if name in STUDIES else 'A'}ccuracy on n = "
        f"{from_to([line['n'] for line in lines])} {on} samples after the last epoch, delays "
        f"rounded, protocol {found.base['protocol']}; mean ± standard error over seeds; chance "
        f"{chance:.1%}."
    )
    if difference_table(groups):
        about += " Differences in points, p of Welch's test over seeds, not corrected for the "
        about += "number of comparisons."
    return "\n\n".join(
        part for part in (accuracy_table(groups), difference_table(groups), about) if part
    )


def effects(name: str) -> str:
    """What every value of a study's axes brings, with the data that it is measured on."""
    if (of_it := kept(name)) is None:
        return NOT_MEASURED
    found, groups, lines = of_it
    epochs = "" if "epochs" in found.grid else f"{found.base['epochs']} epochs, "
    about = (
        f"Points on n = {from_to([line['n'] for line in lines])} validation samples held out of "
        f"training, {epochs}last epoch, delays rounded; mean over seeds ± standard error at equal "
        "other values; p of a paired t-test over seeds, not corrected."
    )
    return "\n\n".join((effect_table(groups), about))


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


OWN = [p.name for p in sorted((RESULTS / "studies").iterdir()) if p.name not in STUDIES]
TABLES = {"memory": memory} | {f"study-{name}": partial(study, name) for name in STUDIES}
TABLES |= {f"study-{name}": partial(study, name) for name in OWN}
TABLES |= {f"effects-{name}": partial(effects, name) for name in OWN}
