"""Time constants that differ between neurons, and are learned."""

import copy
import math

import pytest
import torch
from torch import nn

from snndelay import LIF, ConvNet, DelayNet, multi_timescale, time_constants
from snndelay.errors import ConfigError
from snndelay.learning import parameter_groups
from snndelay.timescales import QUANTILES, SPREADS, quantiles, tau_start

from ..kernels.helpers import DEVICE

LEARNERS = {"lif": {"log_tau"}, "cuba": {"log_tau", "log_tau_syn"}}


def spread(n, **how):
    torch.manual_seed(0)
    return multi_timescale(n, 2.0, 32.0, **how)


def test_every_octave_is_as_likely():
    tau = spread(40_000)
    assert tau.shape == (40_000,) and tau.dtype == torch.float32
    assert 2 <= tau.min() < 2.01 and 31.9 < tau.max() <= 32
    share = torch.histc(tau.log2(), bins=4, min=1, max=5) / len(tau)
    assert (share - 0.25).abs().max() < 0.01, share.tolist()


def test_gamma_has_its_mean_and_shape_and_is_cut():
    torch.manual_seed(0)
    tau = multi_timescale(40_000, 20.0, kind="gamma")
    assert abs(tau.mean() - 20) < 0.3 and abs(tau.var() - 20**2 / 3) < 5
    cut = multi_timescale(4000, 2.0, 4.0, "gamma")
    assert cut.min() == torch.tensor(1.005) and cut.max() == 4


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((2.0, 8.0, "uniform"), "unknown spread 'uniform' of tau: did you mean log-uniform"),
        ((0.5, 8.0), "tau is 0.5: log-uniform needs 1 steps or more"),
        ((1.5, 8.0, "gamma"), "tau is 1.5: gamma needs 2 steps or more"),
        ((8.0, 8.0), "tau_max is 8: choose more than tau, 8"),
        ((2.0,), "log-uniform needs a longest time constant: give tau_max"),
    ],
)
def test_what_cannot_be_drawn_is_refused(given, said):
    with pytest.raises(ConfigError, match=said):
        multi_timescale(4, *given)


def test_the_same_start_draws_nothing():
    before = torch.get_rng_state()
    assert tau_start(1.5) == 1.5
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", SPREADS)
def test_a_layer_draws_its_own(kind):
    start = tau_start(3.0, kind, 9.0)
    torch.manual_seed(1)
    one, other = LIF(6, start), LIF(6, start, neuron="plif")
    torch.manual_seed(1)
    drawn = multi_timescale(6, 3.0, 9.0, kind), multi_timescale(6, 3.0, 9.0, kind)
    assert torch.equal(one.tau, drawn[0])
    assert torch.allclose(other.time_constants()["tau"], drawn[1])
    with pytest.raises(ValueError, match="a function for tau needs the number of neurons"):
        LIF(tau=start)
    with pytest.raises(ValueError, match="tau must be at least 1 step"):
        LIF(3, lambda n: torch.full((n,), 0.5))


def test_time_constants_are_found_in_any_module():
    torch.manual_seed(0)
    net = nn.Sequential(
        LIF(3, 2.0), nn.ModuleList([LIF(4, 3.0, neuron="plif"), LIF(2, neuron="if")]),
        LIF(5, neuron="adlif", dt_ms=4.0), LIF(2, 5.0, neuron="cuba", learned=True),
    )  # fmt: skip
    found = time_constants(net)
    assert list(found) == ["0.tau", "1.0.tau", "2.tau_u", "2.tau_w", "3.tau", "3.tau_syn"]
    assert found["0.tau"].tolist() == [2] * 3
    assert found["1.0.tau"].tolist() == pytest.approx([3] * 4)
    assert torch.equal(found["2.tau_w"], net[2].constants()["tau_w"].detach())
    assert found["2.tau_w"].min() >= 60 and found["2.tau_w"].max() <= 300
    assert not any(value.requires_grad for value in found.values())
    assert list(time_constants(net, learned=True)) == list(found)[1:]
    assert list(time_constants(LIF(3), learned=False)) == ["tau"], "a layer is a module too"


def test_quantiles():
    (found,) = quantiles({"tau": torch.linspace(1, 11, 11)}).values()
    assert found == pytest.approx([1 + 10 * q for q in QUANTILES])
    assert quantiles({"tau": torch.tensor(2.0)}) == {"tau": [2.0] * len(QUANTILES)}


@pytest.mark.parametrize("neuron", LEARNERS)
def test_a_step_of_adam_moves_every_tau_by_the_same_part(neuron):
    start = torch.tensor([1.005, 2.0, 50.0, 1000.0])
    layer = LIF(4, start, neuron=neuron, learned=True)
    assert {name for name, _ in layer.named_parameters()} == LEARNERS[neuron]
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    (-layer.constants()["tau"]).sum().backward()
    optimizer.step()
    assert torch.allclose(layer.time_constants()["tau"], start * math.exp(0.01), rtol=1e-4)


