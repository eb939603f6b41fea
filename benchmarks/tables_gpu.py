"""Tables of what benchmarks/gpu.py and benchmarks/speedrun.py measured."""

from collections.abc import Iterator

from tables_common import NOT_MEASURED, read

from snndelay.runs.statistics import table

NEWEST = {  # part: what a line is about; the newest of each is shown
    "step": ("case", "what", "how", "precision"),
    "sltt": ("how", "mode", "T", "B", "size"),
    "capture": ("case",),
    "correctness": ("op", "precision", "shape"),
    "speedrun": ("data", "epochs", "precision"),
    "wait": ("data_on", "workers", "clips"),
    "ops": ("preset", "op", "backend"),
}

EPOCHS = 150  # of the whole recipe
GRAPH, PEER = ("graph", "default"), ("peer", "default")


def newest(lines: list[dict], part: str) -> list[dict]:
    """Newest line of a part for each thing it is about, without what failed."""
    mine = [x for x in lines if x["part"] == part and not {"failed", "cannot_run"} & x.keys()]
    return [*{str([x.get(k) for k in NEWEST[part]]): x for x in mine}.values()]


def ms(line: dict | None) -> str:
    """Its time in milliseconds, or a dash."""
    return f"{line['seconds'] * 1e3:.2f}" if line else "–"


def steps(lines: list[dict]) -> str:
    """Whole steps by case and precision."""
    found = {tuple(x.get(k) for k in NEWEST["step"]): x for x in newest(lines, "step")}
    if not found:
        return NOT_MEASURED
    rows, paths = [], {}
    for case in dict.fromkeys(key[0] for key in found):
        for what in ("training step", "evaluation"):
            peer = found.get((case, what, "peer", "default"))
            for precision in ("highest", "default", "fast"):
                eager, graph = (
                    found.get((case, what, how, precision)) for how in ("eager", "graph")
                )
                if eager is None:
                    continue
                x = eager
                name = f"{case}: T {x['T']}, {x['C']} → {x['layers']} x {x['N']}, K {x['K']}"
                rival = peer if precision == "default" else None
                paths |= {peer["path"]: None} if peer else {}
                best = min(y["seconds"] for y in (eager, graph) if y)
                ratio = f"**{rival['seconds'] / best:.1f} x**" if rival else "–"
                memory = " / ".join(
                    f"{y['peak_bytes'] / 1e6:.0f}" if y and y.get("peak_bytes") is not None else "–"
                    for y in (eager, rival)
                )
                row = [f"{name}, batch {x['B']}", what, precision, ms(eager), ms(graph), ms(rival)]
                rows.append([*row, ratio, memory])
    head = "network | what | precision | eager, ms | one graph, ms | peer, ms | faster | "
    about = "Medians on the clock at the wall. "
    about += f"Peer: {'; '.join(paths)}, eager, what torch allows by default. " if paths else ""
    return table(f"{head}peak, MB: ours / peer", rows, about + measured_on(found.values()))


def sltt(lines: list[dict]) -> str:
    """The temporal gradients."""
    found = {tuple(x[k] for k in NEWEST["sltt"]): x for x in newest(lines, "sltt")}
    rows = []
    for (how, mode, *sizes), eager in found.items():
        if how != "eager":
            continue
        full = found.get(("eager", "bptt", *sizes), eager)
        T, B, size = sizes
        row = [f"T {T}, batch {B}, {size} x {size}", mode]
        for x in (eager, *(found.get((how, mode, *sizes)) for how in ("graph", "step graph"))):
            row += [ms(x), f"{x['of_bptt']:.2f}" if x and x["of_bptt"] else "–"]
        memory, of = eager["peak_bytes"], eager["peak_bytes"] / full["peak_bytes"]
        rows.append([*row, f"{memory / 1e6:.0f}", f"{of:.2f}"])
    if not rows:
        return NOT_MEASURED
    head = "spiking VGG11 | gradient | eager, ms | of bptt | one graph, ms | of bptt | "
    head += "graph of one step, ms | of bptt as a graph | eager peak, MB"
    about = "Forward and backward. "
    return table(f"{head} | of bptt", rows, about + measured_on(found.values()))


