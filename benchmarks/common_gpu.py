"""What the benchmarks of a GPU share: precisions, wall time, graphs; on a CPU the same calls run
eagerly.
"""

import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from snndelay.kernels.profile.measure import where

# precision: what torch lets matrix products do, and whether cuDNN may convolve in TF32; `default`
# is what a user gets who sets nothing
PRECISIONS = {
    "highest": ("highest", False),
    "default": ("highest", True),
    "fast": ("medium", True),
}


def set_precision(name: str) -> None:
    """Sets torch's own switches to a key of PRECISIONS."""
    products, tf32 = PRECISIONS[name]
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = tf32


@contextmanager
def exact() -> Iterator[None]:
    """Within, float32 means float32. cuDNN is off: besides TF32 it has algorithms for long kernels
    that lose more than a sum in another order does.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.enabled, cudnn.allow_tf32, torch.get_float32_matmul_precision()
    set_precision("highest")
    cudnn.enabled = False
    try:
        yield
    finally:
        cudnn.enabled, cudnn.allow_tf32, products = before
        torch.set_float32_matmul_precision(products)


def synchronize(device: torch.device) -> None:
    """Waits for the device; a CPU has always finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def wall(run: Callable[[], Any], device: torch.device, repeats: int = 1) -> float:
    """Seconds of a run on the clock at the wall, launches and all, the mean of some in a row."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    synchronize(device)
    return (time.perf_counter() - start) / repeats


def medians(
    runs: dict[Any, Callable[[], Any]], device: torch.device, rounds: int, repeats: int
) -> dict[Any, float]:
    """Median seconds of every run, all of them in turn, so many rounds of so many in a row."""
    times: dict[Any, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()  # compiles and warms up
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(wall(run, device, repeats))
    return {name: statistics.median(column) for name, column in times.items()}


def warm_up(
    run: Callable[[], Any], net: nn.Module, optimizers: Iterable = (), times: int = 3
) -> None:
    """Runs some times, then puts the network back to what it was and the optimizers to zeros, their
    state before the first step; in place, since a graph knows addresses.
    """
    kept = [*net.parameters(), *net.buffers()]
    before = [t.detach().clone() for t in kept]
    for _ in range(times):
        run()
    with torch.no_grad():
        for t, old in zip(kept, before, strict=True):
            t.copy_(old)
        for optimizer in optimizers:
            for state in optimizer.state.values():
                for value in state.values():
                    if torch.is_tensor(value):
                        value.zero_()


def captured(
    run: Callable[[], Any], net: nn.Module, optimizers: Iterable = ()
) -> Callable[[], Any]:
    """``run`` as one CUDA graph: a call replays it and returns what it returned, the same tensors
    every time. Network and optimizers are as before, see ``warm_up``. On a CPU ``run`` itself.
    """
    if not next(net.parameters()).is_cuda:
        warm_up(run, net, optimizers, 1)
        return run
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        warm_up(run, net, optimizers)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        result = run()

    def replay(inputs: object = run) -> Any:  # the graph reads the memory of what run holds
        graph.replay()
        return result

    return replay


@contextmanager
def without_waiting(device: torch.device) -> Iterator[None]:
    """Within, whatever waits for the device raises RuntimeError; on a CPU nothing waits."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.synchronize(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def here(device: torch.device, commit: str | None = None) -> dict:
    """Device, driver, threads, versions and commit, for a result line. commit: said by hand, for a
    copy without its history.
    """
    found = where(device) | {"driver": _driver() if device.type == "cuda" else None}
    return found | {"commit": found["commit"] or commit or "unknown"}


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    return out.splitlines()[0].strip() if out.strip() else None
