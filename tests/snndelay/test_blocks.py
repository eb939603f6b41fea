import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from snndelay import LIF, DelayLIF, DelayLinear, LeakyReadout, SpikeDropout, learning
from snndelay.delays import DELAYS
from snndelay.kernels import NEURONS, Synapses, delay_linear
from snndelay.kernels.reference import pack

from ..conftest import assert_close


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
    want = delay_linear(x, Synapses(layer.weight, taps, torch.tensor(0.0), 25, "max"))
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
    learned, fixed, frozen, none = (DelayLinear(4, 3, 9, delays=d) for d in DELAYS)
    assert sum(p.numel() for p in learned.parameters()) == 24
    for layer in (fixed, frozen):
        assert sum(p.numel() for p in layer.parameters()) == 12
        assert "position" in layer.state_dict() and layer.position.std() > 0
    assert torch.equal(fixed.position, fixed.position.round())
    assert not torch.equal(frozen.position, frozen.position.round())
    assert sum(p.numel() for p in none.parameters()) == 12 and none.max_delay_steps == 1
    x = torch.randn(6, 2, 4)
    assert_close(none(x), x @ none.weight[0].T, 1e-6, "no delays = a linear layer")


def test_fixed_delays_are_whole_steps_from_the_start():
    """The published control: y[t] = sum_c w x[t - d] while training too, whatever the width."""
    layer = DelayLinear(4, 3, 9, delays="fixed")
    learning.set_sigma(layer, 4.0)
    x, g = torch.randn(20, 2, 4), torch.randn(20, 2, 3)
    delay = layer.delay_steps[0].round().long()
    dw, want = torch.zeros(3, 4), torch.zeros(20, 2, 3)
    for n, c in itertools.product(range(3), range(4)):
        late = torch.cat([torch.zeros(delay[n, c], 2), x[:, :, c]])[:20]
        want[:, :, n] += layer.weight[0, n, c].detach() * late
        dw[n, c] = (late * g[:, :, n]).sum()
    y = layer(x)
    y.backward(g)
    assert_close(y, want, 1e-5, "training differs from whole steps")
    assert_close(layer.weight.grad[0], dw, 1e-4, "gradient of the weights")
    assert_close(layer.eval()(x), want, 1e-5, "evaluation differs from training")


def test_a_block_trains_fixed_delays_as_it_evaluates_them():
    block = DelayLIF(DelayLinear(6, 5, 7, delays="fixed"), LIF(5))
    x = (torch.rand(15, 3, 6) < 0.4).float()
    block.norm.momentum = None
    s = block(x)
    block.eval()
    block.norm.running_var *= 44 / 45  # normalised by the biased variance, remembered unbiased
    assert 0 < s.mean() < 1 and torch.equal(s, block(x))


@pytest.mark.parametrize("neuron", NEURONS)
def test_neuron_layers_have_their_constants(neuron):
    layer = LIF(6, 2.0, neuron=neuron, dt_ms=10.0)
    x = torch.randn(20, 3, 6) * 3
    s = layer(x)
    assert s.shape == x.shape and set(s.unique().tolist()) <= {0.0, 1.0}
    learned = {n for n, _ in layer.named_parameters()}
    assert learned == {c.held_as(n) for n, c in NEURONS[neuron].constants.items() if c.learned}
    for name in learned:
        getattr(layer, name).data.fill_(1e9)
    layer.clamp_()
    if neuron == "adlif":
        highest = {name: value.max() for name, value in layer.constants().items()}
        assert highest == {"tau_u": 10, "tau_w": 120, "a": 1, "b": 2}


def test_learned_and_per_neuron_tau():
    layer = LIF(tau=torch.tensor([1.5, 2.0, 3.0]), learned=True)
    layer(torch.randn(10, 2, 3)).sum().backward()
    assert layer.log_tau.grad.shape == (3,) and layer.log_tau.grad.abs().sum() > 0
    assert LIF(tau=3.0, learned=True).log_tau.shape == ()


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


def norms():
    frozen = nn.BatchNorm1d(6).eval()
    frozen.running_mean.uniform_(-1, 1)
    return {
        "usual": nn.BatchNorm1d(6),
        "cumulative": nn.BatchNorm1d(6, momentum=None),
        "no momentum": nn.BatchNorm1d(6, momentum=0.0),
        "plain": nn.BatchNorm1d(6, affine=False),
        "no memory": nn.BatchNorm1d(6, track_running_stats=False),
        "frozen": frozen,
        "another": nn.LayerNorm(6),
    }


