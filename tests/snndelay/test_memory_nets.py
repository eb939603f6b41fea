"""Networks for memory tasks: spikes by a loop, heads, and how far a curriculum has come."""

import pytest
import torch

from snndelay.errors import ConfigError
from snndelay.memory_nets import LAYERS, MemoryNet, SpikingRecurrent

from ..conftest import assert_close


def test_spikes_are_those_of_a_loop():
    layer = SpikingRecurrent(1, 12, 5.0, reset="soft", v_threshold=0.4)
    with torch.no_grad():
        layer.input.weight.mul_(2)
    x_TBC = (torch.rand(20, 3, 1) < 0.5).float()
    W, V, b, tau = layer.weight, layer.input.weight, layer.input.bias, layer.tau
    s_BN = v_BN = torch.zeros(3, 12)
    want = []
    for x_BC in x_TBC:
        h_BN = v_BN * (1 - 1 / tau) + x_BC @ V.T + b + s_BN @ W.T
        s_BN = (h_BN >= 0.4).float()
        v_BN = h_BN - 0.4 * s_BN
        want.append(s_BN)
    got = layer(x_TBC)
    wrong = int((got != torch.stack(want)).sum())
    assert wrong == 0 and 0.02 < got.mean() < 0.98, f"{wrong} spikes differ of {got.numel()}"


@pytest.mark.parametrize("layer", LAYERS)
def test_heads_read_the_last_step(layer):
    net = MemoryNet(layer, n_hidden=20, n_start=3, n_max=6)
    x_TBC = (torch.rand(9, 4, 1) < 0.5).float()
    logits, (r_TBN,) = net.activity(x_TBC, [3, 5])
    assert logits.shape == (2, 4, 2) and r_TBN.shape == (9, 4, 20)
    last_BN = r_TBN[-1]
    if layer == "spiking":
        last_BN = torch.zeros(4, 20)
        for r_BN in r_TBN:
            last_BN = last_BN * (1 - 1 / 2.0) + r_BN
    for i, n in enumerate((3, 5)):
        assert_close(logits[i], net.heads[str(n)](last_BN), 1e-6, f"head {n}")
    assert torch.equal(net(x_TBC), net(x_TBC, [3])), "the current N, unless others are asked for"
    _, state = net.scan(x_TBC[:4])
    assert_close(net.scan(x_TBC[4:], state, [5])[0], logits[1:], 1e-6, "chunks")


@pytest.mark.parametrize("layer", LAYERS)
def test_all_that_learns_has_a_gradient(layer):
    net = MemoryNet(layer, n_hidden=40, n_start=2, n_max=3)
    net((torch.rand(12, 8, 1) < 0.5).float(), [2, 3]).square().sum().backward()
    missing = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not missing, missing
    assert net.tau.shape == (40,)


def test_time_constants_can_be_held():
    for layer in LAYERS:
        names = {n for n, _ in MemoryNet(layer, learn_tau=False).named_parameters()}
        assert [n for n, p in MemoryNet(layer).named_parameters() if n.endswith("tau")]
        learned = {
            n for n in names if MemoryNet(layer, learn_tau=False).get_parameter(n).requires_grad
        }
        assert not [n for n in learned if n.endswith("tau")], learned


def test_progress_goes_from_the_first_to_the_last_head():
    net = MemoryNet("rate", n_hidden=5, n_start=2, n_max=4)
    seen = [(net.current, net.solved, net.done)]
    for _ in range(4):
        net.advance_()
        seen.append((net.current, net.solved, net.done))
    assert seen == [(2, 0, False), (3, 2, False), (4, 3, False), (4, 4, True), (4, 4, True)]
    again = MemoryNet("rate", n_hidden=5, n_start=2, n_max=4)
    again.load_state_dict(net.state_dict())
    assert again.done and again.solved == 4


def test_the_next_head_starts_as_drawn_or_as_the_last_one():
    net = MemoryNet("rate", n_hidden=5, n_start=2, n_max=4)
    drawn = net.heads["3"].weight.clone()
    net.advance_()
    assert torch.equal(net.heads["3"].weight, drawn)
    net.advance_(inherit=True)
    assert torch.equal(net.heads["4"].weight, drawn)
    assert net.heads["4"].weight.data_ptr() != net.heads["3"].weight.data_ptr()


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ConfigError, match="no memory layer 'rates': did you mean rate"):
        MemoryNet("rates")
    with pytest.raises(ConfigError, match="n_max is 2: choose n_start, 5, or more"):
        MemoryNet("rate", n_start=5, n_max=2)
