"""The coefficients that a layer keeps while its constants are not learned and do not change."""

import copy

import pytest
import torch

from snndelay import LIF, DelayNet, LeakyReadout


def spikes(layer, x):
    """Of the compiled scan and of the reference, which knows no coefficients."""
    layer.backend = "cpu"
    compiled = layer(x)
    layer.backend = "reference"
    return compiled, layer(x)


def assert_current(layer, x):
    compiled, wanted = spikes(layer, x)
    assert torch.equal(compiled, wanted), "the coefficients are those of other constants"


def change(layer):
    layer.tau.fill_(3.0)


def load(layer):
    layer.load_state_dict({"tau": torch.full((6,), 3.0)})


def put(layer):
    layer.tau = torch.full((6,), 3.0)


@pytest.mark.parametrize("how", [change, load, put])
def test_a_changed_constant_counts(how):
    layer, x = LIF(6, 1.2), torch.randn(30, 3, 6)
    before, _ = spikes(layer, x)
    how(layer)
    assert_current(layer, x)
    assert not torch.equal(before, spikes(layer, x)[0])


def test_they_are_computed_once():
    layer, x = LIF(6, 1.2), torch.randn(5, 3, 6)
    layer(x)
    kept = layer.settings()["coefficients"]
    layer(x)
    layer.clamp_()
    assert layer.settings()["coefficients"] is kept
    assert layer.settings()["coefficients"][0] is kept[0]


def test_learned_ones_are_not_kept():
    x = torch.randn(5, 3, 6)
    for layer in (LIF(6, 2.0, neuron="plif"), LIF(6, 2.0, learned=True), LIF(6, neuron="adlif")):
        assert layer.settings()["coefficients"] is None
        layer(x).sum().backward()
        assert all(p.grad is not None for p in layer.parameters())


def test_a_copy_keeps_its_own():
    layer, x = LIF(6, 1.2), torch.randn(30, 3, 6)
    layer(x)
    layer.tau.fill_(1.7)
    twin = copy.deepcopy(layer)
    assert_current(twin, x)
    twin.tau.fill_(3.0)
    assert_current(twin, x)
    assert_current(layer, x)


def test_inference_first_and_training_after():
    layer, x = LIF(6, 1.2, backend="cpu"), torch.randn(30, 3, 6, requires_grad=True)
    with torch.inference_mode():
        layer(x)
    layer(x).sum().backward()
    assert x.grad is not None
    with torch.inference_mode():
        born = LIF(6, 1.2, backend="cpu")
        born(x)
        assert born.settings()["coefficients"] is None, "its constants count no changes"


def test_only_learned_constants_are_clamped():
    layer = LIF(6, 1.2)
    before = layer.tau._version
    layer.clamp_()
    assert layer.tau._version == before
    learned = LIF(6, 1.2, learned=True)
    learned.log_tau.data.fill_(-0.5)
    learned.clamp_()
    assert torch.equal(learned.constants()["tau"], torch.ones(6))


@pytest.mark.parametrize("backend", ["reference", "cpu", "triton"])
def test_a_learned_readout_is_a_parametric_neuron_that_never_fires(backend):
    """Values and the gradient of w against SpikingJelly's ParametricLIFNode, which SNN-delays has
    in its output layer, with a threshold out of reach.
    """
    from spikingjelly.activation_based import neuron

    peer = neuron.ParametricLIFNode(
        1.8, decay_input=False, v_threshold=1e9, step_mode="m", store_v_seq=True
    )
    device = "cuda" if backend == "triton" and torch.cuda.is_available() else "cpu"
    layer = LeakyReadout(1.8, learned=True, backend=backend).to(device)
    assert torch.equal(layer.w.cpu(), peer.w) and layer.w.shape == ()
    x, g = torch.randn(30, 3, 5), torch.randn(30, 3, 5)
    peer(x)
    want = peer.v_seq
    (dw_want,) = torch.autograd.grad(want, peer.w, g)
    got = layer(x.to(device))
    (dw,) = torch.autograd.grad(got, layer.w, g.to(device))
    assert torch.allclose(got.cpu(), want, atol=1e-5), (got.cpu() - want).abs().max()
    assert torch.allclose(dw.cpu(), dw_want, rtol=1e-4), (dw, dw_want)
    with torch.no_grad():
        layer.w.fill_(0.0)
    assert layer.tau.item() == 2.0 and "tau learned from 1.8" in repr(layer)


