"""Layers whose synapses share delays: equal to a delay layer that has the same delay at each of its
synapses, to depthwise convolutions of the package dcls, and to a loop over spikes.
"""

import pytest
import torch
from torch import nn

from snndelay import ConfigError, DelayLIF, DelayLinear, DelayNet, SharedDelayLinear, learning
from snndelay.delays import DELAY_KINDS
from snndelay.delays.shared import SHARED
from snndelay.kernels.delay import VERSIONS

from ...conftest import assert_close

T, B, C, N = 23, 3, 6, 5
ONE_PER = {"axonal": lambda p: p, "dendritic": lambda p: p[:, None], "common": lambda p: p}


def spikes(C=C, dtype=torch.float64):
    return (torch.rand(T, B, C) < 0.3).to(dtype)


def twin_of(layer, **options):
    """A layer of one delay per synapse with the same weights and delays."""
    part = layer.axon or layer.dendrite
    K, how = layer.max_delay_steps, dict(delays=layer.delays, version=part.version)
    twin = DelayLinear(C, N, K, extra_steps=layer.extra_steps, **how, **options)
    twin.weight = nn.Parameter(layer.weight.detach()[None].clone())
    position = ONE_PER[layer.kind](part.position.detach()).expand(N, C)[None].clone()
    twin.position = nn.Parameter(position) if layer.delays == "learned" else position
    twin.sigma.copy_(part.sigma)
    return twin.train(layer.training)


