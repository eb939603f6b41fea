"""The scan of recurrent neurons against a torch loop over the steps with a ring of future currents,
as recurrent delays were published with (arXiv 2509.24852); same values, one process, alternating.

    python benchmarks/recurrent.py [--only axonal none synaptic] [--rounds 7] [--threads N]

Forward and backward, gradients of input, weights and taps. `loop` multiplies by the weights before
the ring, as published; `lean`, for axonal delays, after it, which is one product per step instead
of K. Before anything is timed all must give the same spikes and gradients. One JSON line per
measurement is appended to benchmarks/results/recurrent.jsonl.

Legend: T time steps, B batch, N neurons, K delay taps.
"""

import argparse
import statistics
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from common import RESULTS, append
from torch import Tensor

from snndelay.kernels import BACKENDS, NeuronOptions, recurrent_lif, spike
from snndelay.kernels.profile.measure import clock, where

TAU, ALPHA = 2.0, 5.0
CPU = torch.device("cpu")
SAME = 1e-3  # largest relative difference of gradients that count as equal


@dataclass(frozen=True)
class Case:
    """Sizes, and whether each synapse, each axon or nothing has a delay."""

    kind: str
    N: int
    B: int
    K: int
    T: int = 100


CASES = [
    *(Case("axonal", 256, B, K) for B, K in ((128, 15), (64, 25))),
    *(Case("none", 256, B, 1) for B in (128, 64)),
    Case("synaptic", 128, 128, 15),
]


def inputs(c: Case, sigma: float = 2.0) -> tuple[Tensor, Tensor, Tensor | None]:
    """Currents, weights and taps, all on a grid, so that sums are exact in any order and no spike
    differs. The taps are DelRec's triangles around random delays."""
    g = torch.Generator().manual_seed(0)
    x = (torch.randn(c.T, c.B, c.N, generator=g) * 48).round() / 64
    w = (torch.randn(c.N, c.N, generator=g) * 4).round() / 64
    if c.kind == "none":
        return x.requires_grad_(), w.requires_grad_(), None
    shape = (c.N,) if c.kind == "axonal" else (c.N, c.N)
    delay = torch.rand(*shape, generator=g).unsqueeze(-1) * (c.K - 1)
    step = torch.arange(c.K - 1, -1, -1)  # tap i delays by K - 1 - i
    taps = torch.relu(1 + sigma - (step - delay).abs()) / (1 + sigma) ** 2
    taps = (taps * 64).round() / 64
    return x.requires_grad_(), w.requires_grad_(), taps.requires_grad_()


def ours(c: Case, backend: str, x: Tensor, w: Tensor, taps: Tensor | None) -> Tensor:
    """Spikes of the op."""
    if c.kind == "synaptic":
        assert taps is not None
        w, taps = w.unsqueeze(2) * taps, None
    options = NeuronOptions(alpha=ALPHA)
    return recurrent_lif(x, w, taps, tau=TAU, options=options, backend=backend)[0]


def loop(c: Case, x_TBN: Tensor, w: Tensor, taps: Tensor | None, lean: bool = False) -> Tensor:
    """Spikes of a torch loop: a spike is spread over the next K steps, weighted, and added to the
    ring of the currents that are still to come. ``lean``: weighted when it is heard."""
    _, B, N = x_TBN.shape
    v, spikes = x_TBN.new_zeros(B, N), []
    spread = None if taps is None else taps.flip(-1)  # by delay
    ring, at, s = x_TBN.new_zeros(B, N, c.K), 0, v
    for x in x_TBN:
        heard = s if spread is None else ring[:, :, at]
        if spread is None or lean:  # autograd keeps what is multiplied, and the ring changes
            heard = heard.clone() @ w.T
        h = v * (1 - 1 / TAU) + x + heard
        s = spike(h - 1.0, "atan", ALPHA)
        v = h * (1 - s.detach())
        spikes.append(s)
        if spread is None:
            continue
        if c.kind == "synaptic":
            coming = torch.einsum("bm,nm,nmk->bnk", s, w, spread)
        else:
            coming = s.unsqueeze(2) * spread
            coming = coming if lean else w @ coming
        ring[:, :, at] = 0
        at = (at + 1) % c.K
        ring[:, :, at:] += coming[:, :, : c.K - at]
        ring[:, :, :at] += coming[:, :, c.K - at :]
    return torch.stack(spikes)


