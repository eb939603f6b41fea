"""Shared helpers: comparisons whose message shows the worst element."""

import os
import signal

import pytest
import torch
from torch import Tensor

if not torch.cuda.is_available():  # read once by triton and kernels.dispatch, so set before both
    os.environ["TRITON_INTERPRET"] = "1"
else:  # read once by torch: cuBLAS runs in deterministic mode, which tests turn on, only with it
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

from .faults.table import Table
from .helpers_training import write_tiny

EXPECTED = (
    # tests evaluate layers that were never trained; test_learning.py checks the warning itself
    "ignore::snndelay.errors.WidthWarning",
    # torch says these once in a process, so as errors they would fail whichever test comes first:
    # the debug mode is new, and autograd's thread calls cuBLAS or cuFFT before any kernel
    "ignore:Synchronization debug mode is a prototype",
    "ignore:Attempting to run cu",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """A place for the table of `pytest -m faults`."""
    parser.addoption("--trust", metavar="FILE", help="append what `-m faults` counts as JSON lines")


def pytest_configure(config: pytest.Config) -> None:
    """Not in pyproject.toml: pytest would import the package before the variable above is set."""
    # a shell's background is deaf to Ctrl-C, nohup to SIGHUP, and so are programs of the tests
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    for line in EXPECTED:
        config.addinivalue_line("filterwarnings", line)
    config.pluginmanager.register(Table(config.getoption("--trust")), "trust")


def assert_close(got: Tensor, want: Tensor, rel: float, what: str) -> None:
    """Relative L2 error of ``got`` at most ``rel``; the message names the worst element."""
    assert got.shape == want.shape, f"{what}: shape {tuple(got.shape)}, not {tuple(want.shape)}"
    got, want = got.detach().double(), want.detach().double()
    assert got.isfinite().all(), f"{what}: not finite"
    error = (got - want).norm() / want.norm().clamp_min(1e-30)
    i = int((got - want).abs().argmax())
    assert error <= rel, (
        f"{what}: relative L2 error {error:.2e} > {rel:.0e}, worst at {i}: "
        f"{got.flatten()[i]} instead of {want.flatten()[i]}"
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Paths of a tiny training file and a tiny test file in SHD's layout."""
    folder = tmp_path_factory.mktemp("data")
    return write_tiny(folder / "train.h5", 12), write_tiny(folder / "test.h5", 6, seed=1)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
