import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from snndelay import DelayLinear
from snndelay.conv import AxonalDelay, ConvLIF, ResidualLIF, channels_last

from ..conftest import assert_close

NEURON = dict(v_threshold=0.5, decay_input=True, surrogate="piecewise_quadratic", alpha=2.0)


def spikes(T=6, B=3, C=4, H=9, W=7, dtype=torch.float32):
    return torch.bernoulli(torch.full((T, B, C, H, W), 0.3, dtype=dtype))


def peer_node():
    """SpikingJelly's neuron with the constants of NEURON."""
    from spikingjelly.activation_based import neuron, surrogate

    return neuron.LIFNode(
        2.0,
        True,
        0.5,
        surrogate_function=surrogate.PiecewiseQuadratic(2.0),
        detach_reset=True,
        step_mode="m",
        store_v_seq=True,
    )


def over_steps(layer: nn.Module, x_TBCHW):
    return layer(x_TBCHW.flatten(0, 1)).unflatten(0, x_TBCHW.shape[:2])


def compare(got, want, parameters, rel, what):
    """Values, and the gradients of a random cotangent in the pairs of ``parameters``."""
    assert int((got != want).sum()) == 0, f"{what}: {int((got != want).sum())} spikes differ"
    cotangent = torch.randn_like(got)
    for name, (p, q) in parameters.items():
        a, b = (torch.autograd.grad(o, w, cotangent, retain_graph=True)[0]
                for o, w in ((got, p), (want, q)))  # fmt: skip
        assert b.abs().max() > 0, f"{what}: the gradient of {name} is 0 and shows nothing"
        assert_close(a, b, rel, f"{what}: gradient of {name}")


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize(("stride", "pool"), [(1, None), (2, "average"), (1, "max")])
def test_equals_the_layers_of_spikingjelly(stride, pool, dtype, rel):
    block = ConvLIF(4, 6, stride=stride, pool=pool, **NEURON).to(dtype)
    nn.init.uniform_(block.norm.bias, 0, 1)
    conv, norm, node = copy.deepcopy(block.conv), copy.deepcopy(block.norm), peer_node()
    x, x_peer = (spikes(dtype=dtype).requires_grad_() for _ in range(2))
    x_peer.data.copy_(x.data)
    pooled = {None: nn.Identity(), "average": nn.AvgPool2d(2), "max": nn.MaxPool2d(2)}[pool]
    want = node(over_steps(nn.Sequential(pooled, conv, norm), x_peer))
    got, _, u = block.scan(x, potentials=True)
    pairs = dict(
        x=(x, x_peer),
        weight=(block.conv.weight, conv.weight),
        scale=(block.norm.weight, norm.weight),
        shift=(block.norm.bias, norm.bias),
    )
    compare(got, want, pairs, rel, "step by step")
    assert_close(u, node.v_seq, rel, "potentials after the reset")
    compare(block(x), want, pairs, rel, "in one scan")
    assert_close(block.norm.running_mean, 1.9 * norm.running_mean, 1e-5, "running mean, twice")
    block.norm.load_state_dict(norm.state_dict())
    norm.eval()
    node.reset()
    want = node(over_steps(nn.Sequential(pooled, conv, norm), x_peer))
    assert torch.equal(block.eval()(x), want), "evaluation"


@pytest.mark.parametrize("c_in", [4, 6])
def test_a_residual_block_equals_its_parts(c_in):
    block = ResidualLIF(c_in, 6, stride=1 + (c_in != 6), **NEURON).double()
    twin = copy.deepcopy(block)
    x = spikes(C=c_in, dtype=torch.float64)
    first, second, nodes = twin.first, twin.second, [peer_node(), peer_node()]
    s = nodes[0](over_steps(nn.Sequential(first.conv, first.norm), x))
    current = over_steps(second.conv, s) + over_steps(twin.shortcut, x)
    want = nodes[1](over_steps(second.norm, current))
    got, _, u = block.scan(x, potentials=True)
    pairs = {
        k: (p, q)
        for (k, p), q in zip(block.named_parameters(), twin.parameters(), strict=True)
        if not k.endswith(("conv.bias", "shortcut.bias"))  # BatchNorm takes those away again
    }
    compare(got, want, pairs, 1e-9, "residual block")
    assert_close(u, nodes[1].v_seq, 1e-9, "potentials of the second layer")
    inner, outer = block.activity(x)
    assert torch.equal(inner, s) and torch.equal(outer, want)


