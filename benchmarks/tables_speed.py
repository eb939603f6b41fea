"""Tables of time and memory: whole steps, ops, longest delays, temporal gradients."""

import statistics

from tables_common import NOT_MEASURED, latest, measured_on

from snndelay.runs.statistics import table


def step() -> str:
    """Whole steps against the published composition."""
    lines = latest("step.jsonl", "case", "what", "B", "backend")
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


def ops() -> str:
    """Time of every op and backend on a hidden layer of the SHD preset."""
    lines = latest("ops.jsonl", "op", "backend", "preset")
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


def neurons() -> str:
    """Time of one scan by kind of neuron, compiled, next to that of a LIF."""
    names = {"lif": "lif", "lif:if": "if", "lif:plif": "plif", "lif:adlif": "adlif"}
    found = {
        names[x["op"]]: x
        for x in latest("ops.jsonl", "op", "backend", "preset")
        if x["op"] in names and x["backend"] == "cpu" and x["preset"] == "shd"
    }
    if "lif" not in found:
        return NOT_MEASURED
    rows = []
    for name in (n for n in names.values() if n in found):
        ms = [1e3 * found[name][p]["seconds"] for p in ("forward", "backward")]
        lif = sum(1e3 * found["lif"][p]["seconds"] for p in ("forward", "backward"))
        kept = found[name]["saved_bytes"] / 1e6
        rows.append([f"`{name}`", *(f"{t:.1f}" for t in ms), f"{sum(ms) / lif:.2f}", f"{kept:.1f}"])
    shape = ", ".join(f"{k} {v}" for k, v in found["lif"]["shape"].items() if k in "TBN")
    head = "neuron | forward, ms | backward, ms | of lif | kept for backward, MB"
    return table(head, rows, f"Backend `cpu`, {shape}. {measured_on([found['lif']])}")


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


def gradients() -> str:
    """Memory and time of a training step by temporal gradient."""
    lines = latest("gradients.jsonl", "mode", "n_steps", "batch", "bf16")
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


def kinds() -> str:
    """A training step with each kind of delay beside one without."""
    lines = latest("kinds.jsonl", "kind", "layer", "block", "T", "B", "K")
    if not lines:
        return NOT_MEASURED
    cost = {(x["layer"], x["block"], x["kind"]): x for x in lines}
    cases = list(dict.fromkeys((x["layer"], x["block"]) for x in lines))
    rows = [
        [kind, *(f"{1e3 * x['seconds']:.0f} ({x['of_none']:.2f})" for x in of_kind)]
        for kind in dict.fromkeys(x["kind"] for x in lines)
        for of_kind in [[cost[*case, kind] for case in cases]]
    ]
    names = (f"{layer}, {'with BatchNorm, LIF' if block else 'alone'}" for layer, block in cases)
    head = " | ".join(["kind", *(f"{name}, ms (of none)" for name in names)])
    first = lines[0]
    about = f"Forward and backward, T {first['T']}, batch {first['B']}, K {first['K']}; `none`: no "
    about += "delays. The first layer, 140 to 256, has no gradient of its input, the hidden one, "
    return table(head, rows, f"{about}256 to 256, has. {measured_on(lines)}")


def recurrent() -> str:
    """A training step of recurrent neurons beside a loop over steps in torch."""
    lines = latest("recurrent.jsonl", "kind", "B", "N", "K")
    if not lines:
        return NOT_MEASURED
    rows = []
    for line in lines:
        ours, loop = line["seconds"]["ours"], line["seconds"]["loop"]
        lean = line.get("lean_over_ours")
        row = [line["kind"], line["B"], line["N"], line["K"], f"{1e3 * ours:.0f}"]
        row += [f"{1e3 * loop:.0f}", f"**{line['loop_over_ours']:.1f} x**"]
        rows.append([*row, f"{lean:.1f} x" if lean else "–"])
    head = "delays | batch | N | K | ours, ms | loop, ms | faster | than a lean loop"
    about = "Forward and backward, T 100, about 10 % spikes. Loop: as the DelRec release computes "
    about += "it, with a ring of future currents; lean: the weights after the ring. "
    return table(head, rows, about + measured_on(lines))


def data() -> str:
    """Loaders beside those of other libraries."""
    names = {"clips": "SHD's layout", "digits": "N-MNIST's", "pictures": "N-Caltech101's"}
    lines = [x for x in latest("data.jsonl", "case") if x["case"] in names]
    if not lines:
        return NOT_MEASURED
    rows = []
    for line in lines:
        for who, seconds in line["seconds"].items():
            row = [f"{names[line['case']]}, {line['samples']} samples", who]
            for when, s in seconds.items():
                row.append(f"{line['samples'] / s:,.0f}, {line['events'] / s / 1e6:.1f} M")
                ratio = line["over_ours"].get(who)
                row.append(f"**{ratio[when]:.1f} x**" if ratio else "–")
            rows.append(row)
    head = "files in | loader | first epoch: samples, events per second | ours is faster | "
    head += "later epochs: samples, events per second | ours is faster"
    about = "One core, files in memory, the same batches. `cached`: with DiskCachedDataset; "
    about += "`spikingjelly`: its frames by number, compared with ours by number. "
    return table(head, rows, about + measured_on(lines))


def data_whole() -> str:
    """Frames of a set of N-Caltech101's size."""
    lines = [x for x in latest("data.jsonl", "case", "samples") if x["case"].startswith("whole")]
    made = [x for x in lines if x["case"] == "whole set, frames"]
    if not made:
        return NOT_MEASURED
    rows = [
        [
            f"{x['samples']:,}",
            f"{x['events'] / 1e6:,.0f} M",
            f"{x['seconds']:.1f}",
            f"{1e9 * x['seconds'] / x['events']:.1f}",
            f"{x['pass_seconds']:.1f}",
            f"{x['peak_bytes'] / 1e9:.1f}",
        ]
        for x in sorted(made, key=lambda x: x["samples"])
    ]
    head = "recordings | events | frames, s | ns per event | a pass over them, s | memory, GB"
    about = "".join(
        f"Training waits for data for {x['waiting']:.1%} of its steps, with a batch of "
        f"{x['batch']}, and takes {x['peak_bytes'] / 1e9:.1f} GB. "
        for x in lines
        if x["case"] == "whole set, training"
    )
    on = made[-1]
    about += f"{on['device']}, {on['threads']} thread, torch {on['torch']}, commit {on['commit']}."
    return table(head, rows, about)


def ranks() -> str:
    """A training step in several processes, beside one and beside DDP."""
    lines = latest("ranks.jsonl", "case", "processes")
    if not lines:
        return NOT_MEASURED
    rows = []
    for x in lines:
        times = (f"{1e3 * x[name]:.0f}" for name in ("alone", "together"))
        ratios = (f"{x['speedup']:.2f} x", f"{x['ddp_over_ours']:.2f} x")
        rows.append([f"{x['case']}, batch {x['batch']}", str(x["processes"]), *times, *ratios])
    head = (
        "network | processes | step of one process, ms | of all together, ms | faster | DDP / ours"
    )
    about = "One thread per process. DDP / ours: both with BatchNorm of each process. "
    return table(head, rows, about + measured_on(lines))


TABLES = {
    "ranks": ranks,
    "kinds": kinds,
    "recurrent": recurrent,
    "data": data,
    "data-whole": data_whole,
}
TABLES |= {"step": step, "ops": ops, "ksweep": ksweep, "gradients": gradients}
TABLES |= {"neurons": neurons}
