"""Kernels run where their tensors lie, whichever device is current."""

from contextlib import contextmanager
from importlib import import_module

import pytest
import torch
from torch._subclasses import FakeTensorMode

from snndelay.kernels import Synapses, delay_integer, delay_linear, reference
from snndelay.kernels.registered import RUNS

pytest.importorskip("triton")

from snndelay.kernels.triton import events, scan
from snndelay.kernels.triton.device import on_its_device


@pytest.mark.parametrize(("device", "entered"), [("cuda:1", [1]), ("cuda:0", []), ("cpu", [])])
def test_another_device_becomes_the_current_one(monkeypatch, device, entered):
    found, inside = [], []

    @contextmanager
    def current(device):
        found.append(device.index)
        inside.append(device.index)
        yield
        inside.pop()

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device", current)
    with FakeTensorMode():
        x = torch.empty(3, device=device)
        run = on_its_device(lambda x, n, more=0: (len(x) + n + more, list(inside)))
        assert run(x, 4, more=5) == (12, entered)
    assert found == entered and not inside


def test_every_op_and_launcher_has_the_guard():
    for name in ("delay", "delay_integer", "delay_one_hot", "norm"):  # they register ops
        import_module(f"snndelay.kernels.triton.{name}")
    ops = {name: run for name, run in RUNS.items() if ".kernels.triton." in run.__module__}
    assert {"triton_delay_fwd", "triton_delay_one_hot", "triton_running"} <= set(ops)
    launchers = (scan.launch, events.event_words, events.latest, events.count_events)
    ops |= {run.__name__: run for run in launchers}
    assert not [name for name, run in ops.items() if not hasattr(run, "__wrapped__")]


@pytest.mark.gpu
def test_ops_on_a_second_gpu():
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    with torch.device("cuda:1"):
        x, w = (torch.rand(9, 2, 20) < 0.3).float(), torch.randn(1, 7, 20)
        synapses = Synapses(w, torch.zeros_like(w), torch.ones(()), 5)
        d = torch.randint(0, 5, (1, 7, 20), dtype=torch.int32)
    with torch.cuda.device(0):
        y = delay_linear(x, synapses, backend="triton")
        whole = delay_integer(x, w, d, 5, backend="triton")
    torch.testing.assert_close(y, reference.delay_linear(x, synapses), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(whole, reference.delay_integer(x, w, d, 5), rtol=1e-4, atol=1e-4)
