"""Temporal gradients against graphs that are cut by hand, and what they keep in memory."""

import copy
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from snndelay.conv_net import ConvNet
from snndelay.delay_net import DelayNet
from snndelay.errors import ConfigError
from snndelay.gradients import GRADIENTS, backward, set_temporal_gradient
from snndelay.kernels import NeuronOptions
from snndelay.kernels.profile.measure import peak_allocated
from snndelay.kernels.reference import delay_taps
from snndelay.kernels.surrogate import spike

from ..conftest import assert_close

T, B = 4, 3
LABEL = torch.tensor([0, 2, 1])


def conv_net(**settings):
    net = ConvNet("small", 3, (8, 8), n_steps=T, **settings)
    return net, torch.poisson(torch.full((T, B, 2, 8, 8), 0.7))


def delay_net(**settings):
    sizes = dict(n_in=6, n_hidden=8, n_out=3, max_delay_steps=3, dropout=0.0, padding="causal")
    net = DelayNet(**sizes | dict(tau=2.0, surrogate="sigmoid") | settings)
    net.set_sigma(0.5)
    return net, torch.poisson(torch.full((T, B, 6), 0.7))


NETS = {
    "conv": conv_net,
    "conv with delays": lambda: conv_net(max_delay_steps=3),
    "delay": delay_net,
    "adlif": lambda: delay_net(neuron="adlif"),
}


def double(name):
    net, x = NETS[name]()
    return net.double(), x.double()


def runner(net, n_steps=T, label=LABEL):
    """The ``run`` that ``backward`` takes."""

    def run(x, state):
        o_TBN, *_, state = net.scan(x, state)
        return loss_of(o_TBN, label, n_steps), o_TBN, state

    return run


def loss_of(o_TBN, label, n_steps):
    return sum(F.cross_entropy(o_BN, label) for o_BN in o_TBN) / n_steps


def gradients(net, x, gradient="bptt", **how):
    """Gradients of the parameters by name (0 for those that got none), and the loss."""
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    set_temporal_gradient(net, gradient)
    loss, _ = backward(runner(net, len(x)), [x], gradient=gradient, **how)
    return {k: p.grad.clone() for k, p in net.named_parameters()}, loss


def assert_same(got, want, rel=1e-12):
    assert got.keys() == want.keys()
    for name, g in got.items():
        assert_close(g, want[name], rel, f"gradient of {name}")


# -- the same networks from plain torch, cut by hand ---


def lif_by_hand(z_T, tau, o, v, cut):
    spikes, v = [], torch.zeros_like(z_T[0]) if v is None else v
    for z in z_T:
        v = v.detach() if cut else v
        h = v + (z - v) / tau if o.decay_input else (1 - 1 / tau) * v + z
        s = spike(h - o.v_threshold, o.surrogate, o.alpha)
        v = h * (1 - s.detach())
        spikes.append(s)
    return torch.stack(spikes), v


def conv_by_hand(net, x, gradient):
    """Logits of a ConvNet of ConvLIF blocks with average pooling."""
    sltt = gradient == "sltt"
    state = [None] * len(net.blocks)
    logits = []
    for chunk in x.split(1) if sltt else [x]:
        s, steps = chunk, len(chunk)
        for i, block in enumerate(net.blocks):
            s = F.avg_pool2d(s.flatten(0, 1), 2) if block.pool else s.flatten(0, 1)
            y = F.conv2d(s, block.conv.weight, padding=1)
            z = F.batch_norm(y, None, None, block.norm.weight, block.norm.bias, True)
            z = z.unflatten(0, (steps, B))
            (tau,) = block.neuron.constants().values()
            cut = gradient != "bptt"
            s, state[i] = lif_by_hand(z, tau.view(-1, 1, 1), block.neuron.options, state[i], cut)
        s = F.avg_pool2d(s.flatten(0, 1), 2) if net.pool else s.flatten(0, 1)
        o = net.heads["event"](s.permute(0, 2, 3, 1).flatten(1))
        logits.append(o.unflatten(0, (steps, B)))
    return torch.cat(logits)


def current_by_hand(delay, x, history, sltt):
    """Delayed input of these steps, after the inputs in ``history``."""
    K = delay.max_delay_steps
    k_NCK = delay_taps(delay.synapses)
    before = history or [torch.zeros_like(x[0])] * (K - 1)
    seen = [*([h.detach() for h in before] if sltt else before), *x]
    y = [sum(seen[t + i] @ k_NCK[..., i].T for i in range(K)) for t in range(len(x))]
    return torch.stack(y), seen[len(seen) - K + 1 :]


