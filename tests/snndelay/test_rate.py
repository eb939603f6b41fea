"""Leaky rate neurons: by an independent loop, step by step and neuron by neuron."""

import numpy as np
import pytest
import torch

from snndelay.learning import clamp_
from snndelay.rate import LeakyRate

from ..conftest import assert_close


def loop(layer: LeakyRate, x_TBC: np.ndarray, r_BN: np.ndarray) -> np.ndarray:
    """The published equation in float64."""
    W, V, b, tau = (
        p.detach().double().numpy()
        for p in (layer.weight, layer.input.weight, layer.input.bias, layer.tau)
    )
    rates = np.zeros((len(x_TBC), *r_BN.shape))
    for t, x_BC in enumerate(x_TBC):
        for k in range(len(r_BN)):
            for i in range(len(tau)):
                heard = sum(W[i, j] * r_BN[k, j] for j in range(len(tau)) if j != i)
                drive = heard + V[i] @ x_BC[k] + b[i]
                u = (1 - 1 / tau[i]) * r_BN[k, i] + drive / tau[i]
                rates[t, k, i] = u if u > 0 else 0.01 * u
        r_BN = rates[t]
    return rates


@pytest.mark.parametrize(("T", "B", "C", "N"), [(1, 1, 1, 1), (6, 2, 1, 7), (4, 3, 5, 16)])
def test_rates_are_those_of_the_equation(T, B, C, N):
    layer = LeakyRate(C, N, 5.0)
    x_TBC, r_BN = torch.randn(T, B, C), torch.randn(B, N)
    want = torch.from_numpy(loop(layer, x_TBC.double().numpy(), r_BN.double().numpy()))
    got, last = layer.scan(x_TBC, r_BN)
    assert_close(got, want, 1e-5, "rates from a state")
    assert torch.equal(last, got[-1])
    rest = torch.from_numpy(loop(layer, x_TBC.double().numpy(), np.zeros((B, N))))
    assert_close(layer(x_TBC), rest, 1e-5, "rates from 0")


def test_a_stream_in_chunks_is_the_same():
    layer, x_TBC = LeakyRate(2, 9), torch.randn(11, 3, 2)
    first, r_BN = layer.scan(x_TBC[:4])
    second, _ = layer.scan(x_TBC[4:], r_BN)
    assert_close(torch.cat([first, second]), layer(x_TBC), 1e-6, "chunks")


def test_gradients_are_those_of_differences():
    layer, x_TBC = LeakyRate(1, 4, 3.0).double(), torch.randn(5, 2, 1, dtype=torch.float64)
    names = ("weight", "tau", "input.weight", "input.bias")
    values = [layer.get_parameter(name).detach().clone().requires_grad_() for name in names]

    def run(*values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x_TBC,))

    assert torch.autograd.gradcheck(run, values)


def test_no_neuron_hears_itself():
    layer = LeakyRate(1, 5)
    layer(torch.randn(6, 2, 1)).square().sum().backward()
    assert layer.weight.grad is not None and not layer.weight.grad.diagonal().any()
    assert layer.weight.grad.any()


def test_time_constants_start_in_their_range_and_stay_above_1():
    layer = LeakyRate(1, 1000, 4.0)
    assert 1 <= layer.tau.min() < 1.1 and 3.9 < layer.tau.max() <= 4
    with torch.no_grad():
        layer.tau[:3] = torch.tensor([0.5, -2.0, 7.0])
    clamp_(torch.nn.Sequential(layer))
    assert layer.tau[:3].tolist() == [1.0, 1.0, 7.0]
    assert not LeakyRate(1, 3, learned=False).tau.requires_grad
    with pytest.raises(ValueError, match=r"tau must be at least 1 step, not 0\.5"):
        LeakyRate(1, 3, 0.5)
