"""A training step makes no host tensor, copies nothing to or from the host and waits for nothing,
so that a CUDA graph can record it. Held without a GPU, on a device that does not exist."""

import pytest
import torch
from torch import nn

from snndelay import LOSSES, ConvNet, DelayNet, backward, clamp_, parameter_groups, sigma_at
from snndelay.kernels import fft_conv
from snndelay.learning import set_sigma
from snndelay.transfer import step_loss, transfer_loss

from ..helpers_capture import DEVICE, Watch, absent_device, counts, labels, moved

T, B, C, N = 6, 4, 7, 3


def optimizer_of(net) -> torch.optim.Optimizer:
    """Adam as a graph takes it: fused, steps and learning rates on the device."""
    adam = torch.optim.Adam(parameter_groups(net, 1e-3, 0.1, 1e-5), capturable=True)
    for group in adam.param_groups:
        group |= {"fused": True, "lr": counts()}
    return adam


def update(net, optimizer, gradients) -> None:
    optimizer.zero_grad(set_to_none=True)
    gradients()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    clamp_(net)


def check(net, gradients) -> None:
    """gradients: (net) -> None, adds to the gradients; net: on the host."""
    with absent_device():
        optimizer = optimizer_of(moved(net))
        update(net, optimizer, lambda: gradients(net))  # the first makes what the others keep
        set_sigma(net, sigma_at(1, 2.0, final_epoch=3))
        with Watch():
            update(net, optimizer, lambda: gradients(net))


@pytest.mark.parametrize("backend", ["reference", "triton", "fft"])
@pytest.mark.parametrize("neuron", ["lif", "plif", "adlif", "if"])
def test_a_delay_net(neuron, backend):
    how = {"tau": 2.0, "backend": "triton" if backend == "fft" else backend}
    net = DelayNet(C, N, 8, max_delay_steps=5, neuron=neuron, **how)
    for layer in net.delay_layers():
        layer.backend = backend
    loss = LOSSES["softmax_sum"]
    check(net, lambda net: loss(net(counts(T, B, C)), labels(B)).backward())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    "options",
    [
        {"dropout_mask": "step"},
        {"batchnorm": False},
        {"kernel_count": 2, "version": "max"},
        {"delays": "none"},
        {"delays": "fixed", "decay_input": True},
    ],
    ids=str,
)
def test_options_and_losses(options, loss):
    net = DelayNet(C, N, 8, max_delay_steps=5, backend="triton", **options)
    check(net, lambda net: LOSSES[loss](net(counts(T, B, C)), labels(B), 0.1).backward())


@pytest.mark.parametrize("gradient", ["bptt", "sltt"])
@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_a_stream_of_steps(backend, gradient):
    net = DelayNet(C, N, 8, max_delay_steps=3, padding="causal", backend=backend)

    def gradients(net):
        x_TBC, label_B = counts(T, B, C), labels(B)

        def run(x_TBC, label_B, state):
            v_TBN, state = net.scan(x_TBC, state)
            return LOSSES["tet"](v_TBN, label_B) / T, v_TBN, state

        backward(run, [x_TBC], [label_B], gradient=gradient)

    check(net, gradients)


@pytest.mark.parametrize("gradient", ["bptt", "sltt"])
@pytest.mark.parametrize("network", ["small", "resnet18", "vgg11"])
@pytest.mark.parametrize("options", [{}, {"max_delay_steps": 3, "dropout": 0.2}], ids=str)
def test_a_conv_net(network, options, gradient):
    net = ConvNet(network, N, (32, 32), 2, backend="triton", neuron="plif", **options)

    def gradients(net):
        x, label_B = counts(2, B, 2, 32, 32), labels(B)

        def run(x, label_B, state):
            o_TBN, _, state = net.scan(x, state)
            return step_loss(o_TBN, label_B, 0.05, "one-hot", n_steps=2), o_TBN, state

        backward(run, [x], [label_B], gradient=gradient)

    check(net, gradients)


@pytest.mark.parametrize("coefficient", ["learned", "off", 0.3])
@pytest.mark.parametrize("gradient", ["bptt", "sltt"])
@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_a_transfer_step(backend, gradient, coefficient):
    how = {"two_heads": True, "dropout": 0.1, "backend": backend}
    net = ConvNet("small", N, (12, 12), 2, **how)

    def gradients(net):
        x, static, label_B = counts(2, B, 2, 12, 12), counts(2, B, 2, 12, 12), labels(B)

        def run(x, static, step_T, label_B, state):
            a, b = state or (None, None)
            o_static, u_static, a = net.scan(static, a, head="static", potentials=True)
            o_event, u_event, b = net.scan(x, b, potentials=True)
            parts = transfer_loss(
                o_static, o_event, u_static, u_event, label_B,
                net.coefficient.index_select(0, step_T), coefficient=coefficient, n_steps=2,
            )  # fmt: skip
            return parts.total, o_event, (a, b)

        steps = torch.arange(2, device=DEVICE)
        backward(run, [x, static, steps], [label_B], gradient=gradient)

    check(net, gradients)


def test_the_frequency_domain_beneath_its_op():
    """What a registered op does inside no watch sees from outside."""
    try:
        with absent_device():
            x, k, dy = counts(T, B, C), counts(5, N, C), counts(T, B, N)
            taps = fft_conv.Given(k, False)

            def both():
                fft_conv._convolve(x, taps, T, False)
                fft_conv._gradients(dy, x, taps, False, True, True)

            both()  # the first makes the matrices of the transforms
            with Watch():
                both()
    finally:
        fft_conv.matrices.cache_clear()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda x: float(x.sum()), "waits"),
        (lambda x: x.sum().isfinite().item(), "waits"),
        (lambda x: x * torch.tensor(2.0), "host tensor"),
        (lambda x: x + torch.zeros(3).to(DEVICE), "host tensor"),
        (lambda x: x.nonzero(), "waits"),
        (lambda x: x.cpu(), "host tensor"),
    ],
)
def test_the_watch_sees(bad, message):
    with absent_device():
        x = counts(3)
        with pytest.raises(AssertionError, match=message), Watch():
            bad(x)
