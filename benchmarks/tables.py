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


def latest(name: str, *key: str, gpu: bool = False) -> list[dict]:
    """Newest line of a result file for each value of the keys, on CPUs or on GPUs."""
    lines = [x for x in read(name) if x.get("device", "CPU").startswith("CPU") != gpu]
    return [*{json.dumps([line.get(k) for k in key]): line for line in lines}.values()]


def table(head: str, rows: list[list], about: str = "") -> str:
    """Markdown; head: its columns, separated by |."""
    lines = [f"| {head} |", "|" + "---|" * len(head.split("|"))]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(lines + (["", about] if about else []))


def measured_on(lines: list[dict]) -> str:
    """Machine and versions of the lines, one phrase for all that agree."""
    phrases = (
        f"{line['device']}, {line['threads']} threads, torch {line['torch']}, commit "
        f"{line['commit']}, medians of {line['rounds']} alternating rounds"
        for line in lines
    )
    return "; ".join(dict.fromkeys(phrases)) + "."


def step(gpu: bool = False) -> str:
    """Whole steps against the published composition."""
    lines = latest("step.jsonl", "case", "what", "B", "backend", gpu=gpu)
    if not lines:
        return NOT_MEASURED
    rows = []
    for line in lines:
        ours, peer = line["ours"], line["peer"]
        sizes = f"T {line['T']}, {line['C']} → {line['layers']} x {line['N']}, K {line['K']}"
        saved = "–"
        if line["what"] == "training step":
            mine, other = (w["saved_bytes"] / 1e6 for w in (ours, peer))
            saved = f"{mine:.0f} / {other:.0f} ({mine / other:.0%})"
        times = (f"{w['seconds'] * 1e3:.1f}" for w in (ours, peer))
        ratio = f"**{line['peer_over_ours']:.1f} x**"
        name = f"{line['case']}: {sizes}, batch {line['B']}"
        rows.append([name, line["what"], *times, ratio, saved])
    head = "network | what | ours, ms | peer, ms | faster | kept for backward, MB: ours / peer"
    peer = f"Peer: {lines[-1]['peer_path']}. Backend `{lines[-1]['backend']}`."
    return table(head, rows, f"{peer} {measured_on(lines)}")


def ops(gpu: bool = False) -> str:
    """Time of every op and backend on a hidden layer of the SHD preset."""
    lines = latest("ops.jsonl", "op", "backend", "preset", gpu=gpu)
    lines = [x for x in lines if x["preset"] == "shd" and "forward" in x and x["backend"] != "peer"]
    if not lines:
        return NOT_MEASURED
    rows = []
    for line in lines:
        row = [f"`{line['op']}`", line["backend"]]
        for p in (line["forward"], line.get("backward")):
            row.append(f"{p['seconds'] * 1e3:.1f} ({p['percent_of_floor']:.0f} %)" if p else "–")
        ratio = line.get("peer_over_this", {}).get("both")
        row += [f"{line['saved_bytes'] / 1e6:.1f}", f"{ratio:.1f} x" if ratio else "–"]
        rows.append(row)
    head = "op | backend | forward, ms (of the floor) | backward, ms (of the floor)"
    limit = lines[-1]["ceilings"]
    shape = ", ".join(f"{k} {v}" for k, v in lines[-1]["shape"].items())
    about = (
        f"{shape}. Floor: the bytes over {limit['bandwidth'] / 1e9:.0f} GB/s (copy) or the FLOP of "
        f"the direct algorithm over {limit['peak'] / 1e9:.0f} GFLOP/s (matmul {limit['dtype']}), "
        "whichever is longer, both measured; the frequency domain does fewer operations than that. "
    )
    return table(f"{head} | kept for backward, MB | peer / this", rows, about + measured_on(lines))


def ksweep() -> str:
    """Training cost of one layer against the longest delay."""
    lines = [x for x in latest("ksweep.jsonl", "backend", "shape") if "forward" in x]
    if not lines:
        return NOT_MEASURED
    backends = [*dict.fromkeys(line["backend"] for line in lines)]
    cost = {
        (line["shape"]["K"], line["backend"]): sum(
            line[p]["seconds"] * 1e3 for p in ("forward", "backward")
        )
        for line in lines
    }
    rows = [
        [K, *(f"{cost[K, b]:.0f}" if (K, b) in cost else "–" for b in backends)]
        for K in sorted({K for K, _ in cost})
    ]
    shape = ", ".join(f"{k} {v}" for k, v in lines[-1]["shape"].items() if k != "K")
    head = " | ".join(["K", *(f"{b}, ms" for b in backends)])
    return table(head, rows, f"`delay_linear`, forward and backward, {shape}. {measured_on(lines)}")


