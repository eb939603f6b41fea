"""Recurrent neurons: the reference against a loop from the paper's equations, the backends against
the reference, on weights and currents of a grid, so that sums are exact and no spike may differ.
"""

import pytest
import torch

from snndelay.errors import BackendError
from snndelay.kernels import NEURONS, NeuronOptions, recurrent_lif
from snndelay.kernels.recurrent import RECURRENT, recurrent_rest
from snndelay.kernels.scan import scan_of

from ..conftest import assert_close
from .helpers import COMPILED, DEVICE, random_constants

KINDS = ("none", "axonal", "synaptic")
FAST = [b for b in RECURRENT if b != "reference" and (b != "cpu" or DEVICE == "cpu")]
SHAPES = {  # (T, B, N, K); the interpreter is slow
    "cpu": [(1, 1, 1, 1), (40, 3, 63, 7), (9, 5, 300, 3)],
    "triton": [(1, 1, 1, 1), (5, 3, 63, 3), (4, 17, 20, 2)],
}


def grid(*shape, size=0.5):
    """Random numbers of a grid of 1/64."""
    return (torch.randn(*shape) * size * 64).round() / 64


def case(kind, T, B, N, K, neuron="lif", device="cpu", dtype=torch.float32):
    """x, weight, taps and state, leaves; and the constants."""
    K = 1 if kind == "none" else K
    size = 1.5 / N**0.5
    x = grid(T, B, N, size=1.0) + 0.25
    weight = grid(N, N, K, size=size) if kind == "synaptic" else grid(N, N, size=size)
    taps = torch.randint(0, 5, (N, K)) / 8 if kind == "axonal" else None
    states = [grid(B, N) for _ in NEURONS[neuron].states]
    past = (torch.rand(K, B, N) < 0.3).float()
    constants = random_constants(neuron, N)
    if "tau" in constants:
        constants["tau"] = torch.full((N,), 2.0)
    named = {"x": x, "weight": weight, "taps": taps}
    named |= {f"state {i}": v for i, v in enumerate([*states, past])} | constants
    named = {k: v.to(device, dtype).requires_grad_() for k, v in named.items() if v is not None}
    return named, list(constants)


def run(given, names, backend, neuron="lif", potentials=True, **options):
    """Spikes, states and potentials."""
    state = [v for k, v in given.items() if k.startswith("state")]
    constants = {name: given[name] for name in names}
    how = dict(neuron=neuron, options=NeuronOptions(**options), backend=backend)
    taps = given.get("taps")
    found = recurrent_lif(
        given["x"], given["weight"], taps, state, potentials=potentials, **how, **constants
    )
    return [found[0], *found[1], *found[2:]]


def gradients(outputs, given):
    torch.manual_seed(1)
    cotangents = [torch.randn(v.shape).to(v) for v in outputs]
    return torch.autograd.grad(outputs, list(given.values()), cotangents, materialize_grads=True)


# -- the reference against the paper ---


def delrec(x, W, delay, sigma, tau, soft, detach, K):
    """DelRec as its paper writes it, with a buffer of the currents that are still to come: a spike
    of m at t adds W[n, m] h(u) to the current of n at t + u, u = 1, 2.., where h is the triangle
    around 1 + d of half width 1 + sigma."""
    T, B, N = x.shape
    future = [torch.zeros(B, N, dtype=x.dtype) for _ in range(T + K + 1)]
    v, spikes = torch.zeros(B, N, dtype=x.dtype), []
    delay = delay if delay.ndim == 2 else delay[None, :].expand(N, N)
    for t in range(T):
        h = (1 - 1 / tau) * v + x[t] + future[t]
        u = h - 1
        s = torch.sigmoid(4 * u)
        s = (u >= 0).to(x) + (s - s.detach())
        r = s.detach() if detach else s
        v = h - r if soft else h * (1 - r)
        spikes.append(s)
        for step in range(1, K + 1):
            share = torch.relu(1 + sigma - (step - (1 + delay)).abs()) / (1 + sigma) ** 2
            future[t + step] = future[t + step] + s @ (W * share).T
    return torch.stack(spikes)


