"""Convolutions with a delay at each element of their kernels, against torch's 3-D convolution."""

import pytest
import torch
import torch.nn.functional as F

from snndelay import ConfigError, ConvLIF, ConvNet, DelayConv2d, learning
from snndelay.kernels import delay_taps

from ...conftest import assert_close

T, B, C, N, H, W = 9, 2, 3, 4, 7, 6


def spikes(dtype=torch.float64):
    return (torch.rand(T, B, C, H, W) < 0.3).to(dtype)


def by_conv3d(layer, x_TBCHW):
    """The same layer as one convolution over time, rows and columns."""
    k, K = layer.kernel_size, layer.synapses.max_delay_steps
    taps = delay_taps(layer.synapses.synapses).view(N, C, k, k, K).permute(0, 1, 4, 2, 3)
    x_BCTHW = F.pad(x_TBCHW.permute(1, 2, 0, 3, 4), (0, 0, 0, 0, K - 1, 0))
    how = dict(stride=(1, layer.stride, layer.stride), padding=(0, layer.padding, layer.padding))
    return F.conv3d(x_BCTHW, taps, **how).permute(2, 0, 1, 3, 4)


@pytest.mark.parametrize(("kernel_size", "stride", "padding"), [(3, 1, None), (3, 2, 1), (1, 1, 0)])
def test_equals_a_convolution_over_time_rows_and_columns(kernel_size, stride, padding):
    how = dict(stride=stride, padding=padding, sigma=1.2)
    layer, x = DelayConv2d(C, N, kernel_size, 5, **how).double(), spikes().requires_grad_()
    got, want = layer(x), by_conv3d(layer, x)
    assert_close(got, want, 1e-10, "current")
    g, inputs = torch.randn_like(got), [x, layer.synapses.weight, layer.synapses.position]
    for a, b in zip(
        torch.autograd.grad(got, inputs, g), torch.autograd.grad(want, inputs, g), strict=True
    ):
        assert_close(a, b, 1e-8, "gradient")


def test_evaluation_takes_each_element_from_its_own_step():
    layer, x = DelayConv2d(C, N, 3, 5).double().eval(), spikes()
    d = layer.synapses.delay_steps.round().long().view(N, C, 3, 3)
    w, padded = layer.synapses.weight.detach().view(N, C, 3, 3), F.pad(x, (1, 1, 1, 1))
    want = torch.zeros(T, B, N, H, W, dtype=torch.float64)
    for n, c, i, j in torch.cartesian_prod(*map(torch.arange, (N, C, 3, 3))).tolist():
        s = int(d[n, c, i, j])
        want[s:, :, n] += w[n, c, i, j] * padded[: T - s, :, c, i : i + H, j : j + W]
    with torch.no_grad():
        assert_close(layer(x), want, 1e-12, "current")
        a, state = layer.scan(x[:4])
        assert_close(torch.cat([a, layer.scan(x[4:], state)[0]]), want, 1e-12, "chunks")


def test_a_block_whose_convolution_has_delays():
    block = ConvLIF(C, N, delay=DelayConv2d(C, N, 3, 5), dropout=0.0)
    s, state = block.scan(spikes(torch.float32))
    assert s.shape == (T, B, N, H, W) and state[0].shape[0] == 4
    s.sum().backward()
    assert float(block.delay.synapses.position.grad.abs().max()) > 0
    block.eval()
    learning.set_sigma(block, 0.23)
    x = spikes(torch.float32)
    with torch.no_grad():
        a, state = block.scan(x[:5])
        assert torch.equal(torch.cat([a, block.scan(x[5:], state)[0]]), block(x))


@pytest.mark.parametrize("network", ["small", "resnet18"])
def test_a_network_of_them_trains(network):
    net = ConvNet(network, 3, (16, 16), 4, max_delay_steps=3, delay_kind="synaptic")
    assert len(net.delay_layers()) == len(net.blocks)
    net((torch.rand(4, 2, 2, 16, 16) < 0.3).float()).square().mean().backward()
    grads = [float(layer.position.grad.abs().max()) for layer in net.delay_layers()]
    assert max(grads) > 0
    with pytest.raises(ConfigError, match="unknown delay_kind 'dendritic'"):
        ConvNet(network, 3, (16, 16), 4, delay_kind="dendritic")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: DelayConv2d(C, N, 2), "kernel_size must be odd, not 2"),
        (lambda: DelayConv2d(C, N, extra_steps=2), "as many steps as its input"),
        (
            lambda: ConvLIF(C, 9, delay=DelayConv2d(C, N)),
            "from 3 to 4 channels, and the block",
        ),
    ],
)
def test_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((4, 2, C + 1, 6, 6), f"x has {C + 1} channels, and the layer takes {C}"),
        ((4, 2, C, 1, 6), "x has 1 x 6 places, fewer than a kernel of 5 x 5 with padding 1 needs"),
    ],
)
def test_wrong_input_is_refused(shape, text):
    with pytest.raises(ValueError, match=text):
        DelayConv2d(C, N, 5, padding=1)(torch.rand(shape))
