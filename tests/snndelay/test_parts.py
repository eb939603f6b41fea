"""Blocks whose parts somebody looks at: hooks, reparametrised weights, other norms."""

import copy
import dataclasses
import warnings

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.utils import parametrizations, prune

from snndelay import (
    LIF,
    AxonalDelay,
    ConvLIF,
    DelayLIF,
    DelayLinear,
    DelayNet,
    ResidualLIF,
    learning,
)
from snndelay.conv_net import ConvNet
from snndelay.recompute import recompute_

from ..conftest import assert_close


def delay_block(**settings):
    return DelayLIF(DelayLinear(6, 8, 7), LIF(8, 2.0), **settings)


def conv_block(**settings):
    return ConvLIF(2, 8, delay=AxonalDelay(2, 3), **settings)


BLOCKS = {"delay": delay_block, "conv": conv_block, "residual": lambda: ResidualLIF(2, 8)}
PARTS = {"delay": "delay", "conv": "conv"}


def spikes_in(block, T=12):
    shape = (T, 3, 6) if isinstance(block, DelayLIF) else (T, 2, 2, 6, 5)
    return (torch.rand(shape) < 0.4).float()


def old(wrap):
    def run(*args, **how):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls them deprecated; users have them
            return wrap(*args, **how)

    return run


REPARAMETRISED = {
    "prune": (lambda m: prune.random_unstructured(m, "weight", 0.5), "weight_orig"),
    "spectral_norm hooks": (
        old(lambda m: nn.utils.spectral_norm(m, "weight", dim=1)),
        "weight_orig",
    ),
    "weight_norm hooks": (old(lambda m: nn.utils.weight_norm(m, "weight", 1)), "weight_v"),
    "spectral_norm": (
        lambda m: parametrizations.spectral_norm(m, "weight", dim=1),
        "parametrizations.weight.original",
    ),
    "weight_norm": (
        lambda m: parametrizations.weight_norm(m, "weight", 1),
        "parametrizations.weight.original1",
    ),
}


def by_parts(block, x):
    y = block.delay(x)
    if isinstance(block, DelayLIF):
        return block.neuron(block.norm(y.flatten(0, 1)).view_as(y))
    y = block.norm(block.conv(y.flatten(0, 1))).permute(0, 2, 3, 1).unflatten(0, x.shape[:2])
    return block.neuron(y).permute(0, 1, 4, 2, 3)


@pytest.mark.parametrize("wrap", REPARAMETRISED)
@pytest.mark.parametrize("name", ["delay", "conv"])
def test_reparametrised_weights_train(name, wrap):
    block, peer = BLOCKS[name]().double(), BLOCKS[name]().double()
    for each in (block, peer):
        each.to(memory_format=torch.contiguous_format)  # torch's pruning wants it, see ConvLIF
    reparametrise, trained = REPARAMETRISED[wrap]
    reparametrise(block.get_submodule(PARTS[name]))
    reparametrise(peer.get_submodule(PARTS[name]))
    peer.load_state_dict(block.state_dict())
    for step in range(3):  # a weight of the last step's graph would fail in the second
        x = spikes_in(block).double()
        s, want = block(x), by_parts(peer, x)
        assert int((s != want).sum()) == 0, f"step {step}: spikes differ"
        g = torch.randn_like(s)
        s.backward(g), want.backward(g)
    grads = {key: p.grad for key, p in block.named_parameters()}
    assert grads[f"{PARTS[name]}.{trained}"].abs().sum() > 0
    for key, p in peer.named_parameters():
        assert_close(grads[key], p.grad, 1e-4, f"gradient of {key}")


@pytest.mark.parametrize("wrap", REPARAMETRISED)
@pytest.mark.parametrize("name", ["delay", "conv"])
def test_recomputing_goes_by_the_same_weights(name, wrap):
    block = BLOCKS[name]().to(memory_format=torch.contiguous_format)
    twin = BLOCKS[name]().to(memory_format=torch.contiguous_format)
    for each in (block, twin):
        REPARAMETRISED[wrap][0](each.get_submodule(PARTS[name]))
    twin.load_state_dict(block.state_dict())
    recompute_(block)
    for _ in range(2):
        x = spikes_in(twin)
        s, want = block(x), twin(x)
        g = torch.randn_like(s)
        s.backward(g), want.backward(g)
    for (key, p), q in zip(block.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad), f"gradient of {key}"
    for (key, p), q in zip(block.named_buffers(), twin.buffers(), strict=True):
        assert torch.equal(p, q), key


