"""What any network with delays needs while it trains, on modules that are not ours."""

import copy
import warnings

import pytest
import torch
from torch import nn

from snndelay import LIF, DelayLIF, DelayLinear, LeakyReadout, WidthWarning, WindowWarning
from snndelay.conv import ConvLIF
from snndelay.delays import AxonalDelay
from snndelay.learning import (
    clamp_,
    delay_layers,
    parameter_groups,
    round_,
    set_sigma,
    sigma_at,
    unrounded,
)
from snndelay.turning import SIGMA_END

from ..conftest import assert_close


class Foreign(nn.Module):
    """Our layers somewhere inside another module, beside torch's own."""

    def __init__(self, **delay):
        super().__init__()
        self.embed = nn.Linear(6, 6)
        self.body = nn.ModuleDict({"a": nn.Sequential(self.block(6, 8, **delay), nn.Identity())})
        self.out = DelayLinear(8, 3, 7, **delay)
        self.readout = LeakyReadout(2.0)

    @staticmethod
    def block(n_in, n_out, **delay):
        return DelayLIF(DelayLinear(n_in, n_out, 7, **delay), LIF(n_out, 2.0, neuron="plif"))

    def forward(self, x):
        return self.readout(self.out(self.body["a"](self.embed(x))))


def test_every_layer_is_found_however_deep():
    net = Foreign()
    assert delay_layers(net) == [net.body["a"][0].delay, net.out]
    conv = nn.Sequential(ConvLIF(2, 4, delay=AxonalDelay(2, 5)))
    assert delay_layers(conv) == [conv[0].delay]
    assert delay_layers(net.out) == [net.out] and delay_layers(nn.Linear(2, 2)) == []


def test_set_sigma_leaves_learned_widths_alone():
    net = Foreign()
    set_sigma(net, 0.4)
    assert [layer.sigma.item() for layer in delay_layers(net)] == pytest.approx([0.4, 0.4])
    own = DelayLinear(3, 4, 5, learn_sigma=True)
    set_sigma(own, 0.4)
    assert own.sigma.eq(2).all(), "a width that is learned is not set"


def test_clamp_holds_positions_and_constants():
    net = Foreign()
    with torch.no_grad():
        for layer in delay_layers(net):
            layer.position.fill_(99.0)
    clamp_(net)
    assert [layer.position.max().item() for layer in delay_layers(net)] == [3.0, 3.0]
    adlif = nn.Sequential(LIF(4, neuron="adlif"))
    adlif[0].r_tau_u.data.fill_(1e9)
    clamp_(adlif)
    assert adlif[0].constants()["tau_u"].max() < 1e3


def test_groups_hold_every_trained_parameter_once():
    net = Foreign()
    net.embed.bias.requires_grad_(False)
    groups = {g["name"]: g for g in parameter_groups(net, 1e-3, 0.1, 1e-5)}
    ours = [p for g in groups.values() for p in g["params"]]
    trained = [p for p in net.parameters() if p.requires_grad]
    assert {id(p) for p in ours} == {id(p) for p in trained} and len(ours) == len(trained)
    assert [p.shape for p in groups["positions"]["params"]] == [(1, 8, 6), (1, 3, 8)]
    assert [p.ndim for p in groups["weights"]["params"]] == [2, 3, 3]
    assert all(p.ndim < 2 for p in groups["others"]["params"])
    assert {n: (g["lr"], g["weight_decay"]) for n, g in groups.items()} == {
        "weights": (1e-3, 1e-5), "others": (1e-3, 0.0), "positions": (0.1, 0.0)
    }  # fmt: skip
    torch.optim.AdamW([*groups.values()])


def test_learned_widths_do_not_decay_and_empty_groups_are_left_out():
    layer = DelayLinear(3, 4, 5, learn_sigma=True)
    groups = {g["name"]: g["params"] for g in parameter_groups(layer, 1e-3, 0.1, 1e-5)}
    assert groups["others"][0] is layer.sigma
    fixed = parameter_groups(DelayLinear(3, 4, 5, delays="fixed"), 1e-3, 0.1)
    assert [g["name"] for g in fixed] == ["weights"]