@pytest.mark.parametrize("delays", ["learned", "none"])
@pytest.mark.parametrize("name", norms())
def test_normalisation_is_that_of_torch(name, delays):
    block = DelayLIF(DelayLinear(5, 6, 9, delays=delays), LIF(6, torch.rand(6) + 1.5, learned=True))
    block.norm = norms()[name]
    for p in block.norm.parameters():
        nn.init.uniform_(p, 0.5, 1.5)
    peer = copy.deepcopy(block)
    for step in range(4):
        if step == 3:
            block.eval(), peer.eval()
        x = torch.poisson(torch.full((20, 3, 5), 0.6))
        s, y = block(x), peer.delay(x)
        want = peer.neuron(peer.norm(y.flatten(0, 1)).view_as(y))
        assert int((s != want).sum()) == 0, f"step {step}: spikes differ"
        g = torch.randn_like(s)
        s.backward(g), want.backward(g)
    for (key, p), q in zip(block.named_parameters(), peer.parameters(), strict=True):
        assert_close(p.grad, q.grad, 1e-5, f"gradient of {key}")
    for (key, p), q in zip(block.named_buffers(), peer.buffers(), strict=True):
        assert_close(p, q, 1e-6, key)


def test_a_batch_of_one_row_has_no_statistics():
    block = DelayLIF(DelayLinear(5, 6, 9), LIF(6))
    for run in (block, block.scan):
        with pytest.raises(ValueError, match="more than one step, sample or place"):
            run(torch.ones(1, 1, 5))


