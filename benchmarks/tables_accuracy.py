"""Tables of accuracies: delays on audio, and what static images teach about recordings."""

import itertools
import json
import statistics
from collections import defaultdict

from tables_common import NOT_MEASURED, latest, of_the_test_set, read

from snndelay.runs.statistics import DELAY_PAIRS as PAIRS
from snndelay.runs.statistics import difference, percent, table

DATA = {  # what a data set is, by the name in its result lines
    "spoken-digits": "spoken-digits (embedded, synthetic speech; 20 classes, unseen voices)",
    "fsdd4_train.h5": "FSDD, real speech, 4 of its speakers (same in training and test); 10 digits",
    "ssc9_train.h5": "Speech Commands, real speech, 9 words, unseen speakers",
}
DELAYS = {  # what a kind of delays is, by its name in the result lines
    "learned": "learned",
    "fixed": "fixed",
    "frozen": "frozen",
    "none": "none (K = 1)",
}
CONDITIONS = {  # what a condition is, by its name in the result lines
    "event-only": "events alone",
    "finetune": "images first, then events",
    "transfer": "**transfer**",
    "no sliding": "transfer, `--sliding off`",
    "no coefficients": "transfer, `--coefficient off`",
    "fixed 0.5": "transfer, `--coefficient 0.5`",
    "last channel": "transfer, `--static-channel last`",
    "saccades": "**transfer**, images as simulated recordings (`--static-as saccade`)",
    "saccades, finetune": "simulated recordings first, then real ones",
    "event-only, sltt": "events alone, `--temporal-gradient sltt`",
    "event-only, sltt-2": "events alone, sltt, `--backward-steps 2`",
    "transfer, sltt": "transfer, `--temporal-gradient sltt`",
}
RECORDINGS = {  # what a set of recordings is, by the name in its result lines
    "nmnist": "N-MNIST, 700 real recordings, with 10,700 images of MNIST",
    "caltech10": "Caltech101, 10 classes, 400 SIMULATED recordings, with 791 images; 48x48",
}


def accuracy_runs() -> dict[tuple, dict]:
    """(data set, preset, n, epochs, protocol) -> delays -> seed -> test accuracy."""
    groups = defaultdict(lambda: defaultdict(dict))
    for line in read("accuracy.jsonl"):
        changed = {k: v for k, v in line["settings"].items() if k not in ("delays", "seed")}
        names = ("dataset", "preset", "n_test", "epochs", "protocol")
        key = (*(line[name] for name in names), json.dumps(changed, sort_keys=True))
        groups[key][line["delays"]][line["seed"]] = line["test_accuracy"]  # a rerun replaces
    order = [*DATA, *sorted({key[0] for key in groups} - set(DATA))]
    ordered = sorted(groups.items(), key=lambda g: (order.index(g[0][0]), -len(g[1])))
    return {key[:-1]: runs for key, runs in ordered}


def accuracy() -> str:
    """Every kind of delays on every data set and preset: test accuracy, last epoch."""
    rows = []
    for (dataset, preset, n, epochs, protocol), by in accuracy_runs().items():
        runs = {d: [*by[d].values()] for d in DELAYS}
        seeds = " / ".join(dict.fromkeys(str(len(r)) for r in runs.values() if r))
        first = next(r for r in runs.values() if r)
        rows.append(
            [
                DATA.get(dataset, dataset), f"`{preset}`, {epochs}", protocol, n, seeds,
                *(percent(r) for r in runs.values()), of_the_test_set(first, n),
            ]
        )  # fmt: skip
    head = f"data | preset, epochs | protocol | n | seeds | {' | '.join(DELAYS.values())}"
    return table(f"{head} | from n alone", rows)


def differences() -> str:
    """What delays bring: differences of accuracy over seeds with Welch's test."""
    rows = []
    for (dataset, preset, n, _, _), by in accuracy_runs().items():
        runs = {d: [*by[d].values()] for d in DELAYS}
        if len([r for r in runs.values() if r]) < 2:
            continue
        found = [difference(runs[a], runs[b]) if runs[a] and runs[b] else "–" for a, b in PAIRS]
        seeds = " / ".join(dict.fromkeys(str(len(r)) for r in runs.values() if r))
        rows.append([DATA.get(dataset, dataset), f"`{preset}`", n, seeds, *found])
    head = f"data | preset | n | seeds of each | {' | '.join(' - '.join(p) for p in PAIRS)}"
    return table(head, rows)


def recipes() -> str:
    """What a recipe brings beside others, learned delays, with Welch's test over seeds."""
    runs = defaultdict(dict)  # data set -> recipe -> accuracies
    for (dataset, preset, *_), by in accuracy_runs().items():
        if by["learned"]:
            runs[dataset][preset] = [*by["learned"].values()]
    rows = [
        [DATA.get(dataset, dataset), f"`{one}`", f"`{other}`", difference(found[one], found[other]),
         f"{len(found[one])} / {len(found[other])}"]
        for dataset, found in runs.items()
        for other, one in itertools.combinations(found, 2)
    ]  # fmt: skip
    return table("data | recipe | beside | points (p) | seeds", rows)