def test_networks_of_plif_learn_the_time_constant_of_their_readout():
    x = torch.poisson(torch.full((20, 2, 6), 0.5))
    net = DelayNet(6, 3, 8, neuron="plif", tau=2.0)
    net(x).square().sum().backward()
    assert net.readout.w.grad.abs() > 0
    assert list(DelayNet(6, 3, 8).readout.parameters()) == []
    with pytest.raises(ValueError, match="more than 1 where it is learned"):
        LeakyReadout(1.0, learned=True)


def test_a_synaptic_current_decays_on_its_own():
    """i[t] = (1 - 1/tau_syn) i[t-1] + x[t] drives the membrane: one pulse, by hand."""
    layer = LIF(1, 4.0, neuron="cuba", tau_syn=2.0, v_threshold=9.0)
    x = torch.zeros(6, 1, 1)
    x[0] = 1.0
    s, (v, i), u = layer.scan(x, potentials=True)
    current = [0.5**t for t in range(6)]
    want = [0.0]
    for amount in current:
        want.append(0.75 * want[-1] + amount)
    assert u.flatten().tolist() == pytest.approx(want[1:]) and not s.any()
    assert i.item() == current[-1] and v.item() == pytest.approx(want[-1])
    assert LIF(3, 5.0, neuron="cuba").tau_syn.tolist() == [5.0] * 3, "else as the membrane's"
    plain, as_plain = LIF(5, 2.0), LIF(5, 2.0, neuron="cuba", tau_syn=1.0)
    x = torch.randn(30, 2, 5) * 2
    assert torch.equal(plain(x), as_plain(x)), "without memory of the current it is a LIF"


def test_thresholds_are_learned_or_one_per_neuron():
    x = torch.randn(30, 2, 3) * 2
    learned = LIF(3, 2.0, v_threshold=0.8, learned_threshold=True)
    assert dict(learned.named_parameters())["v_threshold"].tolist() == pytest.approx([0.8] * 3)
    assert torch.equal(learned(x), LIF(3, 2.0, v_threshold=0.8, backend="reference")(x))
    learned(x).sum().backward()
    assert learned.v_threshold.grad.lt(0).all(), "a higher threshold gives fewer spikes"
    given = LIF(3, 2.0, v_threshold=torch.tensor([0.1, 1.0, 99.0]))
    rates = given(x).mean((0, 1))
    assert rates[0] > rates[1] > rates[2] == 0 and "v_threshold" in given.state_dict()
    assert list(given.parameters()) == []
    assert LIF(v_threshold=0.8, learned_threshold=True).v_threshold.shape == ()
    refractory = LIF(3, 2.0, refractory=2)
    s, (v, left) = refractory.scan(x)
    assert s.sum() < LIF(3, 2.0)(x).sum() and left.shape == v.shape


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"v_threshold": "a"}, "v_threshold must be a finite number, or 6, one for each neuron"),
        ({"v_threshold": torch.rand(4)}, "v_threshold must be a finite number, or 6"),
        ({"v_threshold": [1.0] * 5 + [float("nan")]}, "v_threshold must be a finite number"),
        ({"v_reset": 5.0}, r"v_reset must be below v_threshold, 1\.0, not 5\.0"),
        ({"v_threshold": -1.0}, "v_reset must be below v_threshold"),
        ({"refractory": 2, "reset": "none"}, "refractory steps hold a neuron at its reset"),
    ],
)
def test_thresholds_and_resets_that_cannot_work_are_refused(how, words):
    with pytest.raises(ValueError, match=words):
        LIF(6, **how)


def test_a_list_of_thresholds_is_one_per_neuron():
    layer, x = LIF(2, v_threshold=[0.5, 1e6]), torch.full((4, 3, 2), 0.7)
    s = layer(x)
    assert s[..., 0].any() and not s[..., 1].any()
    assert torch.equal(s, LIF(2, v_threshold=torch.tensor([0.5, 1e6]))(x))
