"""The table of what each precision costs in exactness, from the lines of precision.py."""

from tables_common import NOT_MEASURED, latest

from snndelay.runs.statistics import table

PARTS = {"highest": "3", "default": "2", "fast": "1", "TF32 convolution": "–"}


def precision() -> str:
    """Errors and flipped spikes of a layer: newest line of each precision."""
    lines = {x["precision"]: x for x in latest("precision.jsonl", "precision")}
    if set(lines) != set(PARTS):
        return NOT_MEASURED
    rows = []
    for name, parts in PARTS.items():
        x = lines[name]
        errors = ("error", "error_dx", "error_dweight", "error_dposition")
        cells = [f"{x[key]:.0e}" for key in errors] + [x["flipped"]]
        cells += [f"{x['evaluation_error']:.0e}", x["evaluation_flipped"]]
        shown = name if parts == "–" else f"`{name}`"
        rows.append([shown, parts, *cells])
    (x, *_) = lines.values()
    about = (
        f"T {x['T']}, B {x['B']}, {x['n']} x {x['n']} synapses, K {x['K']}; spikes of "
        f"{x['neuron_steps']:,} neuron-steps; errors relative to float64 (L2). Triton's "
        f"interpreter, which rounds sums to nearest, on {x['device']}, torch {x['torch']}, commit "
        f"{x['commit']}; the TF32 convolution is computed in float64 from rounded operands."
    )
    head = "precision | parts | currents | dx | dW | dP | flipped | evaluation | flipped"
    return table(head, rows, about)


TABLES = {"precision": precision}
