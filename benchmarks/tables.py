"""Writes the tables of README.md and docs/*.md from the committed result files; `--check` compares.

    python benchmarks/tables.py [--check]

A table stands between `<!-- table NAME -->` and `<!-- end -->`; nothing in it is typed by hand.
"""

import ast
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import tables_accuracy
import tables_gpu
import tables_precision
import tables_speed
import tables_studies
import tables_trust
from tables_accuracy import DELAYS, accuracies, accuracy_runs, transfer_runs
from tables_common import latest, of_the_test_set

from snndelay.runs.statistics import difference, percent, table

ROOT = Path(__file__).parent.parent


def headline() -> str:
    """The results in short, each with the command that made it."""
    rows = [*speed_rows(), *tables_gpu.headline(), memory_row(), *delay_rows(), transfer_row()]
    return table("what | result | command", rows)


def speed_rows() -> Iterator[list[str]]:
    lines = (x for x in latest("step.jsonl", "case", "what", "backend") if x["backend"] == "auto")
    steps = {(x["case"], x["what"]): x for x in lines}
    for case, what, words in (
        ("shd", "training step", "Training step of the SHD network against its published modules"),
        ("2ms", "evaluation", "The same with 2 ms steps, evaluation"),
    ):
        line = steps[case, what]
        where = f"{line['device']}, {line['threads']} threads"
        ratio = f"**{line['peer_over_ours']:.1f} x** as fast ({where})"
        yield [words, ratio, f"`python benchmarks/step.py --only {case}`"]


def memory_row() -> list[str]:
    lines = latest("gradients.jsonl", "mode", "n_steps", "batch", "bf16")
    lines = [x for x in lines if (x["n_steps"], x["batch"], x["bf16"]) == (100, 2, False)]
    mb = {x["mode"]: x["peak_bytes"] / 1e6 for x in lines}
    value = f"**{mb['sltt']:.0f} MB** instead of {mb['bptt']:.0f} MB"
    words = "Peak memory of `sltt` on spiking VGG11 over 100 steps, batch 2"
    return [words, value, "`python benchmarks/gradients.py`"]


def delay_rows() -> Iterator[list[str]]:
    file = "TRAIN.h5 --test-file TEST.h5"
    for data, preset, argument, words in (
        ("spoken-digits", "spoken-digits", "spoken-digits", "Spoken digits, synthetic"),
        ("ssc9_train.h5", "audio-small", file, "Nine Speech Commands words, real, unseen speakers"),
    ):
        key, by = next(g for g in accuracy_runs().items() if g[0][:2] == (data, preset))
        runs = {d: [*by[d].values()] for d in DELAYS}
        values = [f"{DELAYS[d]} {percent(r)}" for d, r in runs.items()]
        gain = f"learned - fixed {difference(runs['learned'], runs['fixed'])}"
        about = measured(runs["learned"], key[2], key[4])
        command = f"accuracy.py {argument} --preset {preset} --delays learned fixed frozen none"
        result = f"**{values[0]}**, {', '.join(values[1:])}; {gain}; {about}"
        yield [words, result, f"`python benchmarks/{command}`"]


def transfer_row() -> list[str]:
    cells = next(r for k, r in transfer_runs().items() if k[0] == "nmnist" and k[3] == 600)
    lines, alone = (cells[c, 100] for c in ("saccades", "event-only"))
    a, b, line = accuracies(lines), accuracies(alone), next(iter(lines.values()))
    value = f"**{percent(a)}**, events alone {percent(b)}; difference {difference(a, b)}"
    words = "N-MNIST, 100 labelled recordings, taught by simulated recordings of other digits"
    command = "transfer.py RECORDINGS IMAGES --labelled 100 --updates 600"
    command += " --conditions event-only saccades"
    about = measured(a, line["n_test"], line["protocol"])
    return [words, f"{value}; {about}", f"`python benchmarks/{command}`"]


def measured(accuracies: list[float], n: int, protocol: str) -> str:
    """Test set, seeds and protocol of some accuracies, and the error that n alone leaves."""
    error = of_the_test_set(accuracies, n)
    return f"n = {n} ({error} from n alone), {len(accuracies)} seeds, protocol {protocol}"


def datasets() -> str:
    """The catalogue of data sets."""
    from snndelay.data.catalog import DATASETS

    rows = [
        [
            f"`{name}`",
            entry.kind,
            entry.title,
            str(entry.classes),
            entry.licence,
            entry.size,
            f"`{entry.layout}`" if "/" in entry.layout else entry.layout,
            entry.protocol,
            f"`{entry.command(name)}`",
            f"<{entry.url.split()[0]}>",
        ]
        for name, entry in DATASETS.items()
    ]
    head = "name | kind | what | classes | licence | size | on disk | protocol | command | from"
    return table(head, rows)


def formats() -> str:
    """Which endings of recordings are read."""
    from snndelay.data.vision.formats import READERS

    titles = list(dict.fromkeys(reader.title for reader in READERS.values()))
    endings = {t: [f"`{e}`" for e, r in READERS.items() if r.title == t] for t in titles}
    return table("ending | format", [[", ".join(endings[t]), t] for t in titles])


def augmentation(wing: str) -> str:
    """The augmentations of a wing."""
    from snndelay.data import augmentation
    from snndelay.data.audio.augment import ABOUT
    from snndelay.data.vision.augment import AUGMENTATIONS

    return augmentation.markdown(ABOUT if wing == "audio" else AUGMENTATIONS)


def house() -> str:
    """Every module, with the first sentence of its docstring."""
    rows = []
    for room in ("data", "kernels", "snndelay"):
        for path in sorted((ROOT / room).rglob("*.py"), key=lambda p: (len(p.parts), p)):
            place = path.relative_to(ROOT)
            linked = place.parts[:2] in (("snndelay", "data"), ("snndelay", "kernels"))
            if linked or path.name == "__init__.py":
                continue
            text = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split())
            rows.append(
                [f"`{place}`", re.split(r"(?<!al)\. ", text)[0].rstrip(".").replace("``", "`")]
            )
    return table("file | what", rows)


TABLES = tables_accuracy.TABLES | tables_speed.TABLES | {"headline": headline, "datasets": datasets}
TABLES |= {"formats": formats}
TABLES |= {f"augment-{wing}": partial(augmentation, wing) for wing in ("audio", "vision")}
TABLES |= tables_gpu.TABLES | tables_precision.TABLES | tables_studies.TABLES | {"house": house}
TABLES |= tables_trust.TABLES


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
