"""Weights that are few, coarse or frozen, of any layer."""

import copy

import pytest
import torch
from torch import nn

from snndelay import DelayLinear, DelayNet
from snndelay.errors import ConfigError
from snndelay.learning import parameter_groups, unrounded
from snndelay.weights import Coarse, constrain_, freeze_, n_parameters, quantise_, sparse_

from ..conftest import assert_close


def spikes(C=12):
    return (torch.rand(20, 4, C) < 0.3).float()


@pytest.mark.parametrize("make", [lambda: nn.Linear(12, 7), lambda: DelayLinear(12, 7, 5)])
def test_each_neuron_hears_so_many_inputs(make):
    layer = make()
    first = layer.weight.detach().clone()
    sparse_(layer, 3)
    heard = layer.weight.detach().view(7, 12) != 0
    assert torch.equal(heard.sum(1), torch.full((7,), 3))
    assert_close(
        layer.weight[heard.view_as(layer.weight)],
        2 * first.view_as(layer.weight)[heard.view_as(layer.weight)],
        1e-6,
        "kept weights, twice as large",
    )  # sqrt(12 / 3)
    layer(spikes()).square().sum().backward()
    grad = layer.parametrizations.weight.original.grad.view(7, 12)
    assert not grad[~heard].any() and grad[heard].any()


def test_a_layer_of_fewer_inputs_is_left_alone():
    layer = nn.Linear(3, 7)
    first = layer.weight.detach().clone()
    sparse_(layer, 3)
    assert torch.equal(layer.weight, first)
    with pytest.raises(ValueError, match="fan_in must be at least 1"):
        sparse_(layer, 0)
    quantise_(layer, "8")
    with pytest.raises(ValueError, match="fan_in comes first"):
        sparse_(layer, 2)


def test_ternary_weights_are_those_of_the_paper():
    w = torch.randn(2, 5, 40)
    got = Coarse("ternary")(w)
    for e, n in torch.cartesian_prod(torch.arange(2), torch.arange(5)).tolist():
        row = w[e, n]
        limit = 0.7 * row.abs().mean()
        a = row[row.abs() > limit].abs().mean()
        want = torch.where(row.abs() > limit, a * row.sign(), 0.0)
        assert_close(got[e, n], want, 1e-6, "row")


def test_eight_bits():
    w = torch.randn(5, 40)
    got = Coarse("8")(w)
    unit = w.abs().amax(1, keepdim=True) / 127
    assert (got - w).abs().max() <= 0.5001 * unit.max()
    assert ((got / unit) - (got / unit).round()).abs().max() < 1e-3
    assert Coarse("8")(torch.zeros(2, 3)).eq(0).all()


@pytest.mark.parametrize("bits", ["ternary", "8"])
def test_coarse_weights_have_exactly_so_few_values(bits):
    got = Coarse(bits)(torch.randn(5, 1000))
    for row in got:
        assert len(row.abs().unique()) <= {"ternary": 2, "8": 128}[bits], row.abs().unique()


def test_gradients_pass_straight_through():
    layer, x = nn.Linear(12, 7, bias=False), spikes()
    quantise_(layer, "ternary")
    g = torch.randn(20, 4, 7)
    layer(x).backward(g)
    want = torch.einsum("tbn,tbc->nc", g, x)
    assert_close(layer.parametrizations.weight.original.grad, want, 1e-5, "gradient")
    with pytest.raises(ValueError, match="weight_bits must be one of ternary, 8, not '4'"):
        quantise_(layer, "4")


def test_what_a_neuron_does_not_hear_has_no_part_in_the_scale():
    layer = nn.Linear(100, 3, bias=False)
    sparse_(layer, 2)
    quantise_(layer, "ternary")
    values = layer.weight.detach()
    assert (values != 0).sum() >= 3 and (values != 0).sum(1).max() <= 2