@pytest.mark.parametrize("neuron", LEARNERS)
def test_learned_time_constants_stay_above_one_step(neuron):
    layer = LIF(3, 1.2, neuron=neuron, learned=True)
    for p in layer.parameters():
        p.data.fill_(-1.0)
    layer.clamp_()
    assert all(torch.equal(tau, torch.ones(3)) for tau in layer.time_constants().values())
    layer.set_(tau=torch.tensor([1.0, 4.0, 9.0]))
    assert layer.constants()["tau"].tolist() == pytest.approx([1, 4, 9])
    with pytest.raises(ValueError, match=r"tau must be in \[1, inf\]"):
        layer.set_(tau=0.9)


@pytest.mark.parametrize("backend", ["cpu", "triton"])
@pytest.mark.parametrize("neuron", LEARNERS)
def test_the_gradient_of_every_neuron_is_that_of_the_reference(neuron, backend):
    """Of the logarithms that a layer holds, on time constants from 1 to 60 steps."""
    torch.manual_seed(0)
    device = DEVICE if backend == "triton" else "cpu"
    tau = torch.cat([torch.ones(1), multi_timescale(36, 1.005, 60.0)])
    layer = LIF(37, tau, neuron=neuron, learned=True, backend=backend).to(device)
    twin = copy.deepcopy(layer)
    twin.backend = "reference"
    x = torch.randn(30, 3, 37, device=device)
    g = torch.randn_like(x)
    outcomes = [(s, torch.autograd.grad(s, [*m.parameters()], g)) for m in (layer, twin)
                for s in [m(x)]]  # fmt: skip
    (s, got), (want_s, want) = outcomes
    assert torch.equal(s, want_s) and s.mean() > 0.05
    for name, a, b in zip(LEARNERS[neuron], got, want, strict=True):
        assert b.abs().min() > 0, f"{name}: a neuron without gradient"
        worst = ((a - b).abs() / b.abs().max()).max()
        assert worst < 1e-5, f"{name}: {worst}"


def test_steps_of_a_fixed_layer_load_into_one_that_learns():
    fixed = nn.Sequential(LIF(3, torch.tensor([1.0, 2.0, 30.0]), neuron="cuba", tau_syn=4.0))
    learner = nn.Sequential(LIF(3, neuron="cuba", learned=True))
    kept = fixed.state_dict()
    learner.load_state_dict(kept)
    assert list(kept) == ["0.tau", "0.tau_syn"], "the checkpoint is changed"
    for name, value in time_constants(learner).items():
        assert torch.allclose(value, time_constants(fixed)[name])


def conv_net(**how):
    torch.manual_seed(0)
    net = ConvNet("small", 3, (16, 16), 4, backend="cpu", **how)
    return net, torch.poisson(torch.full((4, 5, 2, 16, 16), 0.5)), torch.tensor([0, 1, 2, 0, 1])


@pytest.mark.parametrize("neuron", LEARNERS)
def test_a_conv_net_learns_one_per_channel(neuron):
    net, x, label = conv_net(learn_tau=True, tau_init="log-uniform", tau_max=20.0, neuron=neuron)
    before = time_constants(net, learned=True)
    channels = [m.neuron.log_tau.numel() for m in net.blocks]
    assert channels == [m.conv.out_channels for m in net.blocks]
    assert not torch.equal(before["blocks.0.neuron.tau"][:8], before["blocks.1.neuron.tau"][:8])
    optimizer = torch.optim.Adam(parameter_groups(net, 1e-2, 0.1, weight_decay=0.1))
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(net(x).mean(0), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        net.clamp_()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2, losses
    for name, tau in time_constants(net).items():
        moved = (tau / before[name]).log().abs()
        assert tau.min() >= 1 and 0 < moved.max() < 0.13, f"{name}: {moved.max()}"


@pytest.mark.parametrize("neuron", ["plif", "adlif"])
def test_neurons_that_always_learn_do_without_being_told(neuron):
    for net in (conv_net(neuron=neuron)[0], DelayNet(4, 3, 8, neuron=neuron, tau=2.0)):
        assert time_constants(net, learned=True).keys() == time_constants(net).keys() != set()


def test_a_delay_net_learns_hidden_ones_and_its_readout_of_spikes():
    net = DelayNet(4, 3, (8, 6), learn_tau=True, tau=2.0, tau_init="gamma", max_delay_steps=5)
    found = time_constants(net, learned=True)
    assert {name: len(tau) for name, tau in found.items()} == {
        "blocks.0.neuron.tau": 8, "blocks.1.neuron.tau": 6,
    }  # fmt: skip
    assert net.readout.tau == 2.0, "the readout has the published one"
    spiking = DelayNet(4, 3, 8, readout="spikes", learn_tau=True, max_delay_steps=5)
    assert time_constants(spiking, learned=True)["readout.tau"].tolist() == pytest.approx(
        [1.005] * 3
    )


def test_learning_draws_no_number():
    nets = []
    for how in ({}, {"learn_tau": True}):
        torch.manual_seed(3)
        nets.append(dict(DelayNet(4, 3, 8, max_delay_steps=5, **how).named_parameters()))
    plain, learner = nets
    assert all(torch.equal(value, learner[name]) for name, value in plain.items())
    assert learner.keys() - plain.keys() == {"blocks.0.neuron.log_tau", "blocks.1.neuron.log_tau"}