@pytest.mark.parametrize("mask", ["held", "step"])
@pytest.mark.parametrize("batchnorm", [True, False])
def test_dropout_of_a_block(mask, batchnorm):
    synapses, neurons = DelayLinear(8, 500, 5), LIF(500, 2.0)
    block = DelayLIF(synapses, neurons, dropout=0.4, dropout_mask=mask, batchnorm=batchnorm)
    x = torch.poisson(torch.full((30, 3, 8), 1.0))
    s, once_more = block(x), block(x)
    before = block.spikes(x)
    assert set(before.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(s, once_more), "every pass draws a new mask"
    assert ((s == 0) | (s == before / 0.6)).all()
    alive = (s > 0).any(0)[before.any(0)].float().mean()
    low, high = (0.52, 0.68) if mask == "held" else (0.85, 1.0)
    assert low < alive <= high, f"{alive:.2f} of the active neurons are heard"
    dropped = s.sum() * 0.6 / before.sum()
    assert abs(dropped - 0.6) < 0.1, f"{dropped:.2f} of the spikes are left"
    assert torch.equal(block.eval()(x), block.spikes(x))


def test_the_state_dict_of_a_block():
    block = DelayLIF(DelayLinear(5, 6, 9), LIF(6))
    batchnorm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    want = ["delay.weight", "delay.position", "delay.sigma", "delay._extra_state", "neuron.tau"]
    assert list(block.state_dict()) == want + [f"norm.{key}" for key in batchnorm]


@pytest.mark.parametrize("training", [True, False])
def test_a_compiled_block_equals_eager(training):
    block = DelayLIF(DelayLinear(5, 6, 9), LIF(6, 2.0)).train(training)
    twin, x = copy.deepcopy(block), torch.poisson(torch.full((20, 3, 5), 0.6))
    s, got = block(x), torch.compile(twin, fullgraph=True, backend="aot_eager")(x)
    assert torch.equal(s, got)
    g = torch.randn_like(s)
    s.backward(g), got.backward(g)
    for (key, p), q in zip(block.named_parameters(), twin.parameters(), strict=True):
        assert_close(q.grad, p.grad, 1e-5, f"gradient of {key}")
    for (key, p), q in zip(block.named_buffers(), twin.buffers(), strict=True):
        assert_close(q, p, 1e-6, key)


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
        (lambda: DelayLinear(3, 4, version="box"), "version must be one of"),
        (lambda: DelayLinear(0, 4), "at least 1"),
        (lambda: LIF(4, 0.5), "at least 1 step"),
        (lambda: LIF(4, neuron="fil"), "neuron must be one of"),
        (lambda: LeakyReadout(0.1), "at least 1 step"),
        (lambda: SpikeDropout(1.0), "dropout must be in"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_a_held_mask_stays_from_chunk_to_chunk():
    torch.manual_seed(0)
    block = DelayLIF(DelayLinear(6, 40, 3), LIF(40), dropout=0.5, batchnorm=False)
    with torch.no_grad():
        block.delay.weight.fill_(10.0)  # every neuron fires at every step
    state, spikes = None, []
    for chunk in torch.ones(4, 3, 6).split(1):
        s, state = block.scan(chunk, state)
        spikes.append(s)
    spikes = torch.cat(spikes)
    assert torch.equal(spikes, spikes[:1].expand_as(spikes)), "the mask changed within a sample"
    assert 0 < (spikes == 0).float().mean() < 1, "no mask at all"


# -- biases ---


def biased(**settings):
    layer = DelayLinear(5, 6, 9, bias=True, **settings)
    nn.init.uniform_(layer.bias, -1, 1)
    return layer


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("delays", DELAYS)
@pytest.mark.parametrize("extra_steps", [0, 4])
def test_a_bias_is_added_at_every_step(delays, training, extra_steps):
    layer = biased(delays=delays, extra_steps=extra_steps).train(training)
    bare = copy.deepcopy(layer)
    bare.bias = None
    x = torch.poisson(torch.full((20, 3, 5), 0.6))
    for grad in (torch.enable_grad, torch.no_grad):
        with grad():
            assert_close(layer(x), bare(x) + layer.bias, 1e-6, "bias")
    g = torch.randn(20 + extra_steps, 3, 6)
    layer(x).backward(g)
    assert_close(layer.bias.grad, g.sum((0, 1)), 1e-6, "gradient of the bias")


def test_a_bias_is_added_once_to_every_chunk():
    layer, x = biased(), torch.poisson(torch.full((20, 3, 5), 0.6))
    a, history = layer.scan(x[:7])
    b, _ = layer.scan(x[7:], history)
    assert_close(torch.cat([a, b]), layer(x), 1e-6, "chunks")


def test_a_bias_starts_at_zero_and_does_not_decay():
    layer = DelayLinear(5, 6, 9, bias=True)
    assert not layer.bias.any()
    assert "bias" not in DelayLinear(5, 6, 9).state_dict()
    groups = {g["name"]: g for g in learning.parameter_groups(layer, 1e-3, 0.1, 1e-2)}
    assert groups["others"]["params"] == [layer.bias] and groups["others"]["weight_decay"] == 0


@pytest.mark.parametrize("affine", [True, False])
def test_the_batchnorm_of_a_block_takes_the_bias_away(affine):
    block = DelayLIF(biased(), LIF(6))
    block.norm = nn.BatchNorm1d(6, affine=affine)
    peer = copy.deepcopy(block)
    for training in (True, True, False):
        block.train(training), peer.train(training)
        x = torch.poisson(torch.full((20, 3, 5), 0.6))
        s, y = block(x), peer.delay(x)
        want = peer.neuron(peer.norm(y.flatten(0, 1)).view_as(y))
        assert int((s != want).sum()) == 0 and s.any()
        s.sum().backward(), want.sum().backward()
        if training:
            assert not block.delay.bias.grad.any(), "its gradient is 0, not rounding"
    assert_close(block.norm.running_mean, peer.norm.running_mean, 1e-6, "running mean")
    assert_close(block.norm.running_var, peer.norm.running_var, 1e-6, "running variance")


def test_bits_of_spikes_meet_a_bias():
    layer = biased().eval()
    x = (torch.rand(20, 3, 5) < 0.4).float()
    with torch.no_grad():
        assert_close(layer(pack(x)), layer(x), 1e-6, "packed")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sizes", [(12, 16, 9), (70, 64, 25), (12, 8, 1)], ids=str)
@pytest.mark.parametrize("backend", ["auto", "reference", "fft", "cpu"])
def test_autocast_changes_no_bit_of_a_delay_layer(sizes, backend, dtype):
    if backend == "cpu" and dtype == torch.bfloat16:
        backend = "auto"
    layer = DelayLinear(*sizes, backend=backend)
    x = torch.poisson(torch.full((20, 3, sizes[0]), 0.6)).to(dtype)
    for training in (True, False):
        layer.train(training)
        layer(x).float().sum().backward()
        with torch.no_grad():
            want = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                y = layer(x)
            assert layer(x).dtype == dtype, "with a gradient"
        assert torch.equal(y, want) and y.dtype == dtype


def test_a_compiled_delay_layer_gives_the_type_of_its_input_under_autocast():
    layer, x = DelayLinear(12, 16, 9), torch.rand(20, 3, 12)
    with torch.autocast("cpu", torch.bfloat16):
        y = torch.compile(layer, backend="aot_eager", fullgraph=True)(x)
    assert y.dtype == torch.float32
    assert_close(y, layer(x), 1e-5, "compiled under autocast")


def test_fixed_delays_stay_whole_whatever_was_loaded():
    """The positions of a learned layer, say: training and evaluation take the nearest steps."""
    learned, fixed = DelayLinear(6, 5, 7), DelayLinear(6, 5, 7, delays="fixed")
    fixed.load_state_dict(learned.state_dict())
    assert not torch.equal(fixed.position, fixed.position.round())
    assert torch.equal(fixed.synapses.position, fixed.position.round().clamp(-3, 3))
    x = torch.randn(9, 2, 6)
    assert_close(fixed(x), delay_linear(x, fixed.synapses), 1e-6, "the ops see other delays")
    with pytest.raises(ValueError, match="leave out delays"):
        DelayLinear.from_dcls(fixed.to_dcls(), delays="fixed")
