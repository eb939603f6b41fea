"""`snndelay profile`, also `python -m snndelay.kernels.profile`: what every op costs on every
backend, how far that is from the machine's limit, and how it compares with what one would otherwise
use.

Legend: T time steps, B batch, C input channels, N neurons, K delay taps.
"""

import argparse
import difflib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

import torch

from ...errors import ProfileError
from ..dispatch import BACKENDS
from ..ops import ROWS, Shape
from .measure import Ceilings, ceilings, where
from .peers import PEERS, missing
from .rows import measure

SHAPES = {
    "shd-in": Shape(T=100, B=64, C=140, N=256, K=25),
    "shd": Shape(T=100, B=64, C=256, N=256, K=25),
    "ssc": Shape(T=100, B=32, C=512, N=512, K=31),  # gsc has the same layers
    "2ms": Shape(T=500, B=16, C=256, N=256, K=125),
}
Plot = Callable[[list[dict], Path], None]

# -- text ---

HEAD = (
    f"{'op':15}{'backend':11}{'pass':9}{'time ms':>9}{'floor ms':>10}{'of floor':>9}"
    f"{'GFLOP':>8}{'MB':>8}{'Mneuron/s':>11}{'Gsyn/s':>8}{'peak MB':>9}{'saved MB':>9}"
)


def text(line: dict) -> str:
    """A result line as a line of the printed table for each pass."""
    start = f"{line['op']:15}{line['backend']:11}"
    if "cannot_run" in line:
        return f"{start}cannot run: {line['cannot_run']}"
    out = []
    for name in ("forward", "backward"):
        if name not in line:
            continue
        p = line[name]
        memory = ""
        if name == "forward":
            peak = line["peak_bytes"]
            memory = f"{'?' if peak is None else f'{peak / 1e6:.1f}':>9}"
            memory += f"{line['saved_bytes'] / 1e6:9.1f}"
        ratio = line.get("peer_over_this", {}).get(name)
        out.append(
            f"{start}{name:9}{p['seconds'] * 1e3:9.3f}{p['floor_s'] * 1e3:10.3f}"
            f"{p['percent_of_floor']:8.1f}%{p['flop'] / 1e9:8.3f}{p['bytes'] / 1e6:8.1f}"
            f"{p['neuron_steps_per_s'] / 1e6:11.1f}{p['synaptic_operations_per_s'] / 1e9:8.2f}"
            f"{memory}" + (f"   peer / this {ratio:.2f}" if ratio else "")
        )
        start = " " * len(start)
    if line["backend"] == "peer":
        out[0] += f"   {line['path']}"
    return "\n".join(out)


# -- command line ---