# where a graph breaks, dynamo looks at .grad of what is handed on
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.parametrize("name", ["delay", "conv"])
def test_a_compiled_block_with_hooks_equals_eager(name):
    block = BLOCKS[name](dropout=0.2)
    for part in block.children():
        part.register_forward_hook(lambda m, x, y: None)
    compiled, x = torch.compile(copy.deepcopy(block), backend="eager"), spikes_in(block)
    torch.manual_seed(0)
    want = block(x)
    torch.manual_seed(0)
    assert torch.equal(compiled(x), want)


@pytest.mark.parametrize("part", ["position", "neuron", "norm"])
def test_any_tensor_of_a_block_may_be_reparametrised(part):
    block = ConvLIF(2, 8, delay=AxonalDelay(2, 5), neuron="plif")
    module = {"position": block.delay, "neuron": block.neuron, "norm": block.norm}[part]
    tensor = {"position": "position", "neuron": "w", "norm": "weight"}[part]
    prune.random_unstructured(module, tensor, 0.5)
    for _ in range(2):
        block(spikes_in(block)).sum().backward()
    assert getattr(module, f"{tensor}_orig").grad.abs().sum() > 0


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mask", ["held", "step"])
@pytest.mark.parametrize("name", ["delay", "conv"])
def test_hooks_on_the_parts_fire_and_change_nothing(name, mask, training):
    block = BLOCKS[name](dropout=0.3, dropout_mask=mask).train(training)
    twin, seen = copy.deepcopy(block), {}
    for key, part in twin.named_children():
        part.register_forward_hook(lambda m, x, y, key=key: seen.setdefault(key, []).append(y))
    x = spikes_in(block)
    torch.manual_seed(1)
    want = block(x)
    torch.manual_seed(1)
    got = twin(x)
    assert set(seen) == {key for key, _ in twin.named_children()}
    assert all(len(outputs) == 1 for outputs in seen.values())
    assert int((got != want).sum()) == 0, "spikes differ"
    last = seen["dropout"][0]
    assert torch.equal(got, last if name == "delay" else last.permute(0, 1, 4, 2, 3))
    assert set(seen["neuron"][0].unique().tolist()) == {0.0, 1.0}
    if training:
        assert want.max() > 1, "dropout draws the same with and without hooks"


@pytest.mark.parametrize("name", BLOCKS)
def test_a_monitor_hears_every_chunk(name):
    from spikingjelly.activation_based import monitor

    block = BLOCKS[name]().eval()
    x, twin = spikes_in(block), copy.deepcopy(block)
    heard = monitor.OutputMonitor(block, LIF)
    a, state = block.scan(x[:5])
    b, _ = block.scan(x[5:], state)
    assert len(heard.records) == (4 if name == "residual" else 2)
    assert torch.equal(torch.cat([a, b]), twin(x)), "a chunk starts from another state"


def test_a_hook_may_change_what_a_part_gives():
    block = delay_block()
    block.neuron.register_forward_hook(lambda m, x, y: y * 0)
    assert not block(spikes_in(block)).any()


def test_hooks_on_the_blocks_of_a_network_fire():
    delays, heard = DelayNet(6, 3, 8, 1, max_delay_steps=5, padding="causal"), []
    conv = ConvNet("vgg", 3, (48, 48))
    for block in (delays.blocks[0], conv.blocks[0]):
        block.register_forward_hook(lambda m, x, y: heard.append(type(m).__name__))
    delays(torch.rand(4, 2, 6)), delays.scan(torch.rand(4, 2, 6)), conv(torch.rand(2, 1, 2, 48, 48))
    assert heard == ["DelayLIF", "DelayLIF", "ConvLIF"]


@pytest.mark.parametrize("name", ["delay", "conv"])
def test_without_hooks_the_parts_are_not_called(name, monkeypatch):
    def forbidden(*_):
        raise AssertionError("a part is called as a module")

    for cls in (nn.BatchNorm1d, nn.BatchNorm2d, nn.modules.batchnorm._BatchNorm, LIF):
        monkeypatch.setattr(cls, "forward", forbidden)
    block = BLOCKS[name]()
    block(spikes_in(block))
    block.eval()(spikes_in(block))


