"""`recompute_` changes no bit of a training step and keeps less for the backward pass."""

import copy

import pytest
import torch
from torch import nn

from snndelay import LIF, DelayLIF, DelayLinear
from snndelay.conv_net import ConvNet
from snndelay.gradients import GRADIENTS
from snndelay.recompute import _pack, recompute_

from .test_gradients import B, assert_same, conv_net, delay_net, gradients, peak


def training_run(net, x, gradient, autocast):
    """Gradients and buffers after two training steps."""
    torch.manual_seed(3)
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            grads, _ = gradients(net, x, gradient)
    return grads | dict(net.named_buffers())


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize(
    ("make", "autocast"),
    [
        (lambda: conv_net(dropout=0.3), False),
        (lambda: conv_net(dropout=0.3, max_delay_steps=3), True),
        (lambda: conv_net(dropout=0.3, dropout_mask="step"), False),
        (lambda: delay_net(dropout=0.3), False),
        (lambda: delay_net(dropout=0.3, neuron="adlif"), True),
    ],
)
def test_recompute_changes_no_bit(make, autocast, gradient):
    net, x = make()
    twin = copy.deepcopy(net)
    recompute_(twin)
    recompute_(twin)  # once is enough
    want = training_run(net, x, gradient, autocast)
    got = training_run(copy.deepcopy(twin), x, gradient, autocast)
    assert got.keys() == want.keys()
    for name, g in got.items():
        assert torch.equal(g, want[name]), name
    twin.load_state_dict(net.state_dict())
    assert torch.equal(twin.eval()(x), net.eval()(x))


def test_recompute_of_a_residual_net_in_double_precision():
    net = ConvNet("resnet18", 3, (8, 8)).double()
    x = torch.poisson(torch.full((2, B, 2, 8, 8), 0.7, dtype=torch.float64))
    want, _ = gradients(net, x)
    recompute_(net)
    assert_same(gradients(net, x)[0], want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("value", [0.0, 1.0, 1 / 0.7])
def test_spikes_are_kept_as_bits(dtype, value):
    spikes = (torch.rand(3, 2, 5, 7, 3) < 0.3).to(dtype) * value
    for x in (spikes, spikes.permute(0, 1, 4, 2, 3), spikes[:, :1].expand(3, 4, 5, 7, 3)):
        packed, unpack = _pack(x)
        assert packed.nbytes == -(-x.numel() // 8)
        again = unpack(packed)
        assert torch.equal(again, x) and again.dtype == dtype
        if 0 not in x.stride():
            assert again.stride() == x.stride()


@pytest.mark.parametrize("other", [2.0, -1.0, float("nan")])
def test_what_is_not_binary_is_kept_as_it_is(other):
    x = (torch.rand(20) < 0.5).float()
    x[3], x[7], x[9] = other, 1.0, 0.0
    packed, unpack = _pack(x)
    assert packed is x and unpack(x).data_ptr() == x.data_ptr()


# -- memory ---


def test_recompute_saves_memory():
    net, _ = delay_net(n_hidden=64, n_layers=6)
    x = torch.poisson(torch.full((50, B, 6), 0.7))
    plain = peak(net, x)
    recompute_(net)
    assert (small := peak(net, x)) < 0.5 * plain, f"{small} of {plain} bytes"


def test_blocks_are_found_in_any_module():
    block = DelayLIF(DelayLinear(6, 8, 3), LIF(8))
    net = nn.Sequential(nn.Sequential(block), nn.Linear(8, 3))
    recompute_(net)
    assert isinstance(block, DelayLIF) and type(block) is not DelayLIF
    net(torch.poisson(torch.full((9, B, 6), 0.7))).sum().backward()
    assert block.delay.position.grad.any()
