"""What each kind of delay costs beside a plain linear layer: a training step of one layer, alone
and as a block with BatchNorm, neurons and dropout, at the sizes of the SHD preset.

    python benchmarks/kinds.py [--rounds 9] [--threads N] [--device cuda]

A step is a forward and a backward pass with the gradients of weights, positions and, but for the
first layer, of the input. All kinds alternate. Appends a JSON line per kind and case to
benchmarks/results/kinds.jsonl and prints the ratios to the layer without delays.
"""

import argparse
import statistics
from pathlib import Path

import torch
from common import RESULTS, append

from snndelay import LIF, DelayLIF
from snndelay.delays import DELAY_KINDS
from snndelay.kernels.profile.measure import clock, where
from snndelay.runs.machine import keep_freed_memory

LAYERS = {"first layer": (140, 256, False), "hidden layer": (256, 256, True)}


def steps(T: int, B: int, K: int, name: str, block: bool, device: torch.device) -> dict:
    """Kind -> a call that takes one training step of a layer of that kind; `none`: no delays."""
    n_in, n_out, needs_input = LAYERS[name]
    torch.manual_seed(0)
    x_TBC = (torch.rand(T, B, n_in, device=device) < 0.1).float().requires_grad_(needs_input)
    g_TBN = torch.randn(T, B, n_out, device=device)
    found = {}
    for kind in ("none", *DELAY_KINDS):
        how = dict(delays="none") if kind == "none" else {}
        layer = DELAY_KINDS["axonal" if kind == "none" else kind](n_in, n_out, K, **how)
        if block:
            layer = DelayLIF(layer, LIF(n_out, 1.005), dropout=0.4)
        layer = layer.to(device)
        wanted = [p for p in layer.parameters() if p.requires_grad]
        wanted += [x_TBC] if needs_input else []

        def step(layer=layer, wanted=wanted):
            torch.autograd.grad(layer(x_TBC), wanted, g_TBN)

        found[kind] = step
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    add = parser.add_argument
    add("--rounds", type=int, default=9, help="Take medians of this many alternating rounds.")
    add("--threads", type=int, help="Let all use this many CPU threads.")
    add("--batch", type=int, default=256, help="Samples per step.")
    add("--taps", type=int, default=25, help="K.")
    add("--steps", type=int, default=100, help="Time steps.")
    add("--device", default="cpu", help="cpu or cuda.")
    add("--out", type=Path, default=RESULTS / "kinds.jsonl", help="Append JSON lines here.")
    o = parser.parse_args()
    if o.threads:
        torch.set_num_threads(o.threads)
    device = torch.device(o.device)
    keep_freed_memory()  # as train.py does
    for name in LAYERS:
        for block in (False, True):
            runs = steps(o.steps, o.batch, o.taps, name, block, device)
            times: dict[str, list[float]] = {kind: [] for kind in runs}
            for i in range(o.rounds + 2):
                for kind, step in runs.items():
                    seconds = clock(step, device)[1]
                    times[kind] += [seconds] if i >= 2 else []  # the first two compile and warm up
            plain = statistics.median(times["none"])
            for kind, found in times.items():
                seconds = statistics.median(found)
                line = dict(kind=kind, layer=name, block=block, T=o.steps, B=o.batch, K=o.taps)
                line |= dict(seconds=seconds, of_none=seconds / plain, rounds=o.rounds)
                append(line | where(device), o.out)
                what = "block" if block else "layer alone"
                print(
                    f"{name}, {what:11}  {kind:10} {1e3 * seconds:7.1f} ms, "
                    f"{seconds / plain:5.2f} x none",
                    flush=True,
                )


if __name__ == "__main__":
    main()
