"""The parts of benchmarks/gpu.py, each a generator of result lines, run in a process of its own:

    python benchmarks/gpu_parts.py PART --out FILE [--device cuda] [--commit TEXT]

On a CPU every part runs small, to be tested where there is no GPU. Legend as in step.py.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import gpu_runs
import gradients
import step
import torch
from common import append
from common_gpu import (
    PRECISIONS,
    captured,
    exact,
    here,
    medians,
    set_precision,
    warm_up,
    without_waiting,
)
from torch import Tensor

from snndelay import DelayNet, GraphedStep
from snndelay.errors import UserError
from snndelay.kernels import Shape
from snndelay.kernels.delay import triton_precision
from snndelay.kernels.ops import ROWS, learned, on
from snndelay.kernels.profile import peers
from snndelay.kernels.profile.measure import ceilings, peak_allocated, peak_bytes
from snndelay.kernels.profile.rows import measure
from snndelay.losses import softmax_sum
from snndelay.recorded import Graphed

_TINY = {"n_in": 9, "n_hidden": 17, "n_out": 4}
CASES = {
    "cuda": step.CASES,
    "cpu": {"shd": step.Case("shd", 12, {"cpu": 3}, 0.5, _TINY | {"max_delay_steps": 5})},
}
ODD = Shape(T=37, B=5, C=33, N=70, K=9)
SHAPES = {  # of a hidden layer, as in step.CASES
    "cuda": {
        "shd": Shape(T=100, B=256),
        "ssc": Shape(T=100, B=128, C=512, N=512, K=31),
        "2ms": Shape(T=500, B=64, K=125),
    },
    "cpu": {"shd": ODD},
}
TIMED = ("delay_linear", "delay_integer", "lif", "delay_lif", "readout")
SPIKING = [row for row in ROWS if "lif" in row]
# largest relative error against the reference of (values, gradients), by precision
LIMITS = {"highest": (1e-5, 1e-4), "default": (1e-4, 1e-3), "fast": (2e-2, 5e-2)}
FLIPPED = 1e-4  # of all places: spikes that rounding may move
ROUNDS = {"cuda": (5, 10), "cpu": (1, 1)}  # rounds, runs in a row
SLTT = {"cuda": (10, 64, 48), "cpu": (3, 2, 32)}  # T, B, pixels
MODES = ("bptt", "sltt", "sltt, K = 2")


class Wrong(Exception):
    """A part measured, and what it found is not right."""


# -- correctness ---


def correctness(device: torch.device) -> Iterator[dict]:
    """Every op's compiled backend against the reference, values and gradients."""
    backend = {"cuda": "triton", "cpu": "cpu"}[device.type]
    wrong = []
    for row in ROWS:
        if backend not in ROWS[row].backends:
            continue
        shapes = {ODD} if row in SPIKING else {ODD, *SHAPES[device.type].values()}
        for shape in sorted(shapes, key=lambda s: s.M):
            for precision in PRECISIONS if row == "delay_linear" else ("highest",):
                line = _compared(row, shape, backend, precision, device)
                wrong += [] if line["right"] else [f"{row} {line['shape']} at {precision}"]
                yield line
    if wrong:
        raise Wrong(f"differs from the reference: {'; '.join(wrong)}")


def _compared(row: str, shape: Shape, backend: str, precision: str, device: torch.device) -> dict:
    inputs = on(device, ROWS[row].inputs(shape, torch.Generator().manual_seed(0), torch.float32))
    with exact():
        want = _passes(row, inputs, "reference")
        set_precision(precision)
        got = _passes(row, inputs, backend)
    value, *gradients_ = (_error(a, b) for a, b in zip(got, want, strict=True))
    flipped = float((got[0] != want[0]).double().mean()) if row in SPIKING else 0.0
    most, most_gradient = LIMITS[precision]
    right = flipped <= FLIPPED if row in SPIKING else value <= most
    if not flipped:  # else the two are gradients of different runs
        right = right and all(e <= most_gradient for e in gradients_)
    line = {"op": row, "backend": backend, "precision": precision, "shape": vars(shape)}
    line |= {"error": value, "gradient_error": max(gradients_, default=None)}
    return line | {"flipped": flipped, "right": bool(right)}


def _passes(row: str, inputs: tuple, backend: str) -> list[Tensor]:
    """The value of an op and the gradients of what it learns for a random cotangent."""
    y = ROWS[row].run(*inputs, backend=backend)
    if not y.requires_grad:
        return [y]
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.device)
    return [y.detach(), *torch.autograd.grad(y, learned(inputs), cotangent)]


def _error(got: Tensor, want: Tensor) -> float:
    got, want = got.double(), want.double()
    return float((got - want).norm() / want.norm().clamp_min(1e-30))


# -- steps ---