def passes(run, given: tuple, cotangent: Tensor) -> list[Tensor]:
    """Spikes and the gradients of all that is given."""
    s = run(*given)
    return [s, *torch.autograd.grad(s, [a for a in given if a is not None], cotangent)]


def compare(c: Case, backend: str, rounds: int) -> dict:
    """A result line. Exits with a sentence if the two are not the same."""
    given = inputs(c)
    cotangent = torch.randn(c.T, c.B, c.N, generator=torch.Generator().manual_seed(1))
    runs = {"ours": partial(ours, c, backend), "loop": partial(loop, c)}
    if c.kind == "axonal":
        runs["lean"] = partial(loop, c, lean=True)
    mine, *others = (passes(run, given, cotangent) for run in runs.values())
    for other in others:
        if wrong := int((mine[0] != other[0]).sum()):
            sys.exit(f"{c}: {wrong} spikes differ")
        for a, b in zip(mine[1:], other[1:], strict=True):
            if not (off := float((a - b).norm() / b.norm())) <= SAME:
                sys.exit(f"{c}: gradients differ by {off:.1e}")
    times: dict[str, list] = {who: [] for who in runs}
    forward: dict[str, list] = {who: [] for who in runs}
    for _ in range(rounds):
        for who, run in runs.items():
            times[who].append(clock(partial(passes, run, given, cotangent), CPU)[1])
            with torch.no_grad():
                forward[who].append(clock(partial(run, *given), CPU)[1])
    seconds = {who: statistics.median(column) for who, column in times.items()}
    alone = {who: statistics.median(column) for who, column in forward.items()}
    shape = {"T": c.T, "B": c.B, "N": c.N, "K": c.K}
    line = {"what": "recurrent scan", "kind": c.kind, **shape, "backend": backend, "rounds": rounds}
    line |= {"rate": float(mine[0].detach().mean()), "seconds": seconds, "evaluation": alone}
    times_as_fast = {f"{who}_over_ours": s / seconds["ours"] for who, s in seconds.items()}
    return line | {name: ratio for name, ratio in times_as_fast.items() if name != "ours_over_ours"}


def text(line: dict) -> str:
    """A result line as a sentence."""
    ours, *others = (
        f"{who} {s * 1e3:.1f} ms (without gradients {line['evaluation'][who] * 1e3:.1f})"
        for who, s in line["seconds"].items()
    )
    sizes = ", ".join(f"{name} {line[name]}" for name in "TBNK")
    return f"{line['kind']}, {sizes}, {line['rate']:.0%} spikes: {ours}; " + "; ".join(
        f"{text}, {line[f'{text.split()[0]}_over_ours']:.1f} times as long" for text in others
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    add = parser.add_argument
    kinds = sorted({c.kind for c in CASES})
    add("--only", nargs="+", choices=kinds, default=kinds, help="Run only these kinds of delays.")
    add("--rounds", type=int, default=7, help="Take medians of this many alternating rounds.")
    add("--threads", type=int, help="Let both use this many CPU threads.")
    add("--backend", choices=BACKENDS, default="auto", help="Run our op on this backend.")
    add("--out", type=Path, default=RESULTS / "recurrent.jsonl", help="Append JSON lines here.")
    o = parser.parse_args()
    if o.threads:
        torch.set_num_threads(o.threads)
    for c in CASES:
        if c.kind in o.only:
            line = compare(c, o.backend, o.rounds) | where(CPU)
            print(text(line), flush=True)
            append(line, o.out)


if __name__ == "__main__":
    main()
