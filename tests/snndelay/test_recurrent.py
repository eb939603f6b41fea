"""Layers of recurrent neurons, with delays that follow the protocol of all layers of delays."""

import warnings

import pytest
import torch

from snndelay import LIF, RecurrentDelay, RecurrentLIF, WidthWarning, WindowWarning
from snndelay.delays import DELAYS
from snndelay.delays.recurrent import RECURRENT_KINDS, RECURRENT_VERSIONS
from snndelay.errors import ConfigError
from snndelay.kernels import recurrent_lif
from snndelay.learning import clamp_, delay_layers, parameter_groups, set_sigma, unrounded

from ..conftest import assert_close

K = 6


def layer(N=12, **how):
    torch.manual_seed(0)
    return RecurrentLIF(N, LIF(N, 2.0), **(dict(max_delay_steps=K, gain=2.0) | how))


def current(T=40, B=2, N=12):
    return torch.randn(T, B, N) + 0.2


@pytest.mark.parametrize("kind", RECURRENT_KINDS)
@pytest.mark.parametrize("version", RECURRENT_VERSIONS)
def test_taps_are_those_of_their_version(kind, version):
    delay = RecurrentDelay(5, K, kind=kind, version=version, sigma=1.5)
    taps, d = delay.taps(), delay.delay_steps
    assert taps.shape == (*delay.position.shape, K)
    after = torch.arange(K - 1, -1, -1)
    distance = (after - d.unsqueeze(-1)).abs()
    if version == "triangle":
        assert_close(taps, torch.relu(2.5 - distance) / 2.5**2, 1e-6, "taps")
        assert taps.sum(-1).max() < 1.1 and taps.sum(-1).min() < 0.9, "lost beyond the window"
    else:
        assert_close(taps.sum(-1), torch.ones_like(d), 1e-5, "sums within the window")
    place = taps.argmax(-1)
    assert ((K - 1 - place) - d).abs().max() <= 0.501 + (version in ("max", "triangle")), "the peak"


@pytest.mark.parametrize("kind", RECURRENT_KINDS)
def test_narrow_taps_have_no_subnormal_share(kind):
    taps = RecurrentDelay(20, 25, kind=kind, version="gauss", sigma=0.23).taps()
    assert taps[taps > 0].min() > 1e-20 and (taps == 0).any()
    assert_close(taps.sum(-1), torch.ones_like(taps[..., 0]), 1e-5, "sums within the window")