def steps(device: torch.device) -> Iterator[dict]:
    """The step table: every case eager beside the peer, then as one graph; training, evaluation."""
    for name, case in CASES[device.type].items():
        yield from _case(name, case, device)


def _case(name: str, case: step.Case, device: torch.device) -> Iterator[dict]:
    net = step.network(case, "auto", device)
    x_TBC, label_B = step.clips(case, net, device)
    shown = step.about(name, case, net, x_TBC)
    rival, same = _rival(case, net, x_TBC, label_B)
    if rival is None:
        yield shown | {"how": "peer", "cannot_run": same}
    nets = {"ours": net} | ({"peer": rival} if rival else {})
    adams = {who: step.optimizers(n) for who, n in nets.items()}

    def train(who: str = "ours") -> Tensor:
        return step.train_step(nets[who], adams[who], x_TBC, label_B)

    @torch.no_grad()
    def evaluate(who: str = "ours") -> Tensor:
        return nets[who](x_TBC)

    def recorded_train() -> Callable:
        return partial(GraphedStep(net, adams["ours"], softmax_sum), x_TBC, label_B)

    def recorded_evaluate() -> Callable:
        graphed = Graphed(lambda x: (net(x),), device)
        return torch.no_grad()(partial(graphed, x_TBC))

    kinds = (train, recorded_train), (evaluate, recorded_evaluate)
    for what, runs in zip(("training step", "evaluation"), kinds, strict=True):
        if what == "evaluation":
            step.evaluating(net, rival)
        for line in _timed(*runs, rival is not None, device):
            if line["how"] == "peer":
                line |= {"path": step.peer_path(device), "loss_difference": same[what]}
            yield shown | {"what": what} | line


def _rival(
    case: step.Case, net: DelayNet, x_TBC: Tensor, label_B: Tensor
) -> tuple[step.PeerNet, dict] | tuple[None, str]:
    """The peer and how far its losses differ from ours, or None and why it cannot compete."""
    if why := peers.missing():
        return None, why
    try:
        same = step.difference(case, "auto", x_TBC, label_B)
        rival = step.PeerNet(net).to(x_TBC.device)
        softmax_sum(rival(x_TBC), label_B).backward()
    except (torch.OutOfMemoryError, SystemExit) as error:  # too large, or another network
        return None, " ".join(str(error).split())
    return rival, same


def _timed(
    run: Callable, recorded: Callable, with_peer: bool, device: torch.device
) -> Iterator[dict]:
    """Lines of one kind of step: eager at every precision and the peer alternate, then graphs, of
    which ``recorded`` makes one.
    """

    def at(precision: str, who: str = "ours") -> Callable:
        def eager() -> None:
            set_precision(precision)
            run(who)

        return eager

    runs = {("eager", p): at(p) for p in PRECISIONS}
    if with_peer:
        runs["peer", "default"] = at("default", "peer")
    rounds, repeats = ROUNDS[device.type]
    found = medians(runs, device, rounds, repeats)
    for (how, precision), seconds in found.items():
        peak = peak_bytes(runs[how, precision], device)
        line = {"how": how, "precision": precision, "seconds": seconds, "peak_bytes": peak}
        line |= {} if how == "peer" else {"of_delays": triton_precision()}
        yield line | {"rounds": rounds, "repeats": repeats}
    if device.type != "cuda":
        return
    graphs = {}
    for precision in PRECISIONS:
        set_precision(precision)
        graphs[precision] = recorded()
        try:
            for _ in range(3):  # as it is, recorded, replayed
                graphs[precision]()
        except RuntimeError as error:  # the eager figures of the next case are worth having
            del graphs[precision]
            reason = " ".join(str(error).split())
            yield {"how": "graph", "precision": precision, "cannot_run": reason}
    for precision, seconds in medians(graphs, device, rounds, 2 * repeats).items():
        line = {"how": "graph", "precision": precision, "seconds": seconds}
        yield line | {"rounds": rounds, "repeats": 2 * repeats}


# -- capture ---


def capture(device: torch.device) -> Iterator[dict]:
    """Training steps replayed from a graph against eager ones, nothing waiting for the device."""
    different = []
    for name, case in CASES[device.type].items():
        eager, graph = (_trained(case, how, device) for how in ("eager", "graph"))
        equal = all(torch.equal(a, b) for a, b in zip(eager, graph, strict=True))
        error = max(_error(a, b) for a, b in zip(graph, eager, strict=True))
        different += [] if equal else [f"{name} by {error:.1e}"]
        yield {"case": name, "equal": equal, "error": error, "eager_waits": _waits(case, device)}
    if different:
        raise Wrong(f"a replayed step differs from an eager one: {', '.join(different)}")


def _training(case: step.Case, device: torch.device) -> tuple[DelayNet, list, Callable]:
    """A network, its optimizers and a call that trains it one step."""
    net = step.network(case, "auto", device)
    adams, batch = step.optimizers(net), step.clips(case, net, device)
    return net, adams, lambda: step.train_step(net, adams, *batch)