def test_a_network_trains_delays_alone():
    def make():
        net = DelayNet(12, 3, 8, 2, tau=2.0, max_delay_steps=7, dropout=0.0)
        constrain_(net, net.blocks, 4, "ternary", "frozen")
        return net

    net = make()
    groups = {g["name"]: g["params"] for g in parameter_groups(net, 1e-2, 0.5)}
    assert "weights" not in groups and groups["positions"]
    hidden = net.blocks[0].delay.weight
    assert torch.equal((hidden[0] != 0).sum(1).clamp(max=4), (hidden[0] != 0).sum(1))
    before, x = hidden.detach().clone(), spikes()
    net(x).square().mean().backward()
    torch.optim.Adam([p for part in groups.values() for p in part], 0.1).step()
    assert torch.equal(net.blocks[0].delay.weight, before)
    net.eval()
    with torch.no_grad():
        twin = copy.deepcopy(net)
        other = make().eval()
        other.load_state_dict(net.state_dict())
        assert torch.equal(net(x), twin(x)) and torch.equal(net(x), other(x))
        assert unrounded(net)(x).isfinite().all()


def test_freezing_leaves_everything_else():
    net = DelayNet(12, 3, 8, 1, max_delay_steps=7)
    freeze_(net)
    frozen = [name for name, p in net.named_parameters() if not p.requires_grad]
    assert frozen == ["blocks.0.delay.weight", "delay_out.weight"]


def test_settings_constrain_a_network():
    from snndelay import build_model

    net = build_model("spoken-digits", n_hidden=8, fan_in=3, weight_bits="8", weights="frozen")
    assert {name.rsplit(".", 1)[-1] for name, p in net.named_parameters() if p.requires_grad} == {
        "position",
        "weight",
        "bias",
    }
    heard = (net.blocks[0].delay.weight != 0).sum(-1)
    assert heard.min() >= 1 and heard.max() == 3
    readout = net.delay_out.weight
    assert (readout != 0).sum() > 3 * 20


def test_recurrent_synapses_are_constrained_too():
    from snndelay import build_model

    how = dict(n_hidden=8, max_delay_steps=5, weight_bits="ternary", weights="frozen", fan_in=3)
    net = build_model("spoken-digits", network="recurrent", delay_kind="axonal", **how)
    for block in net.blocks:
        weight = block.recurrent.delay.weight
        assert (weight != 0).sum(1).max() <= 3 and len(weight.abs().unique()) <= 1 + 8
    learned = {n.rsplit(".", 1)[-1] for n, p in net.named_parameters() if p.requires_grad}
    assert learned == {"position", "weight", "bias"}  # of norms, but for the positions
    assert not any(p.requires_grad for n, p in net.named_parameters() if "original" in n)
    net(spikes(140)).sum().backward()
    assert net.blocks[0].recurrent.delay.position.grad.abs().max() > 0


def test_a_fan_in_that_no_layer_has_is_refused():
    def net():
        return DelayNet(12, 3, 8, 2, max_delay_steps=7)

    constrain_(made := net(), made.blocks, 12, None, "learned")  # the second layer has 8 inputs
    with pytest.raises(ConfigError, match="fan_in is 13, and no hidden layer has more than 12"):
        constrain_(made := net(), made.blocks, 13, None, "learned")


@pytest.mark.parametrize(
    ("make", "per_synapse"),
    [
        (lambda: nn.Linear(12, 7, bias=False), 1),
        (lambda: DelayLinear(12, 7, 5), 2),
        (lambda: DelayLinear(12, 7, 5, delays="fixed"), 1),
    ],
)
def test_silent_synapses_are_no_parameters(make, per_synapse):
    layer = make()
    assert n_parameters(layer) == per_synapse * 12 * 7
    sparse_(layer, 3)
    assert n_parameters(layer) == per_synapse * 3 * 7
    freeze_(layer)
    assert n_parameters(layer) == (per_synapse - 1) * 3 * 7