ABOUT = """Times every op on every backend, forward and backward, in alternating rounds. The floor
is the longer of bytes over the bandwidth of a copy and FLOP over the speed of a matrix product,
both measured at the start; bytes and FLOP are those of the direct algorithm with nothing stored
between input and output, so the frequency domain, which does fewer operations, can pass 100 %."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise ProfileError(message)


def parser(prog: str, plot: bool) -> argparse.ArgumentParser:
    """Options of the command; ``--plot`` only where there is something that draws."""
    p = _Parser(prog, description=ABOUT, allow_abbrev=False, add_help=False)
    add = p.add_argument
    add("--ops", nargs="+", metavar="OP", help="Measure only these ops, such as lif or lif:adlif.")
    add("--backends", nargs="+", metavar="NAME", help="Measure only these backends.")
    add("--preset", nargs="+", metavar="NAME", help=f"Layers to measure: {', '.join(SHAPES)}.")
    add("--shape", metavar="T=..,B=..", help="Measure one shape instead; omitted letters as shd.")
    add("--rounds", type=int, default=7, help="Take medians of this many alternating rounds (7).")
    add("--threads", type=int, help="Let torch and numba use this many CPU threads.")
    add("--device", default="auto", help="Run on cpu or cuda; auto takes CUDA if there is one.")
    add("--compare", action="store_true", help="Alternate with Dcls1d and SpikingJelly.")
    add("--out", type=Path, metavar="FILE", help="Append one JSON line per op, backend and shape.")
    if plot:
        add("--plot", type=Path, metavar="FILE.png", help="Draw a roofline of all that was run.")
    add("--help", "-h", action="store_true", help="Print this text.")
    return p


def parse_shape(given: str) -> Shape:
    """``T=500,B=16`` -> Shape; ProfileError if it is none."""
    names = [f.name for f in fields(Shape)]
    sizes = {}
    for part in given.split(","):
        name, _, value = part.partition("=")
        if name not in names or not value.isdecimal() or int(value) < 1:
            raise ProfileError(
                f"shape {given!r} is not like T=100,B=64,C=256,N=256,K=25: change {part!r}"
            )
        sizes[name] = int(value)
    return Shape(**sizes)


def _known(kind: str, given: list[str] | None, choices: list[str]) -> list[str] | None:
    for word in given or ():
        if word not in choices:
            close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(choices)}"
            raise ProfileError(f"unknown {kind} {word!r}: {hint}")
    return given


def _device(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise ProfileError(f"unknown device {name!r}: choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ProfileError("device is cuda, but torch sees no CUDA device: use --device cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _shapes(o: argparse.Namespace) -> dict[str, Shape]:
    if o.shape and o.preset:
        raise ProfileError("both --shape and --preset are given: leave one out")
    if o.shape:
        return {"shape": parse_shape(o.shape)}
    return {name: SHAPES[name] for name in _known("preset", o.preset, [*SHAPES]) or SHAPES}


def _check(o: argparse.Namespace, drawing: bool) -> None:
    """ProfileError for the first option that cannot work, before anything is measured."""
    _known("op", o.ops, [*ROWS])
    _known("backend", o.backends, [*BACKENDS])
    if o.rounds < 1 or (o.threads or 1) < 1:
        raise ProfileError("--rounds and --threads are at least 1")
    if o.compare and missing():
        raise ProfileError(f"cannot compare: {missing()}")
    for path in filter(None, (o.out, o.plot if drawing else None)):
        if not path.parent.is_dir():
            raise ProfileError(f"there is no folder {path.parent} for {path.name}: make it first")


def _lines(o: argparse.Namespace, name: str, shape: Shape, limit: Ceilings, device: torch.device):
    """The result lines of one shape."""
    for row in o.ops or ROWS:
        rivals = ["peer"] if o.compare and row in PEERS else []
        names = [*(o.backends or ROWS[row].backends), *rivals]
        for line in measure(row, shape, names, limit=limit, rounds=o.rounds, device=device):
            yield line | {"preset": name, "ceilings": limit._asdict()}


def profile(argv: list[str], draw: Plot | None = None, prog: str = "snndelay profile") -> None:
    """Runs the command: prints a table, appends JSON lines, draws the roofline.

    Args:
        argv: options, see ``parser``.
        draw: what makes the picture of ``--plot`` from the result lines.
        prog: the command's name in its help.

    Raises:
        ProfileError: an option cannot work.
    """
    options = parser(prog, draw is not None)
    o = options.parse_args(argv)
    if o.help:
        return print(options.format_help())
    _check(o, draw is not None)
    shapes, device = _shapes(o), _device(o.device)
    if o.threads:
        torch.set_num_threads(o.threads)
    limit, here = ceilings(device), where(device)
    print(f"{here['device']}, {here['threads']} threads, torch {here['torch']}; {limit}")
    lines = []
    for name, shape in shapes.items():
        print(f"\n{name}: {', '.join(f'{k} {v}' for k, v in asdict(shape).items())}\n{HEAD}")
        for line in _lines(o, name, shape, limit, device):
            lines.append(line | here)
            print(text(line), flush=True)
            if o.out:
                with o.out.open("a") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
    if draw and o.plot:
        draw(lines, o.plot)
        print(f"\n{o.plot}")


def main(argv: list[str] | None = None) -> int:
    """`python -m snndelay.kernels.profile`; returns the exit code."""
    try:
        profile(sys.argv[1:] if argv is None else argv, prog="python -m snndelay.kernels.profile")
    except (ProfileError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