@pytest.mark.parametrize("K", [1, 6, 9])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ONE_PER)
def test_equals_the_same_delay_at_each_synapse(kind, version, K):
    how = dict(kind=kind, version=version, sigma=1.3, extra_steps=K // 2)
    layer, x = SharedDelayLinear(C, N, K, **how).double(), spikes().requires_grad_()
    twin = twin_of(layer).double()
    got, want = layer(x), twin(x)
    assert_close(got, want, 1e-6, "current")  # delay_taps divides by sum + 1e-7 in both
    g = torch.randn_like(got)
    part = layer.axon or layer.dendrite
    a = torch.autograd.grad(got, [x, layer.weight, part.position], g, materialize_grads=True)
    b = torch.autograd.grad(want, [x, twin.weight, twin.position], g, materialize_grads=True)
    assert_close(a[0], b[0], 1e-6, "gradient of x")
    assert_close(a[1], b[1][0], 1e-6, "gradient of the weights")
    axes = {"axonal": 0, "dendritic": 1, "common": (0, 1)}[kind]
    summed = b[2][0].sum(axes).view_as(a[2])
    assert (a[2] - summed).abs().max() <= 1e-6 * (1 + summed.abs().max()), "gradient of delays"


@pytest.mark.parametrize("kind", ONE_PER)
@pytest.mark.parametrize("delays", ["learned", "fixed", "frozen"])
def test_rounds_as_the_same_delay_at_each_synapse(kind, delays):
    layer = SharedDelayLinear(C, N, 9, kind=kind, delays=delays).double().eval()
    twin, x = twin_of(layer).double(), spikes()
    with torch.no_grad():
        assert_close(layer(x), twin(x), 1e-12, "current")
    assert (layer.delay_steps.expand(N, C) - twin.delay_steps[0]).abs().max() < 1e-6


def test_a_fixed_delay_is_one_tap_while_it_trains():
    layer = SharedDelayLinear(C, N, 9, delays="fixed").double()
    assert torch.equal(layer.axon.taps().count_nonzero(1), torch.ones(C, dtype=torch.long))
    assert layer(spikes()).requires_grad and not layer.axon.position.requires_grad


@pytest.mark.parametrize("training", [True, False])
def test_hybrid_is_a_learned_delay_per_input_and_a_fixed_one_per_synapse(training):
    K, sigma = 10, 0.8
    layer = SharedDelayLinear(C, N, K, kind="hybrid", sigma=sigma).double().train(training)
    x, w = spikes(), layer.weight.detach()[0]
    assert layer.axon.max_delay_steps + layer.synapses.max_delay_steps - 1 == K
    taps, K_axon = layer.axon.taps().detach(), layer.axon.max_delay_steps
    fixed = layer.synapses.delay_steps[0].round().long()
    want = torch.zeros(T, B, N, dtype=torch.float64)
    for n in range(N):
        for c in range(C):
            for i in range(K_axon):
                d = K_axon - 1 - i + int(fixed[n, c])
                want[d:, :, n] += w[n, c] * taps[c, i] * x[: T - d, :, c]
    assert_close(layer(x), want, 1e-6, "current")
    learned = [name for name, p in layer.named_parameters() if p.requires_grad]
    assert learned == ["axon.position", "synapses.weight"]
    steps = layer.axon.delay_steps + layer.synapses.delay_steps[0]
    assert torch.equal(layer.delay_steps, steps) and steps.min() >= 0 and steps.max() <= K - 1


@pytest.mark.parametrize("version", ["gauss", "max", "v1"])
@pytest.mark.parametrize("kind", ["axonal", "dendritic"])
def test_equals_depthwise_dcls(kind, version):
    construct = pytest.importorskip("DCLS.construct.modules")
    K, n = 9, {"axonal": C, "dendritic": N}[kind]
    layer = SharedDelayLinear(C, N, K, kind=kind, version=version, sigma=1.1)
    part = layer.axon or layer.dendrite
    how = dict(kernel_count=1, groups=n, dilated_kernel_size=K, bias=False, version=version)
    peer = construct.Dcls1d(n, n, **how)
    with torch.no_grad():
        peer.weight.fill_(1.0)
        peer.P.copy_(part.position.view_as(peer.P))
        if peer.SIG is not None:
            peer.SIG.fill_(1.1)

    def depthwise(x):
        return peer(nn.functional.pad(x.permute(1, 2, 0), (K - 1, 0))).permute(2, 0, 1)

    x, w = spikes(dtype=torch.float32), layer.weight
    want = depthwise(x) @ w.T if kind == "axonal" else depthwise(x @ w.T)
    got, g = layer(x), torch.randn(T, B, N)
    assert_close(got, want, 1e-5, "current")
    a = torch.autograd.grad(got, [w, part.position], g)
    b = torch.autograd.grad(want, [w, peer.P], g)
    assert_close(a[0], b[0], 1e-5, "gradient of the weights")
    assert_close(a[1], b[1].view_as(a[1]), 1e-4, "gradient of the positions")


@pytest.mark.parametrize("kind", SHARED)
def test_gradients_are_those_of_finite_differences(kind):
    layer = SharedDelayLinear(C, N, 5, kind=kind, sigma=1.3, backend="reference").double()
    part = layer.axon or layer.dendrite
    names, values = ["position"], [part.position.detach().clone().requires_grad_()]

    def run(x, position):
        return torch.func.functional_call(layer, {_name(layer, names[0]): position}, (x,))

    x = torch.randn(7, 2, C, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (x, *values), eps=1e-6, atol=1e-6)


def _name(layer, name):
    return f"{'axon' if layer.axon is not None else 'dendrite'}.{name}"


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", DELAY_KINDS)
def test_chunks_equal_the_whole(kind, training):
    layer = DELAY_KINDS[kind](C, N, 8, bias=True).double().train(training)
    x, state, parts = spikes(), None, []
    for chunk in x.split((1, 5, 2, 15)):
        y, state = layer.scan(chunk, state)
        parts.append(y)
    assert_close(torch.cat(parts), layer(x), 1e-12, "chunks")
    longer = DELAY_KINDS[kind](C, N, 8, extra_steps=3)
    assert len(longer(spikes(dtype=torch.float32))) == T + 3
    with pytest.raises(ValueError, match="cannot run in chunks"):
        longer.scan(x)


@pytest.mark.parametrize("kind", DELAY_KINDS)
def test_without_delays_every_kind_is_a_product(kind):
    layer, x = DELAY_KINDS[kind](C, N, 8, delays="none"), spikes(dtype=torch.float32)
    w = layer.weight.view(N, C)
    assert_close(layer(x), x @ w.T, 1e-6, "current")
    assert not [name for name, _ in layer.named_parameters() if "position" in name]


@pytest.mark.parametrize("kind", DELAY_KINDS)
def test_a_network_of_each_kind_learns_its_delays(kind):
    net = DelayNet(C, 4, 8, 1, max_delay_steps=7, delay_kind=kind, tau=2.0, dropout=0.0)
    groups = learning.parameter_groups(net, 1e-2, 0.5)
    positions = next(g["params"] for g in groups if g["name"] == "positions")
    count = {"axonal": C + 8, "dendritic": 8 + 4, "common": 2, "hybrid": C + 8}
    assert sum(p.numel() for p in positions) == count.get(kind, 8 * C + 4 * 8)
    before = [p.detach().clone() for p in positions]
    optimizer = torch.optim.Adam(groups)
    for _ in range(3):
        net(spikes(dtype=torch.float32)).square().mean().backward()
        optimizer.step()
        learning.clamp_(net)
    assert all((p - b).abs().max() > 0 for p, b in zip(positions, before, strict=True))
    learning.set_sigma(net, 0.23)
    assert all(float(layer.sigma) == pytest.approx(0.23) for layer in net.delay_layers())
    x, causal = spikes(dtype=torch.float32), dict(padding="causal", delay_kind=kind)
    streamed = DelayNet(C, 4, 8, 1, max_delay_steps=7, **causal).eval()
    learning.set_sigma(streamed, 0.23)
    with torch.no_grad():
        a, state = streamed.scan(x[:10])
        b, _ = streamed.scan(x[10:], state)
        assert_close(torch.cat([a, b]), streamed(x), 1e-5, "chunks of a network")
        net.load_state_dict(net.state_dict())


def test_a_block_takes_any_kind():
    from snndelay import LIF

    block = DelayLIF(SharedDelayLinear(C, N, 5, extra_steps=2), LIF(N, 2.0))
    assert block(spikes(dtype=torch.float32)).shape == (T + 2, B, N)
    assert not block.packs


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: SharedDelayLinear(C, N, kind="neural"), "kind must be one of axonal"),
        (lambda: SharedDelayLinear(C, N, 0), "max_delay_steps must be at least 1"),
        (lambda: SharedDelayLinear(C, N, extra_steps=-1), "extra_steps must be at least 0"),
        (lambda: SharedDelayLinear(C, N, delays="some"), "delays must be one of"),
        (lambda: DelayNet(C, N, delay_kind="axonl"), "unknown delay_kind 'axonl': did you mean ax"),
    ],
)
def test_refused(make, text):
    with pytest.raises((ValueError, ConfigError), match=text):
        make()


def test_saved_positions_of_another_window_are_refused():
    state = SharedDelayLinear(C, N, 9).state_dict()
    with pytest.raises(RuntimeError, match="position counts from the middle of 9 taps"):
        SharedDelayLinear(C, N, 7).load_state_dict(state)


def test_rounded_is_that_of_the_parts():
    layer = SharedDelayLinear(C, N, 9, kind="hybrid")
    assert layer.rounded is None
    layer.rounded = True
    assert layer.axon.rounded and layer.synapses.rounded and layer.rounded
