"""Writes the tables of README.md and docs/*.md from the committed result files; `--check` compares.

    python benchmarks/tables.py [--check]

A table stands between `<!-- table NAME -->` and `<!-- end -->`; nothing in it is typed by hand.
"""

import re
import sys
from pathlib import Path

import tables_accuracy
import tables_speed
from tables_accuracy import DELAYS, accuracies, accuracy_runs, transfer_runs
from tables_common import difference, latest, of_the_test_set, percent, table

ROOT = Path(__file__).parent.parent


def headline() -> str:
    """Six results, each with the command that made it."""
    steps = {(x["case"], x["what"]): x for x in latest("step.jsonl", "case", "what", "B")}
    rows = []
    for case, what, words in (
        ("shd", "training step", "Training step of the SHD network against its published modules"),
        ("2ms", "evaluation", "The same with 2 ms steps, evaluation"),
    ):
        line = steps[case, what]
        where = f"{line['device']}, {line['threads']} threads"
        ratio = f"**{line['peer_over_ours']:.1f} x** as fast ({where})"
        rows.append([words, ratio, f"`python benchmarks/step.py --only {case}`"])
    full, sltt = (
        next(x for x in latest("gradients.jsonl", "mode", "n_steps", "batch")
             if (x["mode"], x["n_steps"], x["batch"]) == (mode, 100, 2))
        for mode in ("bptt", "sltt")
    )  # fmt: skip
    memory = [x["peak_bytes"] / 1e6 for x in (full, sltt)]
    value = f"**{memory[1]:.0f} MB** instead of {memory[0]:.0f} MB"
    words = "Peak memory of `sltt` on spiking VGG11 over 100 steps, batch 2"
    rows.append([words, value, "`python benchmarks/gradients.py`"])
    for data, preset, words in (
        ("spoken-digits", "spoken-digits", "Spoken digits (synthetic, unseen voices)"),
        ("ssc9_train.h5", "short", "Nine Speech Commands words (real, unseen speakers)"),
    ):
        key, by = next(g for g in accuracy_runs().items() if g[0][:2] == (data, preset))
        runs = {d: [*by[d].values()] for d in DELAYS}
        values = [f"{DELAYS[d]} {percent(r)}" for d, r in runs.items()]
        values[0] = f"**{values[0]}**"
        n = f"n = {key[2]} ({of_the_test_set(runs['learned'], key[2])} from n alone)"
        n += f", {len(runs['learned'])} seeds, protocol {key[4]}"
        gain = f"learned - fixed {difference(runs['learned'], runs['fixed'])}"
        what = "spoken-digits" if data == "spoken-digits" else "TRAIN.h5 --test-file TEST.h5"
        command = (
            f"`python benchmarks/accuracy.py {what} --preset {preset} --delays learned fixed none`"
        )
        rows.append([words, f"{', '.join(values)}; {gain}; {n}", command])
    key = next(k for k in transfer_runs() if k[0] == "nmnist" and k[3] == 600)
    cells = transfer_runs()[key]
    lines, alone = (cells[c, 100] for c in ("saccades", "event-only"))
    a, b = accuracies(lines), accuracies(alone)
    value = f"**{percent(a)}**, events alone {percent(b)}; difference {difference(a, b)}"
    n = next(iter(lines.values()))["n_test"]
    value += f"; n = {n} ({of_the_test_set(a, n)} from n alone), {len(a)} seeds, protocol clean"
    words = "N-MNIST, 100 labelled recordings, taught by simulated recordings of other digits"
    command = "`python benchmarks/transfer.py RECORDINGS IMAGES --labelled 100 --updates 600"
    command += " --conditions event-only saccades`"
    rows.append([words, value, command])
    return table("what | result | command", rows)


def datasets() -> str:
    """The catalogue of data sets."""
    from snndelay.data.catalog import DATASETS

    rows = [
        [
            f"`{name}`",
            entry.kind,
            entry.title,
            entry.licence,
            entry.size,
            f"<{entry.url.split()[0]}>",
        ]
        for name, entry in DATASETS.items()
    ]
    return table("name | kind | what | licence | size | from", rows)


TABLES = tables_accuracy.TABLES | tables_speed.TABLES | {"headline": headline, "datasets": datasets}


def filled(text: str, where: str) -> str:
    """A page's text with every table made anew; a table without a maker is an error."""

    def fill(match: re.Match) -> str:
        if match[1] not in TABLES:
            sys.exit(f"{where} has a table {match[1]!r}; there are {', '.join(TABLES)}")
        return f"<!-- table {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table (\S+) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


def main() -> None:
    check = "--check" in sys.argv[1:]
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text, name = path.read_text(), path.relative_to(ROOT)
        made = filled(text, str(name))
        if made != text and check:
            sys.exit(f"{name} differs from the result files: run benchmarks/tables.py")
        if made != text:
            path.write_text(made)
            print(f"{name}: tables made anew")


if __name__ == "__main__":
    main()