@pytest.mark.parametrize("kind", ["axonal", "synaptic"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("sigma", [0.0, 1.5, 10.0])
def test_equals_the_equations_of_the_paper(kind, soft, detach, sigma):
    T, B, N, K = 23, 2, 7, 6
    x = (torch.randn(T, B, N).double() + 0.3).requires_grad_()
    W = torch.randn(N, N).double().requires_grad_()
    shape = (N,) if kind == "axonal" else (N, N)
    delay = (torch.rand(shape).double() * (K - 1)).requires_grad_()
    want = delrec(x, W, delay, sigma, 2.0, soft, detach, K)
    after = torch.arange(K - 1, -1, -1)  # the delay of tap i
    taps = torch.relu(1 + sigma - (after - delay[..., None]).abs()) / (1 + sigma) ** 2
    weight, taps = (W, taps) if kind == "axonal" else (W[..., None] * taps, None)
    options = NeuronOptions(
        surrogate="sigmoid", alpha=4.0, reset="soft" if soft else "hard", detach_reset=detach
    )
    s, _ = recurrent_lif(x, weight, taps, tau=2.0, options=options, backend="reference")
    assert torch.equal(s, want.detach()) and 0.05 < s.mean() < 0.95
    cotangent, leaves = torch.randn_like(s), (x, W, delay)
    got = torch.autograd.grad(s, leaves, cotangent)
    for name, a, b in zip(
        ("x", "W", "delay"), got, torch.autograd.grad(want, leaves, cotangent), strict=True
    ):
        assert_close(a, b, 1e-11, f"gradient of {name}")


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck_of_the_smooth_twin(kind, neuron):
    given, names = case(kind, 4, 2, 3, 2, neuron, dtype=torch.float64)
    keys = list(given)
    how = dict(smooth=True, alpha=1.0, detach_reset=False, reset="soft")

    def smooth(*values):
        return tuple(run(dict(zip(keys, values, strict=True)), names, "reference", neuron, **how))

    assert torch.autograd.gradcheck(smooth, tuple(given.values()))


# -- the backends against the reference ---


def check(kind, backend, shape, neuron="lif", **options):
    device = DEVICE if backend == "triton" else "cpu"
    given, names = case(kind, *shape, neuron, device)
    got, want = (run(given, names, b, neuron, **options) for b in (backend, "reference"))
    assert int((got[0] != want[0]).sum()) == 0, "spikes differ"
    for i, (a, b) in enumerate(zip(got[1:], want[1:], strict=True)):
        assert a.dtype == b.dtype
        assert_close(a, b, 1e-6, f"state {i}") if b.any() else None
    found = zip(given, gradients(got, given), gradients(want, given), strict=True)
    for name, a, b in found:
        if b.norm() > 1e-6:
            assert_close(a, b, 2e-5, f"gradient of {name}")
    return got[0].detach().mean()


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
def test_backends_equal_the_reference(backend, kind, reset):
    for i, shape in enumerate(SHAPES[backend]):
        options = dict(reset=reset, detach_reset=i == 1, detach_state=i == 2)
        rate = check(kind, backend, shape, **options)
        assert i == 0 or 0.02 < rate < 0.98, f"a rate of {rate} tests little"


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("neuron", COMPILED)
def test_every_neuron_equals_the_reference(backend, kind, neuron):
    check(kind, backend, SHAPES[backend][1], neuron, reset="hard", detach_reset=False)


@pytest.mark.parametrize("backend", ["reference", *FAST])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grad", [True, False])
def test_a_stream_equals_the_whole(backend, kind, grad):
    device = DEVICE if backend == "triton" else "cpu"
    given, names = case(kind, 11, 2, 5, 4, "cuba", device)
    how = dict(neuron="cuba", backend=backend, **{name: given[name] for name in names})
    taps = given.get("taps")
    with torch.set_grad_enabled(grad):
        whole, end = recurrent_lif(given["x"], given["weight"], taps, **how)
        state, parts = None, []
        for chunk in given["x"].split([2, 1, 8]):
            s, state = recurrent_lif(chunk, given["weight"], taps, state, **how)
            parts.append(s)
    assert torch.equal(torch.cat(parts), whole) and whole.any()
    for a, b in zip(state, end, strict=True):
        assert torch.equal(a, b)
    if grad:
        g = torch.randn_like(whole)
        one, two = (torch.autograd.grad(s, given["weight"], g) for s in (whole, torch.cat(parts)))
        assert_close(two[0], one[0], 1e-5, "the gradient through the chunks")


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("kind", KINDS)
def test_without_gradients_the_values_stay(backend, kind):
    device = DEVICE if backend == "triton" else "cpu"
    given, names = case(kind, *SHAPES[backend][1], device=device)
    want = run(given, names, backend, potentials=False)
    with torch.no_grad():
        for a, b in zip(run(given, names, backend, potentials=False), want, strict=True):
            assert torch.equal(a, b)


@pytest.mark.skipif("cpu" not in FAST, reason="the reference needs CPU tensors")
@pytest.mark.parametrize("kind", KINDS)
def test_threads_and_repeats_change_no_bit(kind):
    given, names = case(kind, 60, 9, 63, 5)
    before, first = torch.get_num_threads(), None
    try:
        for n in (1, 2, 3, 3):
            torch.set_num_threads(n)
            outputs = run(given, names, "cpu", potentials=False)
            found = [*outputs, *gradients(outputs, given)[2:]]  # that of the weights is a product
            first = first or found
            assert all(torch.equal(a, b) for a, b in zip(found, first, strict=True)), n
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("backend", FAST)
def test_half_precision_computes_in_float32(backend):
    device = DEVICE if backend == "triton" else "cpu"
    given, names = case("axonal", *SHAPES[backend][1], device=device)
    half = {k: v.bfloat16() if k == "x" else v for k, v in given.items()}
    s, *_ = run(half, names, backend)
    want, *_ = run(half | {"x": half["x"].float()}, names, backend)
    assert s.dtype == torch.bfloat16 and torch.equal(s.float(), want)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("kind", KINDS)
def test_registrations_are_sound(backend, kind):
    device = DEVICE if backend == "triton" else "cpu"
    given, names = case(kind, 3, 2, 5, 2, "cuba", device)
    constants = {name: given[name].detach() for name in names}
    scan = scan_of(given["x"].detach(), constants, "cuba", NeuronOptions(alpha=2.0))
    v, i, past = (v.detach() for k, v in given.items() if k.startswith("state"))
    near = [given["weight"].detach(), given.get("taps"), torch.stack([v, i]), past]
    near = [a if a is None else a.detach() for a in near]
    fwd, bwd = (
        getattr(torch.ops.snndelay, f"{backend}_recurrent_{way}").default for way in ("fwd", "bwd")
    )
    s, trace, z, _ = fwd(*near, True, *scan)
    ds, dtrace = torch.randn_like(s), torch.randn_like(trace)
    for d in (dtrace, None):
        torch.library.opcheck(bwd, (ds, d, *near, s, trace, *scan._replace(x=z)))
    for a in (*near, scan.x, *scan.coefficients):
        a.requires_grad_() if a is not None else None
    torch.library.opcheck(fwd, (*near, True, *scan))
    with torch.no_grad():
        torch.library.opcheck(fwd, (*[a if a is None else a.detach() for a in near], False, *scan))


# -- errors ---


def test_rest_and_errors():
    x, w = torch.randn(5, 2, 3), torch.randn(3, 3)
    state = recurrent_rest(x, 4, "cuba", NeuronOptions())
    assert [v.shape for v in state] == [(2, 3), (2, 3), (4, 2, 3)]
    for call, message in (
        (lambda: recurrent_lif(x, torch.randn(3, 4), tau=2.0), r"weight must be \(3, 3\)"),
        (lambda: recurrent_lif(x, w, torch.ones(4, 2), tau=2.0), r"taps must be \(3, K\)"),
        (lambda: recurrent_lif(x, w[..., None], w, tau=2.0), "leave no place for taps"),
        (lambda: recurrent_lif(x.long(), w, tau=2.0), "floating and not empty"),
        (lambda: recurrent_lif(x, w, state=(x[0],), tau=2.0), "the last 1 spikes"),
        (lambda: recurrent_lif(x, w), r"recurrent_lif: lif takes the constants \(tau\)"),
        (lambda: recurrent_lif(x, w, neuron="lfi"), "recurrent_lif: neuron must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(BackendError, match=r"not enough for torch\.float64"):
        recurrent_lif(x.double(), w.double(), tau=2.0, backend="cpu")


def test_refractory_steps_run_on_the_reference():
    x = torch.full((9, 1, 2), 2.0)
    options = NeuronOptions(refractory=2)
    s, state = recurrent_lif(x, torch.zeros(2, 2), tau=2.0, options=options)
    assert s[:, 0, 0].tolist() == [1, 0, 0] * 3 and len(state) == 3
