"""The adLIF layer against the equations of Baronig et al. 2024 (arXiv 2408.07517)."""

import pytest
import torch
from torch import nn

from snndelay import LIF
from snndelay.errors import RunError
from snndelay.runs.session import put_weights

RANGES = {"tau_u": (5.0, 25.0), "tau_w": (60.0, 300.0)}  # steps of 4 ms


def layer(n=6):
    torch.manual_seed(0)
    return LIF(n, neuron="adlif", dt_ms=4.0, surrogate="slayer")


def by_hand(x_TBN, held):
    """The published step in a few lines: spikes of neurons from rest."""
    tau = {
        k: held["r_" + k] * high + (1 - held["r_" + k]) * low for k, (low, high) in RANGES.items()
    }
    alpha, beta = torch.exp(-1 / tau["tau_u"]), torch.exp(-1 / tau["tau_w"])
    u, w, spikes = torch.zeros_like(x_TBN[0]), torch.zeros_like(x_TBN[0]), []
    for x in x_TBN:
        u = alpha * u + (1 - alpha) * (x - w)
        over = u - 1
        bump = 0.4 * 5 / 2 * torch.exp(-5 * over.abs())
        z = (over >= 0).to(x) + (bump.detach() * over - (bump * over).detach())
        u = u * (1 - z.detach())
        w = beta * w + (1 - beta) * 120 * (held["a"] * u + held["b"] * z)
        spikes.append(z)
    return torch.stack(spikes)


def test_values_and_gradients_are_those_of_the_equations():
    neurons = layer().double()
    x = (3 * torch.randn(60, 4, 6, dtype=torch.float64) + 3).requires_grad_()
    held = dict(neurons.named_parameters())
    assert set(held) == {"r_tau_u", "r_tau_w", "a", "b"}
    s, want = neurons(x), by_hand(x, held)
    assert torch.equal(s, want.detach().round()) and s.mean() > 0.02
    g = torch.randn_like(s)
    inputs = {"x": x, **held}
    got = torch.autograd.grad(s, list(inputs.values()), g)
    wanted = torch.autograd.grad(want, list(inputs.values()), g)
    for name, a, b in zip(inputs, got, wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12), f"{name}: {(a - b).abs().max()}"
        assert b.abs().sum() > 0


def test_constants_are_drawn_and_held_in_the_published_ranges():
    neurons = layer(4000)
    for name, (low, high) in (*RANGES.items(), ("a", (0.0, 1.0)), ("b", (0.0, 2.0))):
        value = neurons.constants()[name].detach()
        span = high - low
        assert low <= value.min() < low + span / 100 and high - span / 100 < value.max() <= high
        assert abs(value.mean() - (low + high) / 2) < span / 20, name
        held = getattr(neurons, f"r_{name}" if name in RANGES else name)
        held.data[0], held.data[1] = -3.0, 9.0
        neurons.clamp_()
        ends = neurons.constants()[name][:2].tolist()
        assert ends == pytest.approx([low, high]), name


@pytest.mark.parametrize(("name", "factor"), [("tau_u", 20.0), ("tau_w", 240.0), ("b", 1.0)])
def test_one_rate_moves_a_time_constant_by_its_range(name, factor):
    """A step of Adam moves what is learned by the rate, and tau by (tau_max - tau_min) times it."""
    neurons = layer()
    neurons.set_(tau_u=15.0, tau_w=180.0, a=0.5, b=1.0)
    before = neurons.constants()[name].detach().clone()
    optimizer = torch.optim.Adam(neurons.parameters(), lr=0.01)
    neurons.constants()[name].sum().backward()
    optimizer.step()
    moved = before - neurons.constants()[name].detach()
    assert torch.allclose(moved, torch.full((6,), 0.01 * factor), rtol=1e-3), moved


def test_constants_are_read_and_set_in_steps():
    neurons = layer()
    neurons.set_(tau_u=8.0, tau_w=torch.linspace(60, 300, 6), b=2.0)
    constants = neurons.constants()
    assert constants["tau_u"].tolist() == pytest.approx([8.0] * 6)
    assert torch.allclose(constants["tau_w"], torch.linspace(60, 300, 6))
    with pytest.raises(ValueError, match=r"tau_u must be in \[5, 25\], not 4"):
        neurons.set_(tau_u=4.0)
    with pytest.raises(ValueError, match="has no constant 'tau'"):
        neurons.set_(tau=4.0)


@pytest.mark.parametrize("strict", [True, False])
def test_a_checkpoint_of_time_constants_in_steps_is_refused(strict):
    net, kept = nn.Sequential(layer()), nn.Sequential(layer()).state_dict()
    for name in ("tau_u", "tau_w"):
        kept[f"0.{name}"] = torch.full((6,), 10.0)
        del kept[f"0.r_{name}"]
    with pytest.raises(RuntimeError, match=r"0\.tau_u is in steps, as adlif layers were saved"):
        net.load_state_dict(kept, strict=strict)


def test_a_run_of_such_a_checkpoint_says_so_in_a_sentence():
    net = nn.Sequential(layer())
    with pytest.raises(RunError) as caught:
        put_weights(net, {"0.tau_u": torch.full((6,), 10.0)})
    assert "0.tau_u is in steps" in str(caught.value) and "\n" not in str(caught.value)
