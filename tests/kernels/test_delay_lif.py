"""The fused block against its definition, and the statistics of a batch against torch's."""

import pytest
import torch

from snndelay.errors import BackendError
from snndelay.kernels import NEURONS, NeuronOptions, Synapses, reference
from snndelay.kernels.delay_lif import STATISTICS, batch_statistics, delay_lif
from snndelay.kernels.dropout import Dropout

from ..conftest import assert_close
from .helpers import DEVICE, random_constants

BACKENDS = ["cpu", "fft", "triton", "auto", "reference"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("neuron", "detach_state"), [("lif", False), ("adlif", False), ("adlif", True)]
)
@pytest.mark.parametrize(("E", "N", "C", "K", "extra_steps"), [(1, 1, 2, 1, 0), (2, 33, 5, 7, 3)])
def test_backends_equal_the_definition(backend, neuron, detach_state, E, N, C, K, extra_steps):
    if DEVICE == "cuda" and backend == "cpu":
        pytest.skip("the compiled scans need tensors on the CPU")
    constants, options = random_constants(neuron, N), NeuronOptions(detach_state=detach_state)
    inputs = {
        "w": torch.randn(E, N, C) / C**0.5,
        "p": (torch.rand(E, N, C) - 0.5) * (K - 1),
        "sigma": torch.rand(E, N, C) + 0.5,
        "gamma": torch.rand(N) + 0.5,
        "beta": torch.randn(N) / 4,
        **{f"state {name}": torch.randn(3, N) for name in NEURONS[neuron].states},
        **constants,
    }
    x = torch.poisson(torch.full((12, 3, C), 0.5, device=DEVICE))
    dropout = Dropout(0.25, "held", torch.tensor(9, device=DEVICE))
    outcomes = []
    for b in (backend, None):
        leaves = {k: v.to(DEVICE).clone().requires_grad_() for k, v in inputs.items()}
        synapses = Synapses(*(leaves[k] for k in ("w", "p", "sigma")), K)
        norm = (leaves["gamma"], leaves["beta"])
        state = [v for k, v in leaves.items() if k.startswith("state")]
        named = {k: leaves[k] for k in constants}
        if b is None:
            run = (extra_steps, state, named, neuron, options, dropout)
            s, end, statistics = reference.delay_lif(x, synapses, *norm, 1e-5, *run)
        else:
            s, end, statistics = delay_lif(
                *(x, synapses, *norm, state),
                extra_steps=extra_steps,
                neuron=neuron,
                options=options,
                dropout=dropout,
                backend=b,
                **named,
            )
        outputs = [s, *end, *statistics]
        torch.manual_seed(1)
        cotangents = [torch.randn_like(v) for v in outputs]
        grads = torch.autograd.grad(
            outputs, list(leaves.values()), cotangents, materialize_grads=True
        )
        outcomes.append((outputs, grads))
    ((s, *values), grads), ((s_ref, *wanted), wanted_grads) = outcomes
    assert s.shape == (12 + extra_steps, 3, N)
    assert int((s != s_ref).sum()) == 0, f"{backend}: spikes differ"
    for i, (a, b) in enumerate(zip(values, wanted, strict=True)):
        assert_close(a, b, 1e-5, f"output {i + 1}")
    for name, a, b in zip(inputs, grads, wanted_grads, strict=True):
        assert_close(a, b, 1e-4, f"gradient of {name}")


@pytest.mark.parametrize("backend", STATISTICS)
@pytest.mark.parametrize(("T", "B", "N"), [(1, 2, 1), (7, 3, 63), (250, 3, 300)])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_statistics(backend, T, B, N, offset):
    y = (torch.randn(T, B, N) + offset).requires_grad_()
    exact = y.detach().double().requires_grad_()
    got = batch_statistics(y, backend)
    want = exact.mean((0, 1)), exact.var((0, 1), correction=0)
    cotangents = [torch.randn(N) for _ in got]
    (dy,) = torch.autograd.grad(got, y, cotangents)
    (dy_want,) = torch.autograd.grad(want, exact, [g.double() for g in cotangents])
    assert (got[0] - want[0]).abs().max() <= 1e-6 * max(offset, 1), "mean"
    assert_close(got[1], want[1], 1e-6, "variance")
    assert_close(dy, dy_want, 1e-5 if offset else 1e-6, "gradient")


def test_registration_is_sound():
    torch.library.opcheck(
        torch.ops.snndelay.cpu_statistics.default, (torch.randn(4, 3, 2, requires_grad=True),)
    )


def test_statistics_of_half_precision_are_float32():
    y = (torch.randn(30, 4, 5) + 3).bfloat16()
    for backend in STATISTICS:
        mean, var = batch_statistics(y, backend)
        assert mean.dtype == var.dtype == torch.float32
        assert_close(mean, y.float().mean((0, 1)), 1e-6, backend)


def test_bad_arguments_say_what_is_wrong():
    x, w = torch.zeros(5, 2, 3), torch.zeros(1, 4, 3)
    synapses = Synapses(w, w, torch.zeros(()), 5)
    with pytest.raises(ValueError, match="delay_lif: x must be"):
        delay_lif(x[..., :2], synapses, None, None, tau=2.0)
    with pytest.raises(ValueError, match="takes the constants"):
        delay_lif(x, synapses, None, None)
    with pytest.raises(BackendError, match="backend must be one of"):
        delay_lif(x, synapses, None, None, tau=2.0, backend="gpu")