def gpu() -> str:
    """The tables of steps and ops from lines measured on a GPU."""
    found = [t for t in (step(gpu=True), ops(gpu=True)) if t != NOT_MEASURED]
    return "\n\n".join(found) or NOT_MEASURED


def transfer() -> str:
    """What static images teach: test accuracy by condition and number of labelled recordings."""
    groups = defaultdict(lambda: defaultdict(dict))  # table -> (condition, labelled) -> seed -> run
    for line in read("transfer.jsonl"):
        changes = json.dumps(line["changes"], sort_keys=True)
        key = (line["name"], line["preset"], changes, line["updates"])
        cell = (line["condition"], line["settings"]["n_labelled"])
        groups[key][cell][line["seed"]] = line  # a rerun replaces
    tables = []
    for (name, preset, changes, updates), cells in groups.items():
        labelled = sorted({n for _, n in cells})
        n_test = {n: next(iter(runs.values()))["n_test"] for (_, n), runs in cells.items()}
        rows = []
        for condition in dict.fromkeys(c for c, _ in cells):
            runs = [[*cells.get((condition, n), {}).values()] for n in labelled]
            found = [
                mean_and_spread([line["test_accuracy"] for line in r]) if r else "–" for r in runs
            ]
            seeds = dict.fromkeys(str(len(r)) for r in runs if r)
            rows.append([CONDITIONS.get(condition, condition), *found, " / ".join(seeds)])
        head = " | ".join(["condition", *(f"{n} labelled (test {n_test[n]})" for n in labelled)])
        changed = ", ".join(f"{k} {v}" for k, v in json.loads(changes).items())
        network = {line["parameters"] for r in cells.values() for line in r.values()}
        about = (
            f"{CAMERAS.get(name, name)}; preset `{preset}`, {min(network):,} to {max(network):,}"
        )
        about += f" parameters, {updates} updates" + (changed and f"; {changed}")
        commits = ", ".join(sorted({line["commit"] for r in cells.values() for line in r.values()}))
        tables.append(table(f"{head} | seeds", rows, f"{about}. Commit {commits}."))
    return "\n\n".join(tables) or NOT_MEASURED


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
CAMERAS = {  # what a set of recordings is, by the name in its result lines
    "nmnist": "N-MNIST, 700 real recordings, with 10,700 images of MNIST",
    "caltech10": "Caltech101, 10 classes, 400 SIMULATED recordings, with 791 images; 48x48",
}


def sltt() -> str:
    """Memory and time of a training step by temporal gradient."""
    lines = latest("sltt.jsonl", "mode", "n_steps", "batch", "bf16")
    if not lines:
        return NOT_MEASURED
    full = {(x["n_steps"], x["batch"], x["bf16"]): x for x in lines if x["mode"] == "bptt"}
    rows = []
    for line in lines:
        base = full.get((line["n_steps"], line["batch"], line["bf16"]))
        dtype = "bfloat16" if line["bf16"] else "float32"
        row = [line["n_steps"], line["batch"], dtype, line["mode"]]
        row.append(f"{line['peak_bytes'] / 1e6:.0f}")
        row.append(f"{line['peak_bytes'] / base['peak_bytes']:.2f}" if base else "–")
        if "seconds" in line and base:
            time, whole = (statistics.median(x["seconds"]) for x in (line, base))
            row += [f"{time / line['n_steps'] * 1e3:.0f}", f"{time / whole:.2f}"]
        rows.append(row + ["–"] * (8 - len(row)))
    head = (
        "T | batch | products | gradient | peak, MB | of bptt | time per step of time, ms | of bptt"
    )
    last = lines[-1]
    about = f"Spiking VGG11, {last['size']}x{last['size']}, forward and backward. "
    return table(head, rows, about + measured_on(lines))


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


NOT_MEASURED = "Not measured."
TABLES = {"accuracy": accuracy, "step": step, "ops": ops, "ksweep": ksweep, "gpu": gpu}
TABLES |= {"transfer": transfer, "sltt": sltt, "saccade": saccade}


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
