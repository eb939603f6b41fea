"""Writes the tables of README.md from the committed result files; `--check` only compares.

    python benchmarks/tables.py [--check]

A table stands between `<!-- table NAME -->` and `<!-- end -->`; nothing in it is typed by hand.
"""

import json
import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"

DATA = {  # what a data set is, by the name in its result lines
    "spoken-digits": "spoken-digits (embedded, synthetic speech; 20 classes, unseen voices)",
    "fsdd4_train.h5": "FSDD, real speech, 4 of its speakers (same in training and test); 10 digits",
    "ssc9_train.h5": "Speech Commands, real speech, 9 words, unseen speakers",
}
DELAYS = {"learned": "learned", "fixed": "fixed random", "none": "none (K = 1)"}


def read(name: str) -> list[dict]:
    """Lines of a result file; none if there is no file yet."""
    path = RESULTS / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def mean_and_spread(values: list[float]) -> str:
    """`mean ± standard deviation` over seeds, in percent."""
    if not values:
        return "not measured"
    spread = f" ± {statistics.stdev(values):.1%}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1%}{spread}"


def accuracy() -> str:
    """Learned, fixed and no delays on every data set and preset: test accuracy, last epoch."""
    groups = defaultdict(lambda: defaultdict(dict))  # settings -> delays -> seed -> run
    for line in read("accuracy.jsonl"):
        changed = {k: v for k, v in line["settings"].items() if k not in ("delays", "seed")}
        names = ("dataset", "preset", "n_test", "epochs", "protocol")
        key = (*(line[name] for name in names), json.dumps(changed, sort_keys=True))
        groups[key][line["delays"]][line["seed"]] = line["test_accuracy"]  # a rerun replaces
    rows = [f"| data | preset, epochs | n | {' | '.join(DELAYS.values())} | seeds |"]
    rows.append("|---|---|---|---|---|---|---|")
    order = [*DATA, *sorted({key[0] for key in groups} - set(DATA))]
    for key, runs in sorted(groups.items(), key=lambda g: (order.index(g[0][0]), -len(g[1]))):
        dataset, preset, n, epochs, protocol, _ = key
        cells = [mean_and_spread([*runs[d].values()]) for d in DELAYS]
        seeds = " / ".join(dict.fromkeys(str(len(runs[d])) for d in DELAYS if runs[d]))
        label = f"`{preset}`, {epochs}" + ("" if protocol == "clean" else f", {protocol}")
        rows.append(
            f"| {' | '.join(map(str, (DATA.get(dataset, dataset), label, n, *cells, seeds)))} |"
        )
    return "\n".join(rows)


def ops() -> str:
    """Milliseconds per op and backend."""
    lines = read("ops.jsonl")
    if not lines:
        return "Not measured."
    rows = ["| op | shapes of | backend | forward, ms | backward, ms | reference / this |"]
    rows.append("|---|---|---|---|---|---|")
    for line in lines:
        row = (
            f"`{line['op']}`",
            line["preset"],
            line["backend"],
            f"{line['forward_s'] * 1e3:.1f}",
            f"{line['backward_s'] * 1e3:.1f}",
            f"{line['reference_over_this']:.2f}",
        )
        rows.append(f"| {' | '.join(row)} |")
    where = lines[0]
    rows.append("")
    rows.append(
        f"{where['device']}, torch {where['torch']}, batch 64 (shd) and 32 (ssc), "
        f"medians of {where['repeats']} alternating rounds; GPU: not measured."
    )
    return "\n".join(rows)


TABLES = {"accuracy": accuracy, "ops": ops}


def filled(text: str) -> str:
    """The README's text with every table made anew."""
    for name, table in TABLES.items():
        pattern = rf"(<!-- table {name} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda m, t=table: f"{m[1]}{t()}\n{m[2]}", text, flags=re.DOTALL)
    return text


def main() -> None:
    path = ROOT / "README.md"
    text = path.read_text()
    if "--check" in sys.argv[1:]:
        sys.exit(0 if filled(text) == text else "README.md differs: run benchmarks/tables.py")
    path.write_text(filled(text))


if __name__ == "__main__":
    main()
