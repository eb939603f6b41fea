"""Tables of what benchmarks/gpu.py and benchmarks/speedrun.py measured."""

from tables_common import NOT_MEASURED, read, table

NEWEST = {  # part: what a line is about; the newest of each is shown
    "step": ("case", "what", "how", "precision"),
    "sltt": ("mode", "T", "B", "size"),
    "capture": ("case",),
    "correctness": ("op", "precision", "shape"),
    "ops": ("preset", "op", "backend"),
}


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
    found = newest(lines, "sltt")
    if not found:
        return NOT_MEASURED
    full = {(x["T"], x["B"], x["size"]): x for x in found if x["mode"] == "bptt"}
    rows = []
    for x in found:
        base = full.get((x["T"], x["B"], x["size"]), x)
        memory = f"{x['peak_bytes'] / 1e6:.0f}"
        of = [f"{x[k] / base[k]:.2f}" for k in ("seconds", "peak_bytes")]
        sizes = f"T {x['T']}, batch {x['B']}, {x['size']} x {x['size']}"
        rows.append([sizes, x["mode"], ms(x), of[0], memory, of[1]])
    head = "spiking VGG11 | gradient | forward and backward, ms | of bptt | peak, MB | of bptt"
    return table(head, rows, measured_on(found))


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
    """What was right: one sentence each for the ops and the graphs."""
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
    return " ".join([*said, measured_on([*ops_, *graphs])]) if said else NOT_MEASURED


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


def gpu() -> str:
    """All tables from lines measured on a GPU."""
    lines = [x for x in read("gpu.jsonl") if not x.get("device", "").startswith("CPU")]
    return summary(lines)


TABLES = {"gpu": gpu}