@pytest.mark.parametrize("kind", RECURRENT_KINDS)
def test_a_spike_is_heard_after_its_delay_and_one_step(kind):
    net = layer(2, kind=kind, gain=1.0)
    net.neuron = LIF(2, 1.0)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))  # of 0 alone, to 1
        net.position.copy_(torch.full_like(net.position, K - 1 - K // 2 - 3.3))  # d = 3.3
    x = torch.zeros(12, 1, 2)
    x[1, 0, 0] = 2.0
    s = net.eval()(x)
    assert s[:, 0, 0].nonzero().flatten().tolist() == [1]
    assert s[:, 0, 1].nonzero().flatten().tolist() == [1 + 1 + 3]


@pytest.mark.parametrize("kind", RECURRENT_KINDS)
@pytest.mark.parametrize("delays", DELAYS)
def test_what_is_learned(kind, delays):
    net = layer(kind=kind, delays=delays, sigma=2.0)
    assert delay_layers(net) == [net.delay]
    x = current()
    net(x).square().sum().backward()
    learned = {name for name, p in net.named_parameters() if p.grad is not None and p.grad.any()}
    assert learned == {"delay.weight"} | ({"delay.position"} if delays == "learned" else set())
    names = {g["name"]: [p.shape for p in g["params"]] for g in parameter_groups(net, 1e-3, 0.1)}
    assert names["weights"] == [(12, 12)]
    assert ("positions" in names) == (delays == "learned")
    if delays == "fixed":
        assert net.position.eq(net.position.round()).all()
    want = net(x)
    if delays in ("fixed", "none"):
        assert torch.equal(net.eval()(x), want), "whole steps in training too"
    else:
        set_sigma(net, 0.2)
        assert net.sigma == pytest.approx(0.2) and not torch.equal(net(x), want)
    net.position.data.fill_(99.0)
    clamp_(net)
    assert net.position.max() == (0 if delays == "none" else K - 1 - K // 2)


@pytest.mark.parametrize("kind", RECURRENT_KINDS)
def test_evaluation_is_on_whole_delays_and_leaves_the_positions(kind):
    net, x = layer(kind=kind, sigma=0.2), current()
    before = net.position.detach().clone()
    delay = net.delay.delay_steps.round().long()
    shares = torch.nn.functional.one_hot(K - 1 - delay, K).float()
    synaptic = kind == "synaptic"
    weight, taps = (net.weight[..., None] * shares, None) if synaptic else (net.weight, shares)
    want, _ = recurrent_lif(x, weight, taps, tau=2.0)
    with torch.no_grad():
        got = net.eval()(x)
    assert torch.equal(got, want) and torch.equal(net.position, before) and got.any()
    assert not torch.equal(unrounded(net)(x), want)
    net(x).sum().backward()
    assert net.weight.grad.any() and net.position.grad is None


@pytest.mark.parametrize("kind", RECURRENT_KINDS)
@pytest.mark.parametrize("training", [True, False])
def test_a_stream_equals_the_whole_clip(kind, training):
    net, x = layer(kind=kind, sigma=1.0).train(training), current()
    state, parts = None, []
    for chunk in x.split([7, 1, 30, 2]):
        s, state = net.scan(chunk, state)
        parts.append(s)
    assert torch.equal(torch.cat(parts), net(x))
    s, end, v = net.scan(x, potentials=True)
    assert torch.equal(v[-1], end[0]) and torch.equal(end[-1], s[-K:]) and v.shape == s.shape


def test_evaluation_of_a_wide_layer_and_outside_the_window_says_so():
    net = layer(sigma=3.0)
    with pytest.warns(WidthWarning, match="width is still 3 steps"):
        net.eval()
    set_sigma(net, 0.3)
    net.train().position.data.fill_(99.0)
    with pytest.warns(WindowWarning, match="outside the window"):
        net.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(sigma=0.3).eval()
        layer(delays="none").eval()


def test_delays_are_drawn_uniformly_or_half_normally():
    assert 0 <= layer(400).delay.delay_steps.min() < 0.2
    assert K - 1.2 < layer(400).delay.delay_steps.max() <= K - 1
    d = layer(4000, delay_std=1.0).delay.delay_steps
    assert d.min() >= 0 and d.mean() == pytest.approx((2 / torch.pi) ** 0.5, rel=0.1)
    w = layer(20, gain=3.0).weight.detach()
    assert_close(w @ w.T, 9 * torch.eye(20), 1e-5, "orthogonal weights")


def test_state_dicts_know_their_window():
    source, other = layer(), layer(max_delay_steps=9)
    with pytest.raises(RuntimeError, match=r"middle of 6 taps.*this layer has 9"):
        other.load_state_dict(source.state_dict())
    twin = layer()
    twin.position.data.zero_()
    twin.load_state_dict(source.state_dict())
    assert torch.equal(twin.position, source.position)


def test_hooks_see_the_layer_and_its_synapses_and_none_is_ignored():
    net, seen = layer(), []
    net.register_forward_hook(lambda *_: seen.append("layer"))
    net.delay.register_forward_pre_hook(lambda *_: seen.append("synapses"))
    net(current())
    assert seen == ["synapses", "layer"]
    net.neuron.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="must be a LIF without hooks"):
        net(current())


def test_errors_say_what_to_change():
    for call, kind, message in (
        (lambda: layer(kind="dendritic"), ConfigError, "axonal or synaptic, not 'dendritic'"),
        (lambda: layer(version="gaus"), ValueError, "version must be one of .*triangle"),
        (lambda: layer(max_delay_steps=0), ValueError, "max_delay_steps must be at least 1"),
        (lambda: layer(delay_std=-1.0), ValueError, "delay_std must be at least 0"),
    ):
        with pytest.raises(kind, match=message):
            call()


def test_backend_is_that_of_the_neuron_unless_given():
    net = RecurrentLIF(3, LIF(3, backend="reference"))
    assert net.backend == "reference" and layer(backend="cpu").backend == "cpu"
    assert torch.equal(layer(backend="cpu")(current()), layer(backend="reference")(current()))
