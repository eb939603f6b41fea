"""Training cost against the longest delay: forward and backward of one layer, T 1000, for K = 5 to
251 taps on every backend; a JSON line each, and docs/gallery/ksweep.png.

    python benchmarks/ksweep.py [--rounds 7] [--threads N] [--plot-only]

All backends alternate for each K. Lines are appended to benchmarks/results/ksweep.jsonl; the
picture shows the last line of every backend and K.
"""

import argparse
import json
from pathlib import Path

import matplotlib
import torch
from common import RESULTS, append

from snndelay.kernels import OPS, Shape
from snndelay.kernels.profile.measure import ceilings, where
from snndelay.kernels.profile.rows import measure

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "gallery" / "ksweep.png"
TAPS = (1, 5, 9, 15, 25, 63, 125, 251)
STYLES = {  # colour (Okabe and Ito) and label; the reference convolves directly
    "reference": ("#000000", "o-", "reference (direct)"),
    "fft": ("#0072B2", "s-", "fft"),
    "cpu": ("#009E73", "^-", "cpu"),
    "triton": ("#CC79A7", "v-", "triton"),
    "auto": ("#D55E00", "x--", "auto"),
}


def draw(lines: list[dict], path: Path) -> None:
    """Milliseconds per training pass against K, both axes logarithmic, one curve per backend."""
    latest = {(line["backend"], line["shape"]["K"]): line for line in lines if "forward" in line}
    figure, ax = plt.subplots(figsize=(7.5, 5), layout="constrained")
    for backend, (colour, style, label) in STYLES.items():
        points = sorted((K, line) for (b, K), line in latest.items() if b == backend)
        if points:
            ms = [1e3 * sum(p[w]["seconds"] for w in ("forward", "backward")) for _, p in points]
            ax.plot([K for K, _ in points], ms, style, color=colour, label=label, ms=5)
    line = next(iter(latest.values()))
    sizes = ", ".join(f"{k} {v}" for k, v in line["shape"].items() if k != "K")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(TAPS, [str(K) for K in TAPS])
    ax.minorticks_off()
    ax.set_xlabel("taps K (longest delay + 1, in steps)")
    ax.set_ylabel("forward + backward (ms)")
    ax.set_title(
        f"delay_linear, {sizes}\n{line['device']}, threads: {line['threads']}", fontsize=10
    )
    ax.grid(alpha=0.25)
    ax.legend()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    add = parser.add_argument
    add("--rounds", type=int, default=7, help="Take medians of this many alternating rounds.")
    add("--threads", type=int, help="Let torch and numba use this many CPU threads.")
    add("--batch", type=int, default=16, help="Samples per pass.")
    add("--taps", type=int, nargs="+", default=[*TAPS], help="Values of K.")
    add(
        "--out",
        type=Path,
        default=RESULTS / "ksweep.jsonl",
        help="Append JSON lines here.",
    )
    add("--picture", type=Path, default=PICTURE, help="Draw the plot here.")
    add("--plot-only", action="store_true", help="Draw the lines there are, measure nothing.")
    o = parser.parse_args()
    if o.threads:
        torch.set_num_threads(o.threads)
    if not o.plot_only:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        limit, here = ceilings(device), where(device)
        backends = [*OPS["delay_linear"].backends, "auto"]
        for K in o.taps:
            shape = Shape(T=1000, B=o.batch, C=256, N=256, K=K)
            lines = measure(
                "delay_linear", shape, backends, limit=limit, rounds=o.rounds, device=device
            )
            for line in lines:
                append(line | here, o.out)
                cost = line.get("cannot_run") or "{:.1f} ms".format(
                    1e3 * sum(line[w]["seconds"] for w in ("forward", "backward"))
                )
                print(f"K {K:3}  {line['backend']:10} {cost}", flush=True)
    draw([json.loads(line) for line in o.out.read_text().splitlines()], o.picture)
    print(o.picture)


if __name__ == "__main__":
    main()
