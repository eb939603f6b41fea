"""What each temporal gradient costs: peak memory and time of a training step on spiking VGG11.

    python benchmarks/gradients.py [--steps 10 20 100] [--batch 2] [--rounds 5] [--device cuda]
        [--bf16]

Memory is what a step (forward and backward) holds at most beyond what was there before: weights,
their gradients and the frames of all steps. On a CPU it is what torch allocates, counted exactly.
Rounds of timing go through all modes in turn; 0: no timing. Appends one JSON line per mode and
number of steps to benchmarks/results/gradients.jsonl and prints the ratios.
"""

import argparse
import statistics
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from common import RESULTS, append

from snndelay import ConvNet, StepGraphs, backward, recompute_, set_temporal_gradient
from snndelay.kernels.profile.measure import clock, peak_allocated, peak_bytes, where
from snndelay.runs.machine import keep_freed_memory

MODES = {  # name: temporal gradient, K, whether blocks are recomputed
    "bptt": ("bptt", None, False),
    "bptt, recomputed": ("bptt", None, True),
    "detach_state": ("detach_state", None, False),
    "sltt": ("sltt", None, False),
    "sltt, K = 2": ("sltt", 2, False),
}


def training_step(mode: str, n_steps: int, batch: int, size: int, device, bf16: bool, graph=False):
    """A network and a call that runs it forward and backward once, step by step as graphs that are
    recorded if so wanted; both of DVS-CIFAR10 in Meng et al. 2023 (arXiv 2302.14311)."""
    gradient, K, recomputed = MODES[mode]
    torch.manual_seed(0)
    neuron = dict(tau=1.1, v_threshold=1.0, decay_input=False, surrogate="triangle", alpha=None)
    neuron |= dict(reset="soft", dropout=0.3)
    net = ConvNet("vgg11", 10, (size, size), n_steps, **neuron).to(device)
    set_temporal_gradient(net, gradient)
    if recomputed:
        recompute_(net)
    for p in net.parameters() if not graph else ():
        p.grad = torch.zeros_like(p)
    x = torch.poisson(torch.full((n_steps, batch, 2, size, size), 0.3)).to(device)
    graphs = StepGraphs(net, graph=True) if graph else None
    label, draws = torch.arange(batch, device=device) % 10, np.random.default_rng(0)

    def run(x, label, state):
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            o_TBN, _, state = net.scan(x, state)
        o_TBN = o_TBN.float().flatten(0, 1)
        loss = F.cross_entropy(o_TBN, label.repeat(len(o_TBN) // batch), reduction="sum")
        return loss / (batch * n_steps), None, state

    how = dict(gradient=gradient, backward_steps=K, generator=draws, graphs=graphs)

    def step():
        return backward(run, [x], [label], **how)

    kinds = 2 if K is None else 4  # of steps: the first or a later one, with gradient or without
    while graphs is not None and graphs.n_graphs < kinds:
        step()
    return net, step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--steps", nargs="+", type=int, default=[10, 20, 100])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--out", type=Path, default=RESULTS / "gradients.jsonl")
    o = parser.parse_args()
    device = torch.device(o.device)
    keep_freed_memory()  # as train.py does
    settings = dict(network="vgg11", batch=o.batch, size=o.size, bf16=o.bf16, **where(device))
    lines = {}
    for n_steps in o.steps:
        runs = {
            mode: training_step(mode, n_steps, o.batch, o.size, device, o.bf16)[1]
            for mode in o.modes
        }
        for mode, step in runs.items():
            step()  # compiles and warms up
            peak = peak_bytes(step, device) if device.type == "cuda" else peak_allocated(step)
            lines[mode, n_steps] = dict(
                mode=mode, n_steps=n_steps, peak_bytes=peak, rounds=o.rounds
            )
        for _ in range(o.rounds):
            for mode, step in runs.items():
                lines[mode, n_steps].setdefault("seconds", []).append(clock(step, device)[1])
        for mode in runs:
            line = lines[mode, n_steps]
            append(line | settings, o.out)
            show(line, lines.get(("bptt", n_steps)), lines.get((mode, o.steps[0])))


def show(line: dict, full: dict | None, first: dict) -> None:
    """One row: figures, and their ratios to full backpropagation and to the fewest steps."""
    row = f"T {line['n_steps']:4}  {line['mode']:18}  peak {line['peak_bytes'] / 1e6:8.1f} MB"
    row += f", {line['peak_bytes'] / first['peak_bytes']:5.3f} x T {first['n_steps']}"
    if full:
        row += f", {line['peak_bytes'] / full['peak_bytes']:5.3f} x bptt"
    if times := line.get("seconds"):
        time = statistics.median(times)
        row += f"; {time / line['n_steps'] * 1e3:7.1f} ms per step"
        row += f", {time / statistics.median(full['seconds']):5.3f} x bptt" if full else ""
    print(row, flush=True)


if __name__ == "__main__":
    main()
