import pytest
import torch

from snndelay.kernels import SURROGATES, spike

from ..conftest import assert_close


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("alpha", [0.5, 1.0, 5.0])
def test_derivative_is_that_of_the_primitive(name, alpha):
    u = torch.linspace(-3, 3, 1001, dtype=torch.float64, requires_grad=True)
    shape = SURROGATES[name]
    (slope,) = torch.autograd.grad(shape.primitive(u, alpha).sum(), u)
    assert_close(slope, shape.derivative(u, alpha), 1e-12, name)


@pytest.mark.parametrize("name", SURROGATES)
def test_spike_is_a_step_with_the_surrogate_gradient(name):
    u = torch.randn(1000, requires_grad=True)
    g = torch.randn(1000)
    s = spike(u, name, 2.0)
    assert torch.equal(s, (u >= 0).float()), "a spike is 1 where u >= 0"
    (du,) = torch.autograd.grad(s, u, g)
    assert_close(du, g * SURROGATES[name].derivative(u.detach(), 2.0), 1e-7, name)
    assert spike(torch.zeros(1), name, 2.0) == 1, "the comparison is >="


def test_shapes_of_the_specification():
    u = torch.tensor([0.25])
    assert SURROGATES["atan"].derivative(u, 5.0).item() == pytest.approx(
        2.5 / (1 + (torch.pi / 2 * 5 * 0.25) ** 2)
    )
    assert SURROGATES["triangle"].derivative(u, 1.0).item() == pytest.approx(0.75)
    assert SURROGATES["piecewise_quadratic"].derivative(u, 2.0).item() == pytest.approx(1.0)
    assert SURROGATES["fast_sigmoid"].derivative(u, 25.0).item() == pytest.approx(1 / 7.25**2)
    assert SURROGATES["rectangle"].derivative(u, 0.4).item() == 0
    assert SURROGATES["rectangle"].derivative(u, 0.8).item() == pytest.approx(1.25)
    assert SURROGATES["erf"].derivative(u, 2.0).item() == pytest.approx(
        2 / torch.pi**0.5 * torch.e ** (-0.25)
    )
    assert SURROGATES["straight_through"].derivative(u, 1.0).item() == 1
    assert SURROGATES["slayer"].derivative(u, 5.0).item() == pytest.approx(
        0.4 * 2.5 * torch.e ** (-1.25)
    )