def delay_by_hand(net, x, gradient):
    """Potentials of a DelayNet of leaky neurons."""
    sltt, cut = gradient == "sltt", gradient != "bptt"
    history, state = [None] * (len(net.blocks) + 1), [None] * len(net.blocks)
    v, potentials = torch.zeros(B, 3, dtype=x.dtype), []
    for chunk in x.split(1) if sltt else [x]:
        s = chunk
        for i, block in enumerate(net.blocks):
            y, history[i] = current_by_hand(block.delay, s, history[i], sltt)
            norm = block.norm
            z = F.batch_norm(y.flatten(0, 1), None, None, norm.weight, norm.bias, True).view_as(y)
            (tau,) = block.neuron.constants().values()
            s, state[i] = lif_by_hand(z, tau, block.neuron.options, state[i], cut)
        y, history[-1] = current_by_hand(net.delay_out, s, history[-1], sltt)
        for y_BN in y:
            v = (1 - 1 / net.readout.tau) * (v.detach() if sltt else v) + y_BN
            potentials.append(v)
    return torch.stack(potentials)


BY_HAND = {"conv": conv_by_hand, "delay": delay_by_hand}


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("name", BY_HAND)
def test_gradients_are_those_of_the_detached_graph(name, gradient):
    net, x = double(name)
    got, loss = gradients(net, x, gradient)
    net.zero_grad()
    want = loss_of(BY_HAND[name](net, x, gradient), LABEL, T)
    want.backward()
    assert_close(loss, want, 1e-12, "loss")
    assert_same(got, {k: p.grad for k, p in net.named_parameters()})
    full, _ = gradients(net, x)
    first = next(iter(full))
    assert gradient == "bptt" or not torch.allclose(got[first], full[first]), "nothing was cut"


@pytest.mark.parametrize("name", NETS)
def test_one_step_is_one_step(name):
    net, x = double(name)
    full, _ = gradients(net, x[:1])
    assert_same(gradients(net, x[:1], "sltt")[0], full)


class Draw:
    """A generator that draws this."""

    def __init__(self, steps):
        self.steps = steps

    def choice(self, n, k, replace):
        assert (n, k, replace) == (T, len(self.steps), False)
        return self.steps


@pytest.mark.parametrize(
    ("name", "training"),
    [*((name, True) for name in NETS), ("conv", False), ("conv with delays", False)],
)
def test_the_mean_over_all_choices_of_k_steps_is_k_of_t_parts(name, training):
    net, x = double(name)
    net.train(training)
    want, loss = gradients(net, x, "sltt")
    K, means = 2, {}
    choices = list(itertools.combinations(range(T), K))
    for steps in choices:
        got, share = gradients(net, x, "sltt", backward_steps=K, generator=Draw(steps))
        assert_close(share, loss, 1e-12, "loss: that of all steps")
        means = {k: means.get(k, 0) + g / len(choices) for k, g in got.items()}
    assert_same(means, {k: g * (K / T) for k, g in want.items()})


def test_the_drawn_steps_are_seeded_distinct_and_any():
    seen = []

    def run(t_T, state):
        if torch.is_grad_enabled():
            seen[-1] += t_T.tolist()
        return torch.zeros((), requires_grad=True) * 1, None, None

    for seed in (*range(40), 0):
        seen.append([])
        how = dict(gradient="sltt", backward_steps=3, generator=np.random.default_rng(seed))
        backward(run, [torch.arange(10)], **how)
    assert all(len(set(steps)) == 3 for steps in seen)
    assert seen[0] == seen[-1] != seen[1]
    assert set(itertools.chain(*seen)) == set(range(10))
    for _ in range(2):
        torch.manual_seed(5)
        seen.append([])
        backward(run, [torch.arange(10)], gradient="sltt", backward_steps=3)
    assert seen[-1] == seen[-2], "without a generator, torch's seed counts"


def test_steps_without_gradient_update_the_running_statistics():
    net, x = conv_net()
    twin = copy.deepcopy(net)
    gradients(net, x, "sltt")
    gradients(twin, x, "sltt", backward_steps=1, generator=np.random.default_rng(0))
    for (name, a), b in zip(net.named_buffers(), twin.buffers(), strict=True):
        assert torch.equal(a, b), name
    assert net.blocks[0].norm.num_batches_tracked == T


def test_outputs_and_loss_hold_no_graph():
    net, x = conv_net()
    run = runner(net)

    def nested(x, t_T, state):
        loss, o_TBN, state = run(x, state)
        return loss, {"o": [o_TBN], "t": (int(t_T[0]), None)}, state

    for gradient, n in (("sltt", T), ("bptt", 1)):
        loss, outputs = backward(nested, [x, torch.arange(T)], gradient=gradient)
        assert not loss.requires_grad and [out["t"] for out in outputs] == [
            (t, None) for t in range(n)
        ]
        assert not any(out["o"][0].requires_grad for out in outputs)
        assert torch.cat([out["o"][0] for out in outputs]).shape == (T, B, 3)


