import copy

import pytest
import torch
import torch.nn.functional as F
from snndelay.kernels import NEURONS, delay_linear
from torch import nn

from snndelay import LIF, DelayLIF, DelayLinear, LeakyReadout, SpikeDropout

from .conftest import assert_close


@pytest.mark.parametrize("version", ["v0", "v1", "max", "gauss"])
@pytest.mark.parametrize("kernel_count", [1, 2])
@pytest.mark.parametrize("K", [1, 6, 25])
def test_dcls_and_back(version, kernel_count, K):
    from DCLS.construct.modules import Dcls1d

    peer = Dcls1d(7, 5, kernel_count, dilated_kernel_size=K, bias=False, version=version)
    if peer.SIG is not None:
        nn.init.uniform_(peer.SIG, 0, 3)
    layer = DelayLinear.from_dcls(peer)
    x = torch.poisson(torch.full((30, 2, 7), 0.5))
    want = peer(F.pad(x.permute(1, 2, 0), (K - 1, 0))).permute(2, 0, 1)
    assert_close(layer(x), want, 1e-5, f"{version} K={K}")
    back = layer.to_dcls()
    for name, value in peer.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), f"{name} changed on the way"


def test_from_dcls_refuses_what_a_delay_layer_has_not():
    from DCLS.construct.modules import Dcls1d

    with pytest.raises(ValueError, match="bias=False"):
        DelayLinear.from_dcls(Dcls1d(3, 4, 1, dilated_kernel_size=5, bias=True))


def test_delay_steps_are_the_delays():
    layer = DelayLinear(1, 1, 9)
    for position in (-4, -1, 0, 3, 4):
        layer.position.data.fill_(position)
        y = layer.eval()(F.pad(torch.ones(1, 1, 1), (0, 0, 0, 0, 0, 19)))
        delay = int(layer.delay_steps)
        assert delay == 4 - position, f"P = {position}"
        assert (
            y.squeeze().nonzero().flatten().tolist() == [delay]
            or abs(y[delay].item() - layer.weight.item()) < 1e-5
        )


def test_eval_rounds_without_touching_the_layer():
    layer = DelayLinear(4, 3, 25)
    before = copy.deepcopy(layer.state_dict())
    x = torch.poisson(torch.full((30, 2, 4), 0.5))
    y = layer.eval()(x)
    taps = layer.position.round()
    want = delay_linear(x, layer.weight, taps, torch.tensor(0.0), 25, "max")
    assert_close(y, want, 1e-6, "rounded delays")
    assert not torch.allclose(layer.train()(x), y), "training must use the wide kernel"
    layer.eval().rounded = False
    assert torch.allclose(layer(x), layer.train()(x)), "rounded=False must keep the wide kernel"
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())


def test_clamp_and_round():
    layer = DelayLinear(2, 2, 5)
    layer.position.data.copy_(torch.tensor([[[-9.0, 9.0], [0.4, -1.6]]]))
    layer.clamp_()
    assert layer.position.data.flatten().tolist() == pytest.approx([-2, 2, 0.4, -1.6])
    layer.round_()
    assert layer.position.data.flatten().tolist() == [-2, 2, 0, -2]


@pytest.mark.parametrize("K", [1, 2, 24, 25])
def test_every_delay_lies_in_the_window(K):
    layer = DelayLinear(30, 40, K)
    for position in (layer.position, torch.full_like(layer.position, 99.0)):
        layer.position.data.copy_(position)
        layer.clamp_()
        assert layer.delay_steps.min() >= 0 and layer.delay_steps.max() <= K - 1
    y = layer.eval()(torch.ones(K, 1, 30))
    assert_close(y[-1, 0], layer.weight.sum((0, 2)), 1e-5, "a synapse has lost its tap")


