"""Networks for memory tasks: spikes by a loop, heads, and how far a curriculum has come."""

import numpy as np
import pytest
import torch

from snndelay import learning
from snndelay.errors import ConfigError
from snndelay.memory_nets import LAYERS, MemoryNet

from ..conftest import assert_close


def loop(net: MemoryNet, x_TBC: np.ndarray, threshold: float, tau_out: float) -> tuple:
    """Logits of the first head and all spikes, written from the equations; delays of axons d."""
    V, b, W, tau, head = (
        p.detach().numpy()
        for p in (
            net.input.weight, net.input.bias, net.layer.weight, net.tau, net.heads["2"].weight,
        )
    )  # fmt: skip
    d_N = np.zeros(len(W), int)
    if net.layer.delay.delays != "none":
        d_N = net.layer.delay.delay_steps.round().long().numpy()
    B, N = x_TBC.shape[1], len(W)
    s_TBN, v_BN, out_BN = np.zeros((len(x_TBC), B, N)), np.zeros((B, N)), np.zeros((B, N))
    for t, x_BC in enumerate(x_TBC):
        heard_BN = np.zeros((B, N))
        for m, d in enumerate(d_N):
            if t - 1 - d >= 0:
                heard_BN[:, m] = s_TBN[t - 1 - d, :, m]
        v_BN = v_BN * (1 - 1 / tau) + x_BC @ V.T + b + heard_BN @ W.T
        s_TBN[t] = v_BN >= threshold
        v_BN = v_BN - threshold * s_TBN[t]
        out_BN = out_BN * (1 - 1 / tau_out) + s_TBN[t]
    return out_BN @ head.T + net.heads["2"].bias.detach().numpy(), s_TBN


@torch.no_grad()
@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("delays", ["none", "fixed", "learned"])
def test_spikes_and_logits_are_those_of_a_loop(delays, backend):
    how = dict(delays=delays, max_delay_steps=5, reset="soft", v_threshold=0.4, tau_out=3.0)
    net = MemoryNet("spiking", n_hidden=12, tau=5.0, backend=backend, **how)
    if backend == "reference":
        net.double()
    learning.set_sigma(net, 0.23)
    net.eval()
    x_TBC = (torch.rand(20, 3, 1) < 0.5).to(net.input.weight.dtype)
    want, want_TBN = loop(net, x_TBC.numpy(), 0.4, 3.0)
    (logits_BM,), (got_TBN,) = net.activity(x_TBC, [2])
    wrong = int((got_TBN.numpy() != want_TBN).sum())
    assert wrong == 0 and 0.02 < want_TBN.mean() < 0.98, f"{wrong} spikes differ of {want_TBN.size}"
    assert_close(logits_BM, torch.from_numpy(want), 1e-5, "logits")


@pytest.mark.parametrize("kind", ["axonal", "synaptic"])
def test_delays_learn_and_stay_in_their_window(kind):
    net = MemoryNet("spiking", n_hidden=30, delays="learned", delay_kind=kind, max_delay_steps=7)
    before = net.layer.position.detach().clone()
    net((torch.rand(12, 8, 1) < 0.5).float()).square().sum().backward()
    assert net.layer.position.grad.abs().sum() > 0
    with torch.no_grad():
        net.layer.position.add_(100.0)
    net.clamp_()
    assert torch.equal(net.layer.position, torch.full_like(before, 3.0))


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
    with pytest.raises(ConfigError, match="rate neurons have none: take spiking"):
        MemoryNet("rate", delays="learned")
    with pytest.raises(ConfigError, match="axonal or synaptic, not 'dendritic'"):
        MemoryNet("spiking", delays="learned", delay_kind="dendritic")
