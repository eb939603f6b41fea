"""The layers as modules among other people's: saved, copied, made without memory, transformed."""

import copy
import io
import pickle

import pytest
import torch
from torch import func

from snndelay import LIF, AxonalDelay, ConvLIF, DelayLIF, DelayLinear, DelayNet, ResidualLIF
from snndelay.errors import BackendError
from snndelay.gradients import set_temporal_gradient
from snndelay.kernels.reference import pack
from snndelay.recompute import recompute_

from ..conftest import assert_close

SPIKES, IMAGES = (10, 3, 6), (4, 2, 2, 6, 5)
MODULES = {
    "linear": (lambda: DelayLinear(6, 8, 7, bias=True), SPIKES),
    "block": (lambda: DelayLIF(DelayLinear(6, 8, 7), LIF(8)), SPIKES),
    "none": (lambda: DelayLIF(DelayLinear(6, 8, delays="none"), LIF(8)), SPIKES),
    "conv": (lambda: ConvLIF(2, 8, delay=AxonalDelay(2, 3)), IMAGES),
    "residual": (lambda: ResidualLIF(2, 8), IMAGES),
    "network": (lambda: DelayNet(6, 3, 8, 2, max_delay_steps=5, dropout=0.0), SPIKES),
}


def made(name):
    make, shape = MODULES[name]
    return make(), (torch.rand(shape) < 0.4).float()


def saved(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


MODES = {
    "plain": lambda m: m,
    "recompute": lambda m: recompute_(m) or m,
    "sltt": lambda m: set_temporal_gradient(m, "sltt") or m,
    "torch.compile": lambda m: torch.compile(m, backend="eager"),
    "compile": lambda m: m.compile(backend="eager") or m,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MODULES)
def test_whole_modules_are_saved_and_copied_in_every_mode(name, mode):
    module, x = made(name)
    module = MODES[mode](module)
    module(x).sum().backward()
    for again in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), saved(module)):
        twin = copy.deepcopy(module)
        assert [type(m) for m in again.modules()] == [type(m) for m in module.modules()]
        s, want = again(x), twin(x)
        assert torch.equal(s, want)
        again.zero_grad(), twin.zero_grad()
        g = torch.randn_like(s)
        s.backward(g), want.backward(g)
        for (key, p), q in zip(again.named_parameters(), twin.parameters(), strict=True):
            assert torch.equal(p.grad, q.grad), f"gradient of {key}"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_without_memory_is_filled_from_a_file(name):
    source, x = made(name)
    with torch.device("meta"):
        module = MODULES[name][0]()
        assert module(x.to("meta")).device.type == "meta"
    module.to_empty(device="cpu")
    for buffer in module.buffers():
        buffer.fill_(float("nan")) if buffer.is_floating_point() else None
    module.load_state_dict(source.state_dict())
    for training in (True, False):
        assert torch.equal(module.train(training)(x), source.train(training)(x))


@pytest.mark.parametrize("name", MODULES)
def test_functional_call_with_autograd(name):
    module, x = made(name)
    twin = copy.deepcopy(module)
    given = {k: p.detach().clone().requires_grad_() for k, p in module.named_parameters()}
    s, want = func.functional_call(module, given, (x,)), twin(x)
    g = torch.randn_like(s)
    s.backward(g), want.backward(g)
    for key, p in twin.named_parameters():
        assert torch.equal(given[key].grad, p.grad), f"gradient of {key}"
    assert all(p.grad is None for p in module.parameters())


def test_synapses_are_transformed_by_torch_func():
    layer, x = DelayLinear(140, 256, 25), torch.rand(40, 2, 140)  # else by frequencies
    grads = func.grad(lambda p: func.functional_call(layer, p, (x,)).square().sum())(
        dict(layer.named_parameters())
    )
    layer(x).square().sum().backward()
    for key, p in layer.named_parameters():
        assert_close(grads[key], p.grad, 1e-4, key)
    y = func.vmap(layer)(torch.stack([x, 2 * x]))
    assert_close(y[1], layer(2 * x), 1e-5, "vmap")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["block", "conv", "network"])
def test_neurons_refuse_torch_func_in_one_sentence(name, training):
    module, x = made(name)
    module.train(training)
    given = dict(module.named_parameters())
    with pytest.raises(BackendError, match="functional_call, which works"):
        func.grad(lambda p: func.functional_call(module, p, (x,)).sum())(given)
    with pytest.raises(BackendError, match="a loop in place of vmap"):
        func.vmap(module)(torch.stack([x, x]))


@pytest.mark.parametrize("make", [lambda K: DelayLinear(6, 8, K), lambda K: AxonalDelay(6, K)])
def test_positions_of_another_window_are_refused(make):
    source, layer = make(9), make(11)
    before = layer.position.detach().clone()
    for strict in (True, False):
        with pytest.raises(RuntimeError, match=r"middle of 9 taps.*this layer has 11.*steps=9"):
            layer.load_state_dict(source.state_dict(), strict=strict)
    assert torch.equal(layer.position, before)
    make(9).load_state_dict(source.state_dict())
    state = {k: v for k, v in source.state_dict().items() if not k.endswith("_extra_state")}
    make(9).load_state_dict(state)  # of a file that was written before K was
    file = io.BytesIO()
    torch.save(source.state_dict(), file)
    file.seek(0)
    with pytest.raises(RuntimeError, match="middle of 9 taps"):
        layer.load_state_dict(torch.load(file, weights_only=True))


@pytest.mark.parametrize("name", ["linear", "block"])
def test_bits_are_for_evaluation(name):
    module, x = made(name)
    with pytest.raises(ValueError, match=r"packed into bits.*evaluation on whole delays"):
        module(pack(x))
    with pytest.raises(ValueError, match="packed into bits"):
        module.eval()(pack(x))
    with torch.no_grad():
        assert torch.equal(module(pack(x)), module(x))


def test_counts_of_one_channel_are_not_read_as_bits():
    layer = DelayLinear(1, 4, 5).eval()
    x = torch.tensor([1, 2, 0, 4, 7], dtype=torch.int32).view(5, 1, 1)
    with torch.no_grad():
        assert torch.equal(layer(x), layer(x.float()))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("extra_steps", [0, 3])
def test_one_step_of_time_for_any_number_of_taps(training, extra_steps):
    x = torch.rand(1, 2, 3)
    for K in (*range(1, 66), 96, 128, 243):
        layer = DelayLinear(3, 2, K, extra_steps=extra_steps).train(training)
        plain = copy.deepcopy(layer)
        plain.backend = "reference"
        assert_close(layer(x), plain(x), 1e-5, f"K = {K}")