def test_a_residual_block_drops_spikes_inside_only():
    block, x = ResidualLIF(4, 6, dropout=0.5, **NEURON), spikes()
    inner, outer = block.activity(x)
    assert set(inner.unique().tolist()) == {0.0, 2.0} and set(outer.unique().tolist()) == {0.0, 1.0}


def test_potentials_carry_a_gradient():
    block = ConvLIF(4, 6, **NEURON).double()
    x, g = spikes(dtype=torch.float64), torch.randn(6, 3, 6, 9, 7, dtype=torch.float64)
    node = peer_node()
    node(over_steps(nn.Sequential(block.conv, copy.deepcopy(block.norm)), x))
    want = torch.autograd.grad(node.v_seq, block.conv.weight, g)[0]
    got = torch.autograd.grad(block.scan(x, potentials=True)[2], block.conv.weight, g)[0]
    assert_close(got, want, 1e-10, "dW through the potentials")


@pytest.mark.parametrize("potentials", [False, True])
@pytest.mark.parametrize("settings", [{}, {"delay": 4}, {"pool": "average", "delay": 4}])
def test_chunks_equal_the_whole(settings, potentials):
    delay = AxonalDelay(4, 4) if "delay" in settings else None
    block = ConvLIF(4, 6, **settings | {"delay": delay}, dropout=0.4, **NEURON)
    block.norm.eval()  # the statistics of a chunk would be its own
    x = spikes(T=11)
    torch.manual_seed(1)
    whole = block.scan(x, None, potentials)
    torch.manual_seed(1)
    state, parts = None, []
    for chunk in x.split([3, 1, 7]):
        s, state, *u = block.scan(chunk, state, potentials)
        parts.append((s, *u))
    for i, part in enumerate(zip(*parts, strict=True)):
        assert_close(torch.cat(part), whole[2 * i], 1e-6, ("spikes", "potentials")[i])
    assert_close(state[1][0], whole[1][1][0], 1e-6, "state after the last step")


def test_dropout_holds_its_mask_or_draws_it_anew():
    x = torch.ones(8, 2, 1, 5, 5)
    for mask, held in (("held", True), ("step", False)):
        block = ConvLIF(1, 30, 1, dropout=0.5, dropout_mask=mask, reset="none", v_threshold=-9.0)
        for potentials in (False, True):
            s = block.scan(x, potentials=potentials)[0]
            assert set(s.unique().tolist()) == {0.0, 2.0}
            assert 0.45 < (s == 0).float().mean() < 0.55
            assert bool((s == s[0]).all()) == held, f"mask {mask}"
        assert block.eval()(x).eq(1).all(), "no dropout outside training"


def test_channels_last_changes_nothing_and_costs_no_copy():
    block = ConvLIF(4, 6, **NEURON)
    x = spikes()
    last = channels_last(x)
    assert last.permute(0, 1, 3, 4, 2).is_contiguous() and torch.equal(last, x)
    assert channels_last(last).data_ptr() == last.data_ptr(), "no copy of what is so already"
    a, b = block(x), block(last)
    assert torch.equal(a, b)
    for s in (a, b):
        assert s.permute(0, 1, 3, 4, 2).is_contiguous(), "the spikes are channels last"
    g = torch.randn_like(a)
    da, db = (torch.autograd.grad(s, block.conv.weight, g)[0] for s in (a, b))
    assert_close(da, db, 1e-5, "dW")


def test_backends_agree():
    block = ConvLIF(4, 6, delay=AxonalDelay(4, 3), **NEURON)
    twin = ConvLIF(4, 6, delay=AxonalDelay(4, 3), backend="reference", **NEURON)
    twin.load_state_dict(block.state_dict())
    x = spikes()
    named = zip(block.named_parameters(), twin.parameters(), strict=True)
    pairs = {name: (p, q) for (name, p), q in named}
    compare(block(x), twin(x), pairs, 1e-4, "compiled against reference")