def _trained(case: step.Case, how: str, device: torch.device, n: int = 5) -> list[Tensor]:
    """Parameters, buffers and losses after some steps, from a graph without waiting."""
    net, adams, run = _training(case, device)
    if how == "graph":
        run = captured(run, net, adams)
    else:
        warm_up(run, net, adams)
    losses = []
    with without_waiting(device) if how == "graph" else nullcontext():
        for seed in range(n):
            torch.manual_seed(seed)  # dropout
            losses.append(run().clone())
    return [t.detach() for t in (*net.parameters(), *net.buffers(), *losses)]


def _waits(case: step.Case, device: torch.device) -> str | None:
    """What an eager step waits for, if it does."""
    net, adams, run = _training(case, device)
    warm_up(run, net, adams)
    try:
        with without_waiting(device):
            run()
    except RuntimeError as error:
        return " ".join(str(error).split())
    return None


# -- conv nets ---


def sltt(device: torch.device) -> Iterator[dict]:
    """Time and memory of the temporal gradients on VGG11: eager, as one graph of all steps, and
    step by step as a graph of one."""
    T, B, size = SLTT[device.type]
    made = {m: gradients.training_step(m, T, B, size, device, False) for m in MODES}
    runs: dict[tuple, Callable] = {("eager", mode): run for mode, (_, run) in made.items()}
    peak = partial(peak_bytes, device=device) if device.type == "cuda" else peak_allocated
    memory, reserved = {}, {}
    for mode in MODES if device.type == "cuda" else ():
        if mode != "bptt":
            torch.cuda.empty_cache()
            before = torch.cuda.memory_reserved()
            recorded = gradients.training_step(mode, T, B, size, device, False, graph=True)
            runs["step graph", mode] = recorded[1]
            torch.cuda.empty_cache()  # what is left is the net, its gradients and the graphs
            reserved[mode] = torch.cuda.memory_reserved() - before
    for key, run in runs.items():
        run()  # compiles and warms up
        memory[key] = peak(run)
    shown = {"network": "vgg11", "T": T, "B": B, "size": size, "rounds": ROUNDS[device.type][0]}
    for mode, (net, run) in made.items() if device.type == "cuda" else ():
        if "K" in mode:  # a graph of all steps would learn from the same ones for ever
            continue
        try:
            runs["graph", mode] = captured(run, net)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            yield {"how": "graph", "mode": mode, **shown, "cannot_run": reason}
    seconds = medians(runs, device, shown["rounds"], 1)
    for (how, mode), time in seconds.items():
        line = {"how": how, "mode": mode, **shown, "seconds": time}
        line |= {"peak_bytes": memory[how, mode]} if how == "eager" else {}
        line |= {"reserved_bytes": reserved[mode]} if how == "step graph" else {}
        full = seconds.get(("eager" if how == "eager" else "graph", "bptt"))
        yield line | {"of_bptt": full and time / full}


# -- ops ---


def ops(device: torch.device) -> Iterator[dict]:
    """Time of every op on a hidden layer, and how far it is from the device's limits."""
    set_precision("default")
    limit = ceilings(device)
    for name, shape in SHAPES[device.type].items():
        for row in TIMED:
            names = [b for b in ROWS[row].backends if b not in ("reference", "cpu")]
            names = names if device.type == "cuda" else ["auto"]
            names += ["peer"] if row in peers.PEERS and not peers.missing() else []
            for line in measure(row, shape, names, limit=limit, rounds=2, device=device):
                yield {"preset": name, **line, "ceilings": limit._asdict()}


# -- the command of one part ---

PARTS = {
    "correctness": correctness,
    "capture": capture,
    "step": steps,
    "sltt": sltt,
    "speedrun": gpu_runs.race,
    "wait": gpu_runs.wait,
    "ops": ops,
}


def brief(line: dict) -> str:
    """The short values of a result line."""
    shown = []
    for name, value in line.items():
        if isinstance(value, float):
            shown.append(f"{name} {value:.4g}")
        elif isinstance(value, str | int) or value is None:
            shown.append(f"{name} {value}")
    return ", ".join(shown)


def record(part: str, lines: Iterable[dict], about: dict, out: Path) -> None:
    """Appends the lines of a part to a file as they come."""
    for line in lines:
        append({"part": part} | line | about, out)
        print(f"{part}: {brief(line)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--commit", help="Say this in the lines where git cannot.")
    parser.add_argument("--out", type=Path, required=True, help="Append JSON lines here.")
    o = parser.parse_args()
    device = torch.device(o.device)
    if o.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch sees no CUDA device: use --device cpu")
    if o.device == "cpu":
        torch.set_num_threads(1)  # so small that threads would only wait for each other
    try:
        record(o.part, PARTS[o.part](device), here(device, o.commit), o.out)
    except (Wrong, UserError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