def test_steps_without_gradient_spoil_no_weight_under_autocast():
    """Autocast keeps the converted weights; those of a step without gradient must not serve the
    next one.
    """
    net, x = conv_net()
    plain = runner(net)

    def inside(x, state):
        with torch.autocast("cpu", torch.bfloat16):
            return plain(x, state)

    grads = []
    for around in (False, True):
        net.zero_grad()
        how = dict(gradient="sltt", backward_steps=1, generator=Draw([T - 1]))
        with torch.autocast("cpu", torch.bfloat16, enabled=around):
            backward(plain if around else inside, [x], **how)
        grads.append({k: p.grad for k, p in net.named_parameters()})
    for name, want in grads[0].items():
        assert want.abs().sum() > 0 and want.dtype == torch.float32, name
        assert torch.equal(grads[1][name], want), name


def test_a_scaler_scales_every_step():
    net, x = conv_net()
    want, loss = gradients(net, x, "sltt")
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    got, scaled_loss = gradients(net, x, "sltt", scaler=scaler)
    assert_close(scaled_loss, loss, 1e-6, "the loss that is returned")
    assert_same(got, {k: g * 8 for k, g in want.items()}, 1e-6)


def test_the_mode_is_set_in_every_neuron_and_back():
    net, _ = NETS["conv"]()
    found = [m for m in net.modules() if isinstance(getattr(m, "options", None), NeuronOptions)]
    assert len(found) == net.n_layers == 3
    for gradient, cut in (("detach_state", True), ("bptt", False)):
        set_temporal_gradient(net, gradient)
        assert [m.options.detach_state for m in found] == [cut] * 3


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (dict(gradient="online"), "must be one of bptt, detach_state, sltt, not 'online'"),
        (dict(gradient="sltt", backward_steps=5), "1 to the number of steps, 4, not 5"),
        (dict(gradient="sltt", backward_steps=0), "1 to the number of steps, 4, not 0"),
        (dict(gradient="bptt", backward_steps=2), "needs the temporal gradient sltt, not bptt"),
        (dict(gradient="sltt", backward_steps=0.5), "a whole number, not 0.5"),
        (dict(gradient="sltt", backward_steps=True), "a whole number, not True"),
        (
            dict(gradient="sltt", backward_steps=2, generator=torch.Generator()),
            r"one of numpy, numpy.random.default_rng\(seed\), not torch",
        ),
        (dict(gradient="detach_state"), r'set_temporal_gradient\(net, "detach_state"\) first'),
    ],
)
def test_bad_settings_say_what_to_change(how, message):
    net, x = conv_net()
    with pytest.raises(ConfigError, match=message):
        backward(runner(net), [x], **how)


def test_a_refused_run_leaves_the_next_one_alone():
    net, x = conv_net()
    with pytest.raises(ConfigError, match="detach_state"):
        backward(runner(net), [x], gradient="detach_state")
    backward(runner(net), [x])
    set_temporal_gradient(net, "detach_state")
    backward(runner(net), [x], gradient="detach_state")
    backward(runner(net), [x], gradient="sltt", backward_steps=np.int64(2))


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        (torch.zeros(4, 3), "a list of tensors, .* not a tensor"),
        ([torch.zeros(4), torch.zeros(3)], "one length of at least 1 step, not 3, 4"),
        ([torch.zeros(0)], "at least 1 step, not 0"),
        ([None], "at least 1 step, not none"),
    ],
    ids=["a tensor", "two lengths", "no step", "nothing"],
)
def test_sequences_that_are_none(sequences, message):
    with pytest.raises(ConfigError, match=message):
        backward(lambda *_: None, sequences, gradient="sltt")


def peak(net, x, gradient="bptt"):
    gradients(net, x, gradient)
    run = runner(net, len(x))
    return peak_allocated(lambda: backward(run, [x], gradient=gradient))


def test_memory_does_not_grow_with_the_steps():
    net, x = ConvNet("small", 3, (24, 24)), torch.poisson(torch.full((40, B, 2, 24, 24), 0.7))
    few, many = peak(net, x[:5], "sltt"), peak(net, x, "sltt")
    assert many < 1.05 * few, f"{many} bytes at 40 steps, {few} at 5"
    assert peak(net, x) > 4 * peak(net, x[:5]), "or else this measures nothing"