def test_half_precision_keeps_the_state_in_single():
    block, x = ConvLIF(4, 6, delay=AxonalDelay(4, 3), dropout=0.2, **NEURON), spikes()
    with torch.autocast("cpu", torch.bfloat16):
        s, (_, (v,), _), u = block.scan(x, potentials=True)
        (s.sum() + u.square().sum()).backward()
    assert (s.dtype, v.dtype, u.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    assert all(p.grad.isfinite().all() and p.grad.any() for p in block.parameters())


def test_a_delay_shifts_by_whole_steps_in_evaluation():
    layer, x = AxonalDelay(5, 5).eval(), spikes(T=12, C=5)
    layer.position.data.copy_(torch.tensor([-2.0, -0.6, 0.3, 1.4, 2.0]))
    y, steps = layer(x), layer.delay_steps.round().long().tolist()
    assert steps == [4, 3, 2, 1, 0]
    for c, d in enumerate(steps):
        assert torch.equal(y[d:, :, c], x[: 12 - d, :, c]), f"channel {c} by {d} steps"
        assert not y[:d, :, c].any(), f"channel {c}: nothing before the first event"


@pytest.mark.parametrize("version", ["gauss", "max", "v1", "v0"])
@pytest.mark.parametrize("K", [1, 4, 5])
def test_a_delay_equals_a_diagonal_delay_layer(K, version):
    layer = AxonalDelay(4, K, version=version, sigma=1.3).double()
    synapses = DelayLinear(4, 4, K, version=version, sigma=1.3).double()
    synapses.weight.data.copy_(torch.eye(4))
    synapses.position.data.copy_(layer.position.data.expand(4, 4))
    x, g = spikes(T=9, dtype=torch.float64), torch.randn(9, 3, 4, 9, 7, dtype=torch.float64)
    y = layer(x)
    want = synapses(x.movedim(2, -1).flatten(1, 3)).view(9, 3, 9, 7, 4).movedim(-1, 2)
    assert_close(y, want, 1e-6, "delayed input")
    if K > 1:
        d_position = torch.autograd.grad(y, layer.position, g)[0]
        d_synapses = torch.autograd.grad(want, synapses.position, g)[0]
        assert d_position.abs().min() > 0
        assert_close(d_position, d_synapses[0].diagonal(), 1e-6, "gradient of the positions")


def test_a_delay_is_clamped_and_may_stay_wide():
    layer, x = AxonalDelay(4, 6), spikes(T=9)
    layer.position.data.copy_(torch.tensor([-9.0, -1.0, 0.4, 9.0]))
    layer.clamp_()
    assert layer.position.tolist() == pytest.approx([-3, -1, 0.4, 2])
    assert layer.delay_steps.tolist() == pytest.approx([5, 3, 1.6, 0])
    wide = layer(x)
    layer.eval().rounded = False
    assert torch.equal(layer(x), wide), "rounded=False keeps the wide kernel"
    layer.rounded = None
    assert not torch.equal(layer(x), wide)


def test_gradients_reach_the_positions_through_a_block():
    block = ConvLIF(4, 6, pool="average", delay=AxonalDelay(4, 5, sigma=1.0), **NEURON)
    block(spikes(T=12)).sum().backward()
    assert block.delay.position.grad.abs().min() > 0


def test_wrong_arguments_are_named():
    for call, message in (
        (lambda: ConvLIF(2, 4, pool="mean"), "pool must be None, average or max, not 'mean'"),
        (lambda: AxonalDelay(2, 0), "max_delay_steps must be at least 1, not 0"),
        (lambda: AxonalDelay(2, 3, version="cosine"), "version must be one of"),
        (lambda: ConvLIF(2, 4, 1)(torch.ones(1, 1, 2, 1, 1)), "more than one step"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_block_pools_before_it_convolves():
    block, x = ConvLIF(4, 6, pool="average", **NEURON), spikes()
    plain = ConvLIF(4, 6, **NEURON)
    plain.load_state_dict(block.state_dict())
    assert torch.equal(block(x), plain(over_steps(lambda a: F.avg_pool2d(a, 2), x)))
