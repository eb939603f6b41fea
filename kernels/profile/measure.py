"""How the profile command and the benchmarks measure: time, memory, the machine's ceilings."""

import ctypes
import platform
import re
import subprocess
import time
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Ceilings(NamedTuple):
    """What a device can do at most, measured: bytes per second of a copy (read and written) and
    FLOP per second of a matrix product in ``dtype``.
    """

    bandwidth: float
    peak: float
    dtype: str

    def __str__(self) -> str:
        return (
            f"copy {self.bandwidth / 1e9:.4g} GB/s, "
            f"matmul {self.dtype} {self.peak / 1e9:.4g} GFLOP/s (both measured now)"
        )


def clock(run: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    """Result of ``run()`` and the seconds it took; on CUDA the device's time, launches excluded."""
    if device.type != "cuda":
        start = time.perf_counter()
        return run(), time.perf_counter() - start
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(4):  # empties the cache, and keeps the device busy while the launches queue up
        _flush(device).zero_()
    start.record()
    result = run()
    end.record()
    torch.cuda.synchronize(device)
    return result, start.elapsed_time(end) / 1e3


@cache
def _flush(device: torch.device) -> Tensor:
    return torch.empty(2**28, dtype=torch.int8, device=device)


def ceilings(device: torch.device, repeats: int = 7) -> Ceilings:
    """Measures the device: the fastest of some large copies and matrix products.

    The product is float32 on a CPU and bfloat16 on CUDA, where it runs on tensor cores.
    """
    cuda = device.type == "cuda"
    source = torch.ones(2**28 if cuda else 2**25, device=device)
    target = torch.empty_like(source)
    n, dtype = (8192, torch.bfloat16) if cuda else (2048, torch.float32)
    a = torch.randn(n, n, device=device).to(dtype)

    def fastest(run: Callable) -> float:
        return min(clock(run, device)[1] for _ in range(repeats))

    bandwidth = 2 * source.nbytes / fastest(lambda: target.copy_(source))
    peak = 2 * n**3 / fastest(lambda: a @ a)
    return Ceilings(bandwidth, peak, str(dtype).removeprefix("torch."))


def saved_bytes(run: Callable[[], Any], besides: tuple[Tensor, ...] = ()) -> int:
    """Bytes that ``run()`` keeps for its backward pass: distinct storages, those of ``besides``
    (parameters, say) left out.
    """
    kept: dict[int, Tensor] = {}  # holds the tensors, so that no address is used twice

    def pack(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        run()
    for x in besides:
        kept.pop(x.untyped_storage().data_ptr(), None)
    return sum(x.untyped_storage().nbytes() for x in kept.values())


def peak_bytes(run: Callable[[], Any], device: torch.device) -> int | None:
    """Most memory in use during ``run()`` beyond that before it; None where it cannot be told.

    CUDA: torch's allocator. CPU: resident memory of the process, known on Linux only.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    try:
        ctypes.CDLL(None).malloc_trim(0)  # else memory freed earlier would hide what is allocated
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the highest resident size
    except (OSError, AttributeError):
        return None
    run()
    return max(0, resident("VmHWM") - before)


def peak_allocated(run: Callable[[], Any]) -> int:
    """Like ``peak_bytes`` on a CPU, exact and the same every time: what torch allocates, and not
    what else the process holds.
    """
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as record:
        run()
    results = record.profiler and record.profiler.kineto_results
    assert results is not None
    events = [e for e in results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def resident(field: str) -> int:
    """Bytes of main memory of this process, on Linux: ``VmRSS`` now, ``VmHWM`` at most so far."""
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def device_name(device: torch.device) -> str:
    """What a device is called by whoever made it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return f"CPU {model[1] if model else platform.machine()}"


def where(device: torch.device) -> dict:
    """Device, threads, versions and commit, for a result line."""
    packages = ("torch", "triton", "numba")
    found = {"device": device_name(device), "threads": torch.get_num_threads()}
    return found | {p: _version(p) for p in packages} | {"commit": commit()}


def _version(package: str) -> str | None:
    try:
        return torch.__version__ if package == "torch" else version(package)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """Short hash of the checkout, with ``-dirty`` if anything but result files has changed; None
    where this file is not under version control.
    """

    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    try:
        if not git("ls-files", Path(__file__).name):  # installed, perhaps inside another checkout
            return None
    except OSError:  # no git
        return None
    changed = git("status", "--porcelain", "-uno", "--", ":/", ":(exclude,top)benchmarks/results")
    return git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")