def ops(lines: list[dict]) -> str:
    """Every op beside the limits of the device."""
    found = newest(lines, "ops")
    if not found:
        return NOT_MEASURED
    rows = []
    for x in found:
        row = [x["preset"], f"`{x['op']}`", x["backend"]]
        for p in (x["forward"], x.get("backward")):
            row.append(f"{p['seconds'] * 1e3:.3f} ({p['percent_of_floor']:.0f} %)" if p else "–")
        rows.append(row)
    limit = found[-1]["ceilings"]
    about = (
        f"Floor: the bytes over {limit['bandwidth'] / 1e9:.0f} GB/s (copy) or the FLOP of the "
        f"direct algorithm over {limit['peak'] / 1e12:.1f} TFLOP/s (matmul {limit['dtype']}), "
        "whichever is longer, both measured. "
    )
    head = "layer | op | backend | forward, ms (of the floor) | backward, ms (of the floor)"
    return table(head, rows, about + measured_on(found))


def checks(lines: list[dict]) -> str:
    """A sentence each: ops and graphs that are right, the speedrun, waiting for data."""
    ops_, graphs = newest(lines, "correctness"), newest(lines, "capture")
    said = []
    if ops_:
        right = sum(x["right"] for x in ops_)
        worst = max(x["error"] for x in ops_ if x["precision"] == "highest")
        said.append(
            f"{right} of {len(ops_)} comparisons of ops with the reference are within their limits "
            f"(largest relative error at `highest`: {worst:.1e})."
        )
    if graphs:
        equal = [x["case"] for x in graphs if x["equal"]]
        said.append(
            f"Training steps replayed from a graph equal eager ones bit for bit in {len(equal)} of "
            f"{len(graphs)} networks ({', '.join(x['case'] for x in graphs)})."
        )
    races, waits = newest(lines, "speedrun"), newest(lines, "wait")
    for x in races:
        said.append(
            f"{x['epochs']} epochs of the recipe for SHD take {x['seconds']:.2f} s, "
            f"{x['ms_per_step']:.2f} ms a step (`benchmarks/speedrun.py`, {x['n_train']} clips)."
        )
    for x in waits:
        said.append(
            f"With events on the {x.get('data_on', 'host')} and {x['workers']} workers "
            f"{x['waiting']:.0%} of a training epoch of {x['epoch_seconds']:.2f} s are gone "
            "waiting for data."
        )
    found = [*ops_, *graphs, *races, *waits]
    return " ".join([*said, measured_on(found)]) if said else NOT_MEASURED


def measured_on(lines) -> str:
    """Machine and versions, one phrase for all lines that agree."""
    phrases = (
        f"{x['device']}, driver {x['driver']}, torch {x['torch']}, triton {x['triton']}, commit "
        f"{x['commit']}"
        for x in lines
    )
    return "; ".join(dict.fromkeys(phrases)) + "."


SECTIONS = (steps, sltt, checks, ops)


def summary(lines: list[dict]) -> str:
    """All tables that there are lines for."""
    made = [text for section in SECTIONS if (text := section(lines)) != NOT_MEASURED]
    return "\n\n".join(made) or NOT_MEASURED


def on_gpus() -> list[dict]:
    """Lines of the result file but those of a CPU."""
    return [x for x in read("gpu.jsonl") if not x.get("device", "").startswith("CPU")]


def gpu() -> str:
    """All tables from lines measured on a GPU."""
    return summary(on_gpus())


def records() -> str:
    """Every run of the whole recipe that was faster than all before it on its card and data."""
    best: dict[tuple, float] = {}
    rows = []
    for x in read("speedrun.jsonl"):
        if x["epochs"] < EPOCHS or x["settings"]:
            continue
        key = x["device"], x["data"]
        if x["seconds"] < best.get(key, float("inf")):
            best[key] = x["seconds"]
            beside = f"{x['open_seconds']:.1f} + {x['compile_seconds']:.1f} s"
            test = f"{x['test_accuracy']:.1%} of {x['n_test']}"
            row = [f"**{x['seconds']:.2f}**", x["device"], x["data"], x["what"], x["commit"]]
            rows.append([*row, x["precision"], beside, test])
    head = "seconds | card | data | what changed | commit | precision | opening + compiling"
    return table(f"{head} | test accuracy, one seed", rows) if rows else NOT_MEASURED


def headline() -> Iterator[list[str]]:
    """Rows for the README: a whole step as one graph beside the peer; none if not measured."""
    found = {tuple(x.get(k) for k in NEWEST["step"]): x for x in newest(on_gpus(), "step")}
    for what in ("training step", "evaluation"):
        ours, peer = (found.get(("shd", what, *how)) for how in (GRAPH, PEER))
        if ours and peer:
            value = f"**{ms(ours)} ms** as one CUDA graph, its published modules {ms(peer)} ms"
            words = f"The SHD network on a GPU, batch {ours['B']}, {what}"
            yield [words, f"{value} ({ours['device']})", "`python benchmarks/gpu.py --parts step`"]


TABLES = {"gpu": gpu, "records": records}