@pytest.mark.parametrize(
    "norm", [nn.Identity(), nn.GroupNorm(4, 8), nn.SyncBatchNorm(8).eval(), "layer"], ids=str
)
@pytest.mark.parametrize("name", ["delay", "conv"])
def test_another_norm_is_called(name, norm):
    block = BLOCKS[name]()
    layer = nn.LayerNorm(8 if name == "delay" else [8, 6, 5])
    block.norm = layer if norm == "layer" else copy.deepcopy(norm)
    peer = copy.deepcopy(block)
    x = spikes_in(block)
    s, want = block(x), by_parts(peer, x)
    assert int((s != want).sum()) == 0 and s.any()
    g = torch.randn_like(s)
    s.backward(g), want.backward(g)
    for (key, p), q in zip(block.named_parameters(), peer.parameters(), strict=True):
        assert_close(p.grad, q.grad, 1e-5, f"gradient of {key}")


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("watched", [False, True])
def test_a_synchronised_norm_of_one_process_is_a_local_one(name, watched):
    """torch's own forward would refuse a CPU; test_ranks.py has several processes."""
    block = BLOCKS[name]()
    peer = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(block))
    if watched:
        next(m for m in peer.modules() if isinstance(m, LIF)).register_forward_hook(lambda *_: None)
    x = spikes_in(block)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        got, want = peer(x), block(x)
    finally:
        dist.destroy_process_group()
    assert int((got != want).sum()) == 0 and want.any()
    for (key, b), other in zip(block.named_buffers(), peer.buffers(), strict=True):
        assert_close(other, b, 1e-6, key)
    assert_close(peer.eval()(x), block.eval()(x), 0, "evaluation")


def test_a_norm_that_has_nothing_to_average_over_is_refused():
    block = delay_block()
    block.norm = nn.InstanceNorm1d(8)
    with pytest.raises(ValueError, match="nothing to average over"):
        block(spikes_in(block))


def test_a_neuron_or_dropout_of_ones_own():
    class Threshold(nn.Module):
        def forward(self, x_TBN):
            return (x_TBN > 1).to(x_TBN.dtype)

    block = delay_block()
    block.neuron, block.dropout = Threshold(), nn.Dropout(0.5).eval()
    x = spikes_in(block)
    y = block.delay(x)
    want = (block.norm(y.flatten(0, 1)).view_as(y) > 1).float()
    assert torch.equal(block(x), want) and want.any()
    _, state = block.scan(x)
    with pytest.raises(ValueError, match="Threshold has a forward of its own"):
        block.scan(x, state)


def test_a_hooked_block_packs_no_bits():
    net = DelayNet(6, 3, 8, 2, max_delay_steps=5, backend="reference").eval()
    x, heard = spikes_in(net.blocks[0]), []
    net.blocks[0].neuron.register_forward_hook(lambda *_: heard.append(1))
    assert not net.blocks[0].packs and net.blocks[1].packs
    with torch.no_grad(), pytest.raises(ValueError, match="packs no spikes"):
        net.blocks[0].packed(x)


def test_hooks_on_the_halves_of_a_residual_block_fire():
    block, heard = ResidualLIF(2, 8), []
    for half in (block.first, block.second):
        half.register_forward_hook(lambda _, x, y: heard.append(y))
    x = spikes_in(block)
    block(x)
    assert len(heard) == 2 and torch.equal(block.eval()(x), heard[-1])
    _, spikes = block.activity(x)
    assert len(heard) == 6 and torch.equal(spikes, heard[-1])


def test_a_pruned_net_can_be_copied_unrounded_after_a_pass():
    net = nn.Sequential(delay_block())
    prune.l1_unstructured(net[0].delay, "weight", 0.5)
    x = spikes_in(net[0])
    net(x)
    learning.set_sigma(net, 0.23)
    twin = learning.unrounded(net).eval()
    twin(x)
    assert torch.equal(twin[0].delay.weight, net[0].delay.weight) and twin[0].delay.rounded is False
    net(x).sum().backward()
    assert net[0].delay.weight_orig.grad is not None


def test_a_forward_of_ones_own_is_what_counts():
    class Silent(AxonalDelay):
        def forward(self, x_TBCHW):
            return x_TBCHW * 0

    block = ConvLIF(2, 3, delay=Silent(2, 5))
    x = spikes_in(block)
    block.norm.bias.data.fill_(-1.0)
    assert block(x).sum() == 0
    _, state = block.scan(x)
    with pytest.raises(ValueError, match="Silent has a forward of its own and no scan"):
        block.scan(x, state)
    block = delay_block()
    block.dropout.forward = lambda s: s * 0
    assert block(spikes_in(block)).sum() == 0


def test_options_that_change_change_the_neuron():
    layer, x = LIF(4, 2.0), torch.rand(9, 2, 4) * 2
    layer(x)
    layer.options = dataclasses.replace(layer.options, decay_input=True)
    assert torch.equal(layer(x), LIF(4, 2.0, decay_input=True)(x))


def test_cells_are_right_after_to_empty():
    net = ConvNet("vgg11", 3, (32, 32))
    with torch.device("meta"):
        twin = ConvNet("vgg11", 3, (32, 32))
    twin.to_empty(device="cpu").load_state_dict(net.state_dict())
    assert torch.equal(twin.cells.members_SP, net.cells.members_SP)
