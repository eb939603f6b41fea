"""`snndelay doctor`: what runs on this machine and why the rest does not, whether every op computes
what its reference says, and what lies in caches. What a report of a fault should hold.
"""

import os
import platform
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ..errors import BackendError, DoctorFound
from ..kernels import Shape
from ..kernels.ops import ROWS, learned, on
from ..kernels.profile.measure import device_name
from ..version import VERSION
from .look_text import size_words
from .workers import cores

PACKAGES = ("torch", "triton", "numba", "numpy", "h5py", "tonic", "spikingjelly", "dcls")
SHAPE = Shape(T=23, B=3, C=33, N=17, K=7)
WORST = 1e-4  # relative error of an output or a gradient in float32
FLIPPED = 1e-3  # part of the spikes that rounding may move


def doctor(root: str = "~/.cache/snndelay") -> None:
    """Print all of it. DoctorFound if an op that runs is wrong."""
    for title, lines in (
        ("versions", versions()),
        ("machine", machine()),
        ("caches", caches(Path(root).expanduser())),
    ):
        print(f"{title}\n" + "".join(f"  {line}\n" for line in lines), flush=True)
    print("backends, each against the reference, forward and backward")
    wrong = 0
    for device in devices():
        for op, row in ROWS.items():
            for backend in row.backends:
                text, good = tried(op, backend, device)
                wrong += not good
                print(f"  {op:20s}{backend:11s}{device.type:6s}{text}", flush=True)
    if wrong:
        raise DoctorFound(
            f"{wrong} backends compute something else than the reference: use --backend reference, "
            "and report all of the above"
        )
    print("\nevery backend that runs here computes what the reference says")


def versions() -> Iterator[str]:
    """A line for each package that matters."""
    yield f"snndelay {VERSION}, Python {platform.python_version()}, {platform.platform()}"
    for name in PACKAGES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            yield f"{name} is not installed"


def machine() -> Iterator[str]:
    """Processor, memory, GPUs."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    name, threads = device_name(torch.device("cpu")), torch.get_num_threads()
    yield f"{name}, {cores()} cores for this process, {threads} threads of torch"
    yield f"{size_words(memory)} of memory"
    if not torch.cuda.is_available():
        built = torch.version.cuda
        yield "no GPU: " + (
            f"torch for CUDA {built} sees none" if built else "this torch is for CPUs only"
        )
    for i in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(i)
        memory = size_words(p.total_memory)
        yield f"{p.name}, sm_{p.major}{p.minor}, {memory}, CUDA {torch.version.cuda}"


def caches(root: Path) -> Iterator[str]:
    """Where kernels, frames and data are kept, and how much of them."""
    places = {
        "frames of data sets": root / "frames",
        "data sets": root,
        "compiled kernels (numba)": Path(os.environ.get("NUMBA_CACHE_DIR", "")),
        "compiled kernels (Triton)": Path(
            os.environ.get("TRITON_CACHE_DIR", Path.home() / ".triton" / "cache")
        ),
    }
    for what, place in places.items():
        if place == Path():
            yield f"{what}: beside their sources, or where numba finds a place"
        else:
            files = [path for path in place.rglob("*") if path.is_file()] if place.is_dir() else []
            yield f"{what}: {place}, {size_words(sum(path.stat().st_size for path in files))}"


def devices() -> list[torch.device]:
    """The kinds of devices that are here."""
    return [torch.device("cpu"), *[torch.device("cuda")] * torch.cuda.is_available()]


def tried(op: str, backend: str, device: torch.device) -> tuple[str, bool]:
    """(how an op on random numbers compares with the reference in float64, whether that is well).
    Why it cannot run, if it cannot, is no fault."""
    row, started = ROWS[op], time.perf_counter()
    inputs = row.inputs(SHAPE, torch.Generator().manual_seed(0), torch.float32)
    try:
        got = _passes(op, on(device, inputs), backend)
    except BackendError as error:
        return str(error).split(": ", 1)[-1], True
    except Exception as error:
        return f"FAILED, {type(error).__name__}: {' '.join(str(error).split())[:200]}", False
    want = _passes(op, tree_map(_double, inputs), "reference")
    worst, text, flipped = max(map(_error, got[1:], want[1:]), default=0.0), "", 0.0
    if op.startswith(("lif", "delay_lif", "recurrent_lif")):
        flipped = (got[0].cpu().double() != want[0]).double().mean().item()
        text = f"{flipped:.1%} of the spikes differ, "
        worst = 0.0 if flipped else worst  # gradients of other spikes are others
    else:
        worst = max(worst, _error(got[0], want[0]))
    good, text = flipped <= FLIPPED and worst <= WORST, f"{text}relative error {worst:.0e}"
    seconds = time.perf_counter() - started
    return f"{'well' if good else 'WRONG'}, {text} ({seconds:.1f} s)", good


def _passes(op: str, inputs: tuple, backend: str) -> list[Tensor]:
    """The output of an op, and the gradients of all that it learns."""
    y = ROWS[op].run(*inputs, backend=backend)
    if ROWS[op].backward is None:
        return [y]
    g = torch.Generator().manual_seed(1)
    cotangent = torch.randn(y.shape, generator=g).to(y)
    return [y, *torch.autograd.grad(y, learned(inputs), cotangent, materialize_grads=True)]


def _double(a: Any) -> Any:
    if not isinstance(a, Tensor) or not a.is_floating_point():
        return a
    return a.detach().double().requires_grad_(a.requires_grad)


def _error(got: Tensor, want: Tensor) -> float:
    if want.norm() <= 1e-6 * want.numel() ** 0.5:  # what should be 0 has no relative error
        return 0.0
    return ((got.detach().cpu().double() - want).norm() / want.norm()).item()