def test_kinds_of_delays():
    learned, fixed, none = (DelayLinear(4, 3, 9, delays=d) for d in ("learned", "fixed", "none"))
    assert sum(p.numel() for p in learned.parameters()) == 24
    assert sum(p.numel() for p in fixed.parameters()) == 12
    assert "position" in fixed.state_dict() and fixed.position.std() > 0
    assert sum(p.numel() for p in none.parameters()) == 12 and none.max_delay_steps == 1
    x = torch.randn(6, 2, 4)
    assert_close(none(x), x @ none.weight[0].T, 1e-6, "no delays = a linear layer")


@pytest.mark.parametrize("neuron", NEURONS)
def test_neuron_layers_have_their_constants(neuron):
    layer = LIF(6, 2.0, neuron=neuron, dt_ms=10.0)
    x = torch.randn(20, 3, 6) * 3
    s = layer(x)
    assert s.shape == x.shape and set(s.unique().tolist()) <= {0.0, 1.0}
    learned = {n for n, _ in layer.named_parameters()}
    assert learned == {n for n, c in NEURONS[neuron].constants.items() if c.learned}
    for name in learned:
        getattr(layer, name).data.fill_(1e9)
    layer.clamp_()
    if neuron == "adlif":
        assert layer.tau_u.max() == 10 and layer.tau_w.max() == 120 and layer.a.max() == 1


def test_learned_and_per_neuron_tau():
    layer = LIF(tau=torch.tensor([1.5, 2.0, 3.0]), learned=True)
    layer(torch.randn(10, 2, 3)).sum().backward()
    assert layer.tau.grad.shape == (3,) and layer.tau.grad.abs().sum() > 0
    assert LIF(tau=3.0, learned=True).tau.shape == ()


def test_plif_starts_at_tau():
    assert torch.sigmoid(LIF(4, 3.0, neuron="plif").w).tolist() == pytest.approx([1 / 3] * 4)


def test_dropout_masks():
    s = torch.ones(50, 4, 100)
    held, step = SpikeDropout(0.5, "held")(s), SpikeDropout(0.5, "step")(s)
    assert (held == held[0]).all() and not (step == step[0]).all()
    assert set(held.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(SpikeDropout(0.5).eval()(s), s)


def test_block_in_sequential_beside_spikingjelly():
    from spikingjelly.activation_based import functional, layer, neuron

    net = nn.Sequential(
        DelayLIF(DelayLinear(8, 16, 5), LIF(16, 2.0), dropout=0.1),
        layer.Linear(16, 12, step_mode="m"),
        neuron.LIFNode(2.0, step_mode="m"),
        DelayLinear(12, 3, 5),
        LeakyReadout(2.0),
    )
    x = torch.poisson(torch.full((20, 4, 8), 0.5))
    net(x).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    functional.reset_net(net)
    y = net.eval()(x)
    functional.reset_net(net)
    assert torch.equal(net(x), y), "our layers must hold no state between calls"


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_chunks_equal_one_run(backend):
    block = DelayLIF(DelayLinear(5, 7, 9, backend=backend), LIF(7, 2.0, backend=backend)).eval()
    x = torch.poisson(torch.full((40, 2, 5), 1.0))
    whole, state, parts = block(x), None, []
    for chunk in x.split([3, 1, 20, 16]):
        s, state = block.scan(chunk, state)
        parts.append(s)
    assert int((torch.cat(parts) != whole).sum()) == 0
    with pytest.raises(ValueError, match="extra_steps"):
        DelayLinear(5, 7, 9, extra_steps=4).scan(x)


def test_bad_arguments_say_what_is_wrong():
    for make, message in (
        (lambda: DelayLinear(3, 4, delays="some"), "delays must be one of"),
        (lambda: DelayLinear(3, 4, kernel="box"), "kernel must be one of"),
        (lambda: DelayLinear(0, 4), "at least 1"),
        (lambda: LIF(4, 0.5), "at least 1 step"),
        (lambda: LIF(4, neuron="fil"), "neuron must be one of"),
        (lambda: LeakyReadout(0.1), "at least 1 step"),
        (lambda: SpikeDropout(1.0), "dropout must be in"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
