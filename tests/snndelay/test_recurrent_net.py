"""The network of recurrent layers."""

import copy

import pytest
import torch

from snndelay import RecurrentNet
from snndelay.errors import ConfigError
from snndelay.recompute import recompute_

from ..conftest import assert_close


def network(**how):
    torch.manual_seed(0)
    return RecurrentNet(9, 4, 16, **(dict(max_delay_steps=7, tau=2.0, dropout=0.0) | how))


def clip(T=30, B=3):
    return torch.poisson(torch.full((T, B, 9), 0.5))


@pytest.mark.parametrize("delay_kind", ["axonal", "synaptic"])
@pytest.mark.parametrize("delays", ["learned", "none"])
def test_everything_learns_and_backends_agree(delay_kind, delays):
    how = dict(delay_kind=delay_kind, delays=delays)
    net, twin = network(**how), network(backend="reference", **how)
    twin.load_state_dict(net.state_dict())
    x = clip()
    (v, s), (v_twin, s_twin) = net.activity(x), twin.activity(x)
    assert [int((a != b).sum()) for a, b in zip(s, s_twin, strict=True)] == [0, 0] and s[1].any()
    assert_close(v, v_twin, 1e-5, "potential")
    v.square().sum().backward()
    v_twin.square().sum().backward()
    for (name, p), q in zip(net.named_parameters(), twin.named_parameters(), strict=True):
        assert p.grad.any(), f"{name} learns nothing"
        assert_close(p.grad, q[1].grad, 1e-3, name)


@pytest.mark.parametrize("neuron", ["lif", "plif", "adlif"])
def test_a_stream_equals_the_whole_clip(neuron):
    net, x = network(padding="causal", neuron=neuron).eval(), clip()
    whole, state, parts = net(x), None, []
    for chunk in x.split([7, 1, 20, 2]):
        v, state = net.scan(chunk, state)
        parts.append(v)
    assert len(whole) == 30
    assert_close(torch.cat(parts), whole, 1e-5, "chunks")


def test_padding_lets_late_spikes_be_heard():
    net = network()
    assert net(clip()).shape == (30 + 2 * 3, 3, 4)
    with pytest.raises(ValueError, match="padding right cannot run in chunks"):
        net.scan(clip())
    assert network(delays="none")(clip()).shape == (30, 3, 4)


def test_dropout_holds_its_mask_over_chunks_and_leaves_what_the_layer_hears():
    net, x = network(dropout=0.5, padding="causal", batchnorm=False), clip()
    block = net.blocks[0]
    with torch.no_grad():
        block.linear.weight.mul_(5)
    torch.manual_seed(1)
    whole = block(x)
    torch.manual_seed(1)
    first, state = block.scan(x[:11])
    again, _ = block.scan(x[11:], state)
    assert torch.equal(torch.cat([first, again]), whole)
    kept = whole.any(0)
    assert 0.2 < kept.float().mean() < 0.8
    block.eval().recurrent.delay.rounded = False
    assert torch.equal(whole, torch.where(kept, 2 * block(x), 0)), "the same spikes, some dropped"


def test_recomputing_changes_no_bit():
    net = network(dropout=0.3)
    twin = copy.deepcopy(net)
    recompute_(twin)
    results, x = [], clip()
    for n in (net, twin):
        torch.manual_seed(2)
        v = n(x)
        v.square().sum().backward()
        results.append([v, *(p.grad for p in n.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert type(twin.blocks[0]) is not type(net.blocks[0])


def test_delays_are_found_and_set():
    net = network(delay_kind="synaptic")
    assert [tuple(layer.position.shape) for layer in net.delay_layers()] == [(16, 16)] * 2
    net.set_sigma(0.25)
    assert [float(layer.sigma) for layer in net.delay_layers()] == [0.25] * 2
    net.delay_layers()[0].position.data.fill_(99.0)
    net.clamp_()
    assert net.delay_layers()[0].position.max() == 3
    assert [len(b.recurrent.weight) for b in RecurrentNet(9, 4, (8, 5)).blocks] == [8, 5]


def test_a_readout_can_be_neurons_that_spike():
    net = network(readout="spikes")
    assert set(net(clip()).unique().tolist()) <= {0.0, 1.0}


def test_bad_arguments_say_what_to_change():
    for how, message in (
        (dict(padding="rihgt"), "unknown padding 'rihgt': did you mean right"),
        (dict(readout="spike"), "unknown readout 'spike': did you mean spikes"),
        (dict(delay_kind="hybrid"), "axonal or synaptic, not 'hybrid'"),
        (dict(kernel_count=2), "kernel_count is 2.*leave it out"),
        (dict(n_layers=0), "at least one hidden layer"),
    ):
        with pytest.raises(ConfigError, match=message):
            RecurrentNet(9, 4, **how)
