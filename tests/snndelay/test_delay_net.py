import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from snndelay import DelayNet, delay_lif, losses
from snndelay.errors import ConfigError
from snndelay.kernels import reference
from snndelay.losses import LOSSES

from ..conftest import assert_close


@pytest.mark.parametrize(
    ("sizes", "K", "count"), [((140, 20), 25, 214_016), ((140, 35, 512, 3), 31, 1_230_848)]
)
def test_parameter_counts_are_the_published_ones(sizes, K, count):
    model = DelayNet(*sizes, max_delay_steps=K)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == count


def test_without_delays_a_synapse_has_one_element():
    net = DelayNet(9, 4, 8, delays="none", kernel_count=3)
    assert [len(layer.weight) for layer in net.delay_layers()] == [1, 1, 1]
    net = DelayNet(9, 4, 8, delays="fixed", kernel_count=3)
    assert [len(layer.weight) for layer in net.delay_layers()] == [3, 3, 3]


def peer(model: DelayNet) -> nn.Module:
    """The published composition (Dcls1d, BatchNorm, LIFNode) with the weights of the model."""
    from spikingjelly.activation_based import neuron, surrogate

    class Peer(nn.Module):
        def __init__(self):
            super().__init__()
            self.delays = nn.ModuleList(layer.to_dcls() for layer in model.delay_layers())
            self.norms = nn.ModuleList(copy.deepcopy(b.norm) for b in model.blocks)
            self.K = model.delay_out.max_delay_steps
            self.tau = model.readout.tau

        def lif(self, x, threshold):
            node = neuron.LIFNode(
                self.tau,
                False,
                threshold,
                surrogate_function=surrogate.ATan(5.0),
                detach_reset=True,
                step_mode="m",
                store_v_seq=True,
            )
            s = node(x)
            return s, node.v_seq

        def forward(self, x):
            for i, delay in enumerate(self.delays):
                x = F.pad(x.permute(1, 2, 0), (self.K - 1, (self.K - 1) // 2))
                x = delay(x).permute(2, 0, 1)
                if i < len(self.norms):
                    x = self.norms[i](x.flatten(0, 1)).view_as(x)
                    x, _ = self.lif(x, 1.0)
            return self.lif(x, 1e9)[1]

    return Peer()


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_equals_the_published_composition(backend):
    model = DelayNet(30, 10, 40, max_delay_steps=9, dropout=0.0, backend=backend)
    model.set_sigma(2.0)
    net = peer(model)
    x, y = torch.poisson(torch.full((20, 4, 30), 0.5)), torch.randint(10, (4,))
    v, want = model(x), net(x)
    assert v.shape == (20 + 3 * 4, 4, 10), "T grows by (K-1)//2 per layer"
    assert_close(v, want, 1e-4, "readout potential")
    for out in (v, want):
        LOSSES["softmax_sum"](out, y).backward()
    for layer, dcls in zip(model.delay_layers(), net.delays, strict=True):
        assert_close(layer.weight.grad.permute(1, 2, 0), dcls.weight.grad, 1e-3, "dW")
        assert_close(layer.position.grad.permute(1, 2, 0), dcls.P.grad[0], 1e-3, "dP")


def test_backends_give_the_same_spikes_and_gradients():
    model = DelayNet(20, 5, 30, dropout=0.0)
    reference = DelayNet(20, 5, 30, dropout=0.0, backend="reference")
    reference.load_state_dict(model.state_dict())
    x = torch.poisson(torch.full((40, 3, 20), 0.4))
    (v, s), (v_ref, s_ref) = model.activity(x), reference.activity(x)
    assert [int((a != b).sum()) for a, b in zip(s, s_ref, strict=True)] == [0, 0]
    assert_close(v, v_ref, 1e-5, "readout potential")
    v.square().sum().backward()
    v_ref.square().sum().backward()
    for (name, p), q in zip(model.named_parameters(), reference.parameters(), strict=True):
        assert_close(p.grad, q.grad, 1e-4, name)


@pytest.mark.parametrize("neuron", ["lif", "plif", "adlif"])
def test_a_stream_equals_the_whole_clip(neuron):
    model = DelayNet(12, 4, 16, padding="causal", neuron=neuron, tau=2.0)
    model.eval()
    x = torch.poisson(torch.full((50, 2, 12), 0.5))
    whole, state, parts = model(x), None, []
    assert whole.shape[0] == 50, "causal padding keeps the length"
    for chunk in x.split([7, 1, 30, 12]):
        v, state = model.scan(chunk, state)
        parts.append(v)
    assert_close(torch.cat(parts), whole, 1e-5, "chunks")


@pytest.mark.parametrize("delays", ["learned", "none"])
@pytest.mark.parametrize("backend", ["auto", "reference", "cpu"])
def test_a_network_runs_on_every_backend(backend, delays):
    model = DelayNet(12, 4, 16, backend=backend, delays=delays)
    model(torch.poisson(torch.full((30, 2, 12), 0.5))).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_eval_leaves_the_model_alone():
    model = DelayNet(12, 4, 16)
    before = copy.deepcopy(model.state_dict())
    model.eval()(torch.poisson(torch.full((30, 2, 12), 0.5)))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_set_sigma_and_clamp():
    model = DelayNet(12, 4, 16)
    assert float(model.delay_out.sigma) == 12, "SIG starts at K // 2"
    model.set_sigma(0.23)
    assert [float(d.sigma) for d in model.delay_layers()] == pytest.approx([0.23] * 3)
    model.delay_out.position.data.fill_(99)
    model.clamp_()
    assert model.delay_out.position.max() == 12


def test_one_width_per_layer():
    model = DelayNet(12, 4, (16, 8), max_delay_steps=5)
    assert [block.delay.weight.shape[1:] for block in model.blocks] == [(16, 12), (8, 16)]
    assert model(torch.ones(6, 2, 12)).shape == (6 + 3 * 2, 2, 4)


def test_bad_arguments_say_what_to_change():
    for call, message in (
        (lambda: DelayNet(3, 4, padding="rihgt"), "did you mean right"),
        (lambda: DelayNet(3, 4, ()), "at least one hidden layer"),
        (lambda: DelayNet(3, 4, 0), "n_out must be at least 1, not 0"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("backend", ["cpu", "triton"])
@pytest.mark.parametrize("neuron", ["lif", "adlif"])
def test_evaluation_on_bits_is_that_on_spikes(backend, neuron):
    device = "cuda" if backend == "triton" and torch.cuda.is_available() else "cpu"
    net = DelayNet(10, 3, 37, backend=backend, neuron=neuron)
    net.to(device).eval()
    x = torch.poisson(torch.full((12, 2, 10), 0.5)).to(device)
    with torch.no_grad():
        for block in net.blocks:
            block.delay.weight.mul_(20)  # enough to make neurons fire
        want, spikes = net.activity(x)
        bits = net.blocks[1].packed(net.blocks[0].packed(x))
        assert torch.equal(reference.unpack(bits, 37), spikes[1]) and spikes[1].any()
        assert torch.equal(net(x), want), "packed or not, the potentials are the same"
    net.train()
    with pytest.raises(ValueError, match="packed spikes are for evaluation"):
        net.blocks[0].packed(x)


def test_a_block_gives_its_potentials():
    """In training, with dropout on the spikes; and in evaluation, in chunks."""
    block = DelayNet(5, 2, 7, padding="causal", dropout=0.5, tau=2.0).blocks[0]
    x = torch.poisson(torch.full((30, 2, 5), 0.5))
    s, (_, (v,), _), u = block.scan(x, potentials=True)
    assert u.shape == s.shape and torch.equal(u[-1], v) and s.any()
    assert u[s > 0].eq(0).all() and u.lt(1).all(), "after the reset"
    block.eval()
    s, _, u = block.scan(x, potentials=True)
    assert torch.equal(s, block(x))
    _, state, first = block.scan(x[:11], potentials=True)
    assert_close(torch.cat([first, block.scan(x[11:], state, True)[2]]), u, 1e-6, "chunks")


@pytest.mark.parametrize("backend", ["reference", "cpu", "triton"])
def test_the_op_of_a_block_gives_its_potentials(backend):
    device = "cuda" if backend == "triton" and torch.cuda.is_available() else "cpu"
    block = DelayNet(5, 2, 7, max_delay_steps=3, dropout=0.0, tau=2.0).to(device).blocks[0]
    x = torch.poisson(torch.full((9, 2, 5), 0.5)).to(device)
    given = (x, block.delay.synapses, block.norm.weight, block.norm.bias)
    how = dict(tau=2.0, backend=backend)
    s, (v,), _, u = delay_lif(*given, potentials=True, **how)
    assert torch.equal(s, delay_lif(*given, **how)[0]) and torch.equal(u[-1], v)
    want = delay_lif(*given, potentials=True, tau=2.0, backend="reference")[3]
    assert_close(u, want, 1e-5, "potentials")
    got, wanted = (torch.autograd.grad(a.square().sum(), block.delay.weight) for a in (u, want))
    assert_close(got[0], wanted[0], 1e-4, "dW")


def test_a_readout_can_be_neurons_that_spike():
    """For losses of counts and rates; the neurons are those of the hidden layers."""
    net = DelayNet(9, 4, 8, readout="spikes", neuron="plif", tau=2.0, padding="causal")
    x = torch.poisson(torch.full((20, 3, 9), 0.5))
    s = net(x)
    assert s.shape == (20, 3, 4) and set(s.unique().tolist()) <= {0.0, 1.0}
    losses.spike_count_mse(s, torch.zeros(3, dtype=torch.int64)).backward()
    assert net.readout.w.grad is not None and net.delay_out.weight.grad.abs().sum() > 0
    net.eval()
    whole, (first, state) = net(x), net.scan(x[:7])
    assert torch.equal(whole, torch.cat([first, net.scan(x[7:], state)[0]]))
    with pytest.raises(ConfigError, match="unknown readout 'spike': did you mean spikes"):
        DelayNet(9, 4, 8, readout="spike")