@pytest.mark.parametrize("K", [5, 6])
@pytest.mark.parametrize("kind", [DelayLinear, AxonalDelay])
def test_rounded_delays_train_as_they_evaluate(kind, K):
    layer = kind(4, 8, K) if kind is DelayLinear else kind(4, K)
    with torch.no_grad():
        layer.position += 2  # some beyond the window
    set_sigma(layer, 0.2)
    x = torch.rand(12, 3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the positions beyond
        wanted = layer.eval()(x)
    assert (layer.train()(x) - wanted).abs().max() > 0.02
    round_(layer)
    set_sigma(layer, 1e-6)
    assert layer.position.requires_grad
    assert_close(layer(x), wanted, 0.01, "delays once rounded")


def test_sigma_schedule():
    assert sigma_at(0, 12, 0.23, 37) + 0.27 == pytest.approx(12.27)
    assert sigma_at(37, 12, 0.23, 37) + 0.27 == pytest.approx(0.5)
    assert sigma_at(149, 12, 0.23, 37) == 0.23
    factor = (0.23 / 12) ** (1 / 37)
    assert sigma_at(8, 12, 0.23, 37) == pytest.approx(12 * factor**8)
    assert sigma_at(0, 15, 0.23, 15) + 0.27 == pytest.approx(15.27)


def similarity(net, x):
    """Correlation of a layer's currents in training and in evaluation."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", WidthWarning)
        pair = torch.stack([net.train()(x).flatten(), net.eval()(x).flatten()])
    return torch.corrcoef(pair)[0, 1].item()


def test_a_narrow_layer_evaluates_as_it_trained_and_a_wide_one_does_not():
    layer, x = DelayLinear(140, 256, 25), torch.poisson(torch.full((60, 2, 140), 0.1))
    assert similarity(layer, x) < 0.6, "or else this measures nothing"
    set_sigma(layer, SIGMA_END)
    with torch.no_grad():
        layer.position.round_()
    assert similarity(layer, x) > 0.95


def test_evaluation_of_a_wide_layer_says_so():
    net = Foreign()
    with pytest.warns(WidthWarning, match="width is still 3 steps.*set_sigma.*unrounded") as caught:
        net.eval()
    assert {warning.filename for warning in caught} == {__file__}, "the line of the caller"
    for deep in (nn.Sequential(nn.Sequential(Foreign())), Foreign().out):
        with pytest.warns(WidthWarning) as caught:
            deep.eval()
        assert {warning.filename for warning in caught} == {__file__}, "however deep it lies"
    for quiet in (
        lambda: net.eval(),  # it was in evaluation already
        lambda: set_sigma(net, 0.5) or net.train().eval(),
        lambda: unrounded(Foreign()).eval(),
        lambda: Foreign(delays="none").eval(),
        lambda: Foreign(version="v1").eval(),
        lambda: Foreign().to("meta").eval(),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error", WidthWarning)
            quiet()


def test_evaluation_of_positions_outside_the_window_says_so():
    net = nn.Sequential(Foreign(sigma=0.2))
    layer = delay_layers(net)[0]
    K = layer.max_delay_steps
    with torch.no_grad():
        layer.position.zero_()[0, 0, 0] = K - K // 2  # the first place without a tap
    with pytest.warns(WindowWarning, match=r"outside the window.*clamp_\(net\)") as caught:
        net.eval()
    assert {warning.filename for warning in caught} == {__file__} and len(caught) == 1
    with torch.no_grad():
        layer.position[0, 0, 0] -= 0.6  # rounded it is at the edge
    with warnings.catch_warnings():
        warnings.simplefilter("error", WindowWarning)
        net.train().eval()
        layer.position.data.fill_(99)
        clamp_(net)
        net.train().eval()
        layer.position.data.fill_(99)
        net.eval()  # it was in evaluation already
        unrounded(net).train().eval()


def test_torchs_initialisers_see_the_fan_in_of_one_element():
    layer, (C, N) = DelayLinear(140, 400, 25), (140, 400)
    nn.init.kaiming_uniform_(layer.weight[0], nonlinearity="relu")
    assert layer.weight.detach().abs().max() == pytest.approx((6 / C) ** 0.5, rel=1e-3)
    nn.init.xavier_uniform_(layer.weight[0])
    assert layer.weight.detach().abs().max() == pytest.approx((6 / (C + N)) ** 0.5, rel=1e-3)
    assert layer.weight.is_leaf and layer.weight.requires_grad


def test_unrounded_is_a_copy_on_the_delays_of_training():
    net, x = Foreign(sigma=0.3), torch.rand(9, 2, 6)
    before = copy.deepcopy(net.state_dict())
    twin = unrounded(net)
    assert_close(
        twin.eval().out(torch.ones(9, 2, 8)), net.train().out(torch.ones(9, 2, 8)), 1e-5, "y"
    )
    assert all(layer.rounded is None for layer in delay_layers(net))
    twin(x)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_without_clamp_positions_leave_the_window_and_with_it_none_does():
    torch.manual_seed(0)
    layer = DelayLinear(20, 10, 9, sigma=1.0)
    optimizer = torch.optim.Adam(parameter_groups(layer, 1e-3, 0.5))
    for _ in range(40):
        optimizer.zero_grad()
        layer(torch.poisson(torch.full((30, 4, 20), 0.3))).square().sum().backward()
        optimizer.step()
        free = layer.position.detach().abs().max()
        clamp_(layer)
    assert free > 4 and layer.position.abs().max() <= 4
