"""Times every op of ``OPS`` on every backend, forward and backward; one JSON line each.

    python benchmarks/ops.py [--repeats 7] [--threads N] [--out benchmarks/results/ops.jsonl]

The backends alternate within one process; a line holds the median and, against the reference, the
ratio of medians.
"""

import argparse
import json
import platform
import statistics
import subprocess
import time
from dataclasses import asdict
from pathlib import Path

import torch
from snndelay.kernels import OPS, Shape

SHAPES = {
    "shd": Shape(T=112, B=64, C=256, N=256, K=25),
    "ssc": Shape(T=115, B=32, C=512, N=512, K=31),
}


def measure(op: str, shape: Shape, backend: str) -> tuple[float, float]:
    """Seconds of one forward and one backward pass on random inputs, drawn outside the time."""
    inputs = OPS[op].inputs(shape, torch.Generator().manual_seed(0), torch.float32)
    inputs = [a.requires_grad_() if torch.is_tensor(a) else a for a in inputs]
    start = time.perf_counter()
    out = OPS[op].run(*inputs, backend=backend)
    forward = time.perf_counter() - start
    out = out if isinstance(out, tuple) else (out,)
    cotangents = [torch.randn_like(y) for y in out]
    start = time.perf_counter()
    torch.autograd.backward(out, cotangents)
    return forward, time.perf_counter() - start


def rows(repeats: int):
    for op in OPS:
        for name, shape in SHAPES.items():
            times = {b: [] for b in OPS[op].backends}
            for _ in range(repeats + 1):  # the first round warms up
                for backend in times:
                    times[backend].append(measure(op, shape, backend))
            medians = {
                b: [statistics.median(column) for column in zip(*t[1:], strict=True)]
                for b, t in times.items()
            }
            for backend, (forward, backward) in medians.items():
                yield {
                    "op": op,
                    "backend": backend,
                    "preset": name,
                    "shape": asdict(shape),
                    "forward_s": round(forward, 6),
                    "backward_s": round(backward, 6),
                    "reference_over_this": round(
                        sum(medians["reference"]) / (forward + backward), 3
                    ),
                    "gflop_per_s_forward": round(OPS[op].flop(shape) / forward / 1e9, 2),
                    "gbyte_per_s_forward": round(OPS[op].bytes(shape) / forward / 1e9, 2),
                    "repeats": repeats,
                }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--repeats", type=int, default=7, help="counted rounds")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ops.jsonl"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    where = {
        "device": f"CPU {platform.machine()}, {options.threads} threads",
        "torch": torch.__version__,
        "commit": commit.stdout.strip(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w") as file:
        for row in rows(options.repeats):
            file.write(json.dumps(row | where) + "\n")
            print(
                f"{row['op']:13} {row['preset']:4} {row['backend']:10} "
                f"{row['forward_s'] * 1e3:9.1f} ms forward "
                f"{row['backward_s'] * 1e3:9.1f} ms backward "
                f"{row['reference_over_this']:6.2f} x the reference"
            )


if __name__ == "__main__":
    main()
