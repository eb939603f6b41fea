"""How much a training step of the published network sends to a GPU."""

import pytest
import torch

from snndelay.delay_net import DelayNet
from snndelay.kernels.precision import triton_precision
from snndelay.losses import softmax_sum

from ..helpers import DEVICE
from .launches import counted

MOST = 52  # of which a fused Adam takes two for each of its two optimizers
ADAM = 4  # the fused update, and the count of steps


@pytest.fixture(params=["highest", "default", "fast"])
def precision(request):
    """Of the delays, by torch's switches."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = request.param != "highest"
    torch.set_float32_matmul_precision("medium" if request.param == "fast" else "highest")
    assert triton_precision() == request.param
    yield request.param
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.fixture
def parts(precision):
    """Launches of the parts of a step, the second, after what is done only once."""
    with torch.device(DEVICE):
        net = DelayNet(20, 5, 24, 2, max_delay_steps=9, backend="triton")
        x, label = torch.poisson(torch.full((12, 3, 20), 0.3)), torch.randint(5, (3,))
    v = net(x)
    found = {}

    def part(name, run):
        with counted() as found[name]:
            return run()

    v = part("forward", lambda: net(x))
    loss = part("loss", lambda: softmax_sum(v, label))
    (dv,) = part("loss backward", lambda: torch.autograd.grad(loss, v, retain_graph=True))
    part("backward", lambda: v.backward(dv))
    part("clamp", net.clamp_)
    return found


def report(parts) -> str:
    return "\n".join(f"{name}:\n{part.table()}" for name, part in parts.items())


def test_a_training_step_takes_few_launches(parts, precision):
    again = 3 if precision == "highest" else 0  # inputs are cut into three parts twice
    total = sum(part.total for part in parts.values()) + ADAM
    assert total <= MOST + again, report(parts)
    assert parts["forward"].total <= 18, report(parts)
    assert parts["backward"].total <= 18 + again, report(parts)
    assert parts["forward"].ops.total() <= 8 and parts["backward"].ops.total() <= 6, report(parts)


def test_nothing_waits_for_the_device_or_comes_from_the_host(parts):
    waits = {name: part.waits for name, part in parts.items() if part.waits}
    assert not waits, waits


def test_what_waits_is_found():
    with counted() as found:
        x = torch.ones(3, device=DEVICE)
        float(x.sum())
        x + torch.tensor(2.0)
    assert "_local_scalar_dense" in found.waits and "lift_fresh" in found.waits
    assert found.torch["sum"] == 1 and found.torch["ones"] == 1