def rounding() -> str:
    """What whole-step delays cost: mean and standard error over seeds, in points."""
    groups = defaultdict(lambda: defaultdict(dict))
    for line in read("accuracy.jsonl"):
        key = (line["dataset"], line["preset"])
        groups[key][line["delays"]][line["seed"]] = line["rounding_gap"]  # a rerun replaces
    rows = []
    for (dataset, preset), gaps in sorted(groups.items()):
        cells = []
        for delays in ("learned", "frozen"):
            points = [100 * gap for gap in gaps[delays].values()]
            error = statistics.stdev(points) / len(points) ** 0.5 if len(points) > 1 else 0.0
            cells.append(f"{statistics.mean(points):+.1f} ± {error:.1f}" if points else "–")
        rows.append([DATA.get(dataset, dataset), f"`{preset}`", len(gaps["learned"]), *cells])
    return table("data | preset | seeds | learned | frozen", rows)


def transfer_runs() -> dict[tuple, dict]:
    """(name, preset, changes, updates) -> (condition, labelled) -> seed -> result line."""
    groups = defaultdict(lambda: defaultdict(dict))
    for line in read("transfer.jsonl"):
        changes = json.dumps(line["changes"], sort_keys=True)
        key = (line["name"], line["preset"], changes, line["updates"])
        cell = (line["condition"], line["settings"]["n_labelled"])
        groups[key][cell][line["seed"]] = line  # a rerun replaces
    return groups


def accuracies(lines: dict[int, dict]) -> list[float]:
    return [line["test_accuracy"] for line in lines.values()]


def transfer() -> str:
    """What static images teach: test accuracy by condition and number of labelled recordings."""
    tables = []
    for (name, preset, changes, updates), cells in transfer_runs().items():
        labelled = sorted({n for _, n in cells})
        n_test = {n: next(iter(runs.values()))["n_test"] for (_, n), runs in cells.items()}
        rows = []
        for condition in dict.fromkeys(c for c, _ in cells):
            runs = [accuracies(cells.get((condition, n), {})) for n in labelled]
            seeds = dict.fromkeys(str(len(r)) for r in runs if r)
            found = [percent(r) if r else "–" for r in runs]
            rows.append([CONDITIONS.get(condition, condition), *found, " / ".join(seeds)])
        base = {n: accuracies(cells["event-only", n]) for n in labelled}
        errors = [of_the_test_set(base[n], n_test[n]) for n in labelled]
        rows.append(["standard error of one run from n alone", *errors, ""])
        head = " | ".join(["condition", *(f"{n} labelled (n = {n_test[n]})" for n in labelled)])
        lines = [line for r in cells.values() for line in r.values()]
        changed = ", ".join(f"{k} {v}" for k, v in json.loads(changes).items())
        network = {line["parameters"] for line in lines}
        phrases = [
            f"{RECORDINGS.get(name, name)}; preset `{preset}`",
            f"{min(network):,} to {max(network):,} parameters, {updates} updates",
            f"split {', '.join({line['split'] for line in lines})}",
            f"protocol {', '.join({line['protocol'] for line in lines})}",
        ]
        about = "; ".join(phrases) + (changed and f"; {changed}")
        commits = ", ".join(sorted({line["commit"] for line in lines}))
        tables.append(table(f"{head} | seeds", rows, f"{about}. Commit {commits}."))
    return "\n\n".join(tables) or NOT_MEASURED


def transfer_differences() -> str:
    """What transfer brings: differences from events alone over seeds with Welch's test."""
    tables = []
    for (name, _, _, updates), cells in transfer_runs().items():
        labelled = sorted({n for _, n in cells})
        rows = []
        for condition in dict.fromkeys(c for c, _ in cells if c != "event-only"):
            row = [CONDITIONS.get(condition, condition)]
            for n in labelled:
                a, b = (cells.get((c, n), {}) for c in (condition, "event-only"))
                row.append(difference(accuracies(a), accuracies(b)) if a and b else "–")
            rows.append(row)
        head = " | ".join(["minus events alone, points", *(f"{n} labelled" for n in labelled)])
        about = f"{RECORDINGS.get(name, name)}; {updates} updates; seeds as above."
        if any(len(runs) > 1 for runs in cells.values()):
            tables.append(table(head, rows, about))
    return "\n\n".join(tables) or NOT_MEASURED


def saccade() -> str:
    """How real simulated recordings are: a linear model learns from them, real ones judge it."""
    lines = latest("saccade.jsonl", "seed", "recipe")
    rows = [
        [
            x["seed"], x["n_simulated"], x["n_real"], f"{x['accuracy']:.1%}",
            f"{x['wrong_polarity']:.1%}", x["events_simulated"], x["events_real"],
        ]
        for x in lines
    ]  # fmt: skip
    head = "seed | simulated (training) | real (test) | accuracy | polarity swapped"
    return table(f"{head} | events simulated | events real", rows) if rows else NOT_MEASURED


TABLES = {"accuracy": accuracy, "differences": differences, "transfer": transfer}
TABLES |= {
    "recipes": recipes,
    "rounding": rounding,
    "transfer-differences": transfer_differences,
    "saccade": saccade,
}
