"""One row of the profile: an op on a shape, its backends and its peer in turn.

Legend: T time steps, B batch, C input channels, N neurons, K delay taps.
"""

import statistics
from collections.abc import Iterator
from dataclasses import asdict

import torch

from ...errors import BackendError
from ..dispatch import INTERPRETED
from ..ops import ROWS, Op, Shape, Work, learned, on
from .measure import Ceilings, clock, peak_bytes, saved_bytes
from .peers import PEERS, Peer

RUNS_PER_ROUND = {"cpu": 1, "cuda": 10}  # a kernel of microseconds needs more than a round's one
CPU = torch.device("cpu")


def _contender(name: str, row: str, inputs: tuple) -> Peer:
    """A backend of the row, or its peer, ready to run on the inputs."""
    if name == "peer":
        return PEERS[row](*inputs)
    return Peer(lambda: ROWS[row].run(*inputs, backend=name), learned(inputs), lambda: name)


def _once(c: Peer, device: torch.device) -> tuple[float, float | None]:
    """Seconds of one forward and one backward pass; None for an op without gradient."""
    y, forward = clock(c.run, device)
    if not y.requires_grad:
        return forward, None
    cotangent = torch.randn_like(y)
    return forward, clock(lambda: torch.autograd.grad(y, c.leaves, cotangent), device)[1]


def _first(c: Peer, device: torch.device) -> dict:
    """Runs twice, which compiles and warms up: memory of both passes."""
    saved = saved_bytes(c.run)
    return {"saved_bytes": saved, "peak_bytes": peak_bytes(lambda: _once(c, device), device)}


def _pass(op: Op, shape: Shape, work: Work, seconds: float, limit: Ceilings) -> dict:
    floor = work.floor_s(limit.bandwidth, limit.peak)
    return {
        "seconds": seconds,
        "floor_s": floor,
        "percent_of_floor": 100 * floor / seconds,
        "flop": work.flop,
        "bytes": work.bytes,
        "flop_per_s": work.flop / seconds,
        "neuron_steps_per_s": op.neuron_steps(shape) / seconds,
        "synaptic_operations_per_s": op.synaptic_operations(shape) / seconds,
    }


def _ready(row: str, name: str, inputs: tuple, device: torch.device) -> tuple[Peer, dict]:
    """A contender that is warm, and the memory it took; BackendError if it cannot run."""
    if name == "triton" and INTERPRETED:
        raise BackendError("Triton's interpreter is for correctness, its time means nothing")
    contender = _contender(name, row, inputs)
    return contender, _first(contender, device)


def _passes(op: Op, shape: Shape, times: list[tuple], limit: Ceilings) -> dict:
    """What each pass took, the median of its times."""
    forward, backward = zip(*times, strict=True)
    done = {"forward": _pass(op, shape, op.forward(shape), statistics.median(forward), limit)}
    if op.backward and None not in backward:
        work = op.backward(shape)
        done["backward"] = _pass(op, shape, work, statistics.median(backward), limit)
    return done


def measure(
    row: str,
    shape: Shape,
    names: list[str],
    *,
    limit: Ceilings,
    rounds: int = 7,
    device: torch.device = CPU,
) -> Iterator[dict]:
    """Measures the backends of one op, alternating, and yields a result line for each.

    Args:
        row: key of ``ops.ROWS``.
        shape: sizes.
        names: backends, ``auto`` or ``peer``.
        limit: the device's ceilings, from ``measure.ceilings``.
        rounds: counted rounds; the medians are reported.
        device: where.

    Yields:
        Time, floor, rates, memory and, for our backends, the peer's time over theirs; or, where a
        backend cannot run, ``cannot_run`` with the reason.
    """
    op = ROWS[row]
    inputs = on(device, op.inputs(shape, torch.Generator().manual_seed(0), torch.float32))
    lines = {name: {"op": row, "backend": name, "shape": asdict(shape)} for name in names}
    ready, memory = {}, {}
    for name in names:
        try:
            ready[name], memory[name] = _ready(row, name, inputs, device)
        except (BackendError, torch.OutOfMemoryError) as error:
            lines[name] |= {"cannot_run": " ".join(str(error).split())}
    times = {name: [] for name in ready}
    for _ in range(rounds * RUNS_PER_ROUND[device.type]):
        for name, contender in ready.items():
            times[name].append(_once(contender, device))
    for name, contender in ready.items():
        lines[name] |= _passes(op, shape, times[name], limit) | memory[name]
        lines[name] |= {"path": contender.path(), "rounds": rounds}
    for name in names:
        yield lines[name] | _ratios(lines[name], lines.get("peer", {}))


def _ratios(line: dict, rival: dict) -> dict:
    if line is rival or "forward" not in rival or "forward" not in line:
        return {}
    both = [p for p in ("forward", "backward") if p in line and p in rival]
    mine, other = (sum(x[p]["seconds"] for p in both) for x in (line, rival))
    ratios = {p: rival[p]["seconds"] / line[p]["seconds"] for p in both}
    return {"peer_over_this": ratios | {"both": other / mine}}
