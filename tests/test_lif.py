import pytest
import torch
from snndelay.kernels import NEURONS, SURROGATES, BackendError, NeuronOptions, lif, readout
from snndelay.kernels.lif import LIF, READOUT

from .conftest import assert_close

FAST = [b for b in LIF if b != "reference"]
CONSTANTS = {
    "lif": lambda n: dict(tau=torch.rand(n) + 1.1),
    "if": lambda n: {},
    "plif": lambda n: dict(w=torch.randn(n)),
    "adlif": lambda n: dict(
        tau_u=torch.rand(n) * 8 + 2,
        tau_w=torch.rand(n) * 90 + 24,
        a=torch.rand(n),
        b=torch.rand(n),
    ),
}


def test_every_neuron_is_tested():
    assert set(CONSTANTS) == set(NEURONS)


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize("v_reset", [0.0, -0.25])
def test_equals_spikingjelly(reset, decay_input, detach_reset, v_reset):
    from spikingjelly.activation_based import neuron, surrogate

    if reset == "soft" and v_reset:
        pytest.skip("a soft reset has no reset potential")
    tau = 2.0
    peer = neuron.LIFNode(
        tau,
        decay_input,
        v_threshold=1.0,
        v_reset=v_reset if reset == "hard" else None,
        surrogate_function=surrogate.ATan(5.0),
        detach_reset=detach_reset,
        step_mode="m",
    )
    x = (torch.randn(40, 3, 63) + 0.5).requires_grad_()
    options = NeuronOptions(
        reset=reset, v_reset=v_reset, decay_input=decay_input, detach_reset=detach_reset
    )
    if v_reset:
        peer.v = torch.full((3, 63), v_reset)
    want = peer(x)
    g = torch.randn_like(want)
    (dx_want,) = torch.autograd.grad(want, x, g)
    for backend in LIF:
        got, _ = lif(x, options=options, tau=tau, backend=backend)
        assert int((got != want).sum()) == 0, f"{backend}: spikes differ"
        (dx,) = torch.autograd.grad(got, x, g)
        assert_close(dx, dx_want, 1e-5, f"{backend} dx")


@pytest.mark.parametrize("name", NEURONS)
@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
@pytest.mark.parametrize("decay_input", [True, False])
def test_gradcheck_of_the_smooth_twin(name, reset, decay_input):
    options = NeuronOptions(
        reset=reset, decay_input=decay_input, detach_reset=False, alpha=1.0, smooth=True
    )
    constants = {k: v.double().requires_grad_() for k, v in CONSTANTS[name](3).items()}
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    state = tuple(
        torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in NEURONS[name].states
    )

    def run(x, *rest):
        values = dict(zip(constants, rest[len(state) :], strict=True))
        s, end = lif(x, rest[: len(state)], neuron=name, options=options, **values)
        return s, *end

    assert torch.autograd.gradcheck(run, (x, *state, *constants.values()))


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("name", ["lif", "if", "plif"])
@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize(
    "surrogate", ["atan", "sigmoid", "triangle", "piecewise_quadratic", "slayer"]
)
def test_backends_equal_the_reference(backend, name, reset, decay_input, detach_reset, surrogate):
    options = NeuronOptions(
        reset=reset,
        v_reset=0.125,
        decay_input=decay_input,
        detach_reset=detach_reset,
        surrogate=surrogate,
        alpha=2.0,
    )
    for T, B, N in ((1, 1, 1), (17, 3, 63)):
        constants = {k: v.requires_grad_() for k, v in CONSTANTS[name](N).items()}
        x = torch.randn(T, B, N, requires_grad=True)
        v0 = torch.randn(B, N, requires_grad=True)
        inputs = (x, v0, *constants.values())
        results = []
        for b in (backend, "reference"):
            s, (v,) = lif(x, (v0,), neuron=name, options=options, backend=b, **constants)
            torch.manual_seed(1)
            grads = torch.autograd.grad((s, v), inputs, (torch.randn_like(s), torch.randn_like(v)))
            results.append((s, v, grads))
        (s, v, grads), (s_ref, v_ref, grads_ref) = results
        assert int((s != s_ref).sum()) == 0, f"{backend}: spikes differ at T={T}"
        assert_close(v, v_ref, 1e-6, "final state")
        for what, a, b in zip(("dx", "dv0", *constants), grads, grads_ref, strict=True):
            assert_close(a, b, 1e-5, f"gradient of {what}, T={T}")


@pytest.mark.parametrize("backend", LIF)
@pytest.mark.parametrize("neuron", NEURONS)
def test_chunks_with_carried_state_equal_one_run(backend, neuron):
    if backend != "reference" and neuron == "adlif":
        pytest.skip("adlif runs on the reference so far")
    constants = CONSTANTS[neuron](5)
    x = torch.randn(30, 2, 5) * 2
    whole, end = lif(x, neuron=neuron, backend=backend, **constants)
    parts, state = [], None
    for chunk in x.split([1, 12, 17]):
        s, state = lif(chunk, state, neuron=neuron, backend=backend, **constants)
        parts.append(s)
    assert torch.equal(torch.cat(parts), whole)
    assert all(torch.equal(a, b) for a, b in zip(state, end, strict=True))


def test_dyadic_inputs_give_the_same_spikes_everywhere():
    x = torch.randint(-256, 512, (12, 3, 300)) / 256
    spikes = [lif(x, tau=2.0, backend=b)[0] for b in LIF]
    assert all(torch.equal(s, spikes[0]) for s in spikes)
    assert spikes[0].mean() > 0.1, "the test would be empty without spikes"


def test_adlif_adapts():
    """A constant current: adaptation makes the intervals between spikes longer."""
    x = torch.full((400, 1, 1), 5.0)
    s, _ = lif(x, neuron="adlif", tau_u=10.0, tau_w=100.0, a=0.0, b=0.2)
    times = s[:, 0, 0].nonzero().flatten()
    gaps = times.diff()
    assert len(times) > 3 and gaps[-1] > gaps[0], f"intervals {gaps.tolist()}"


@pytest.mark.parametrize("tau", [1.0, 1.5, torch.tensor([1.2, 2.0, 5.0])])
def test_readout_backends_equal_the_reference(tau):
    x, v0 = torch.randn(20, 2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    tau = tau.clone().requires_grad_() if torch.is_tensor(tau) else tau
    inputs = [x, v0, tau] if torch.is_tensor(tau) else [x, v0]
    g, want = torch.randn(20, 2, 3), readout(x, v0, tau, backend="reference")
    wanted = torch.autograd.grad(want, inputs, g)
    for backend in READOUT:
        got = readout(x, v0, tau, backend=backend)
        assert_close(got, want, 1e-6, backend)
        for a, b in zip(torch.autograd.grad(got, inputs, g), wanted, strict=True):
            assert_close(a, b, 1e-5, f"{backend} gradient")


def test_what_is_not_compiled_runs_on_the_reference(monkeypatch):
    """A new neuron or surrogate is one entry: it must never run as another one."""
    x = torch.randn(10, 2, 3) * 3
    monkeypatch.setitem(NEURONS, "new", NEURONS["adlif"])
    constants = CONSTANTS["adlif"](3)
    s, state = lif(x, neuron="new", **constants)
    assert len(state) == 2 and torch.equal(s, lif(x, neuron="adlif", **constants)[0])
    monkeypatch.setitem(SURROGATES, "box", SURROGATES["triangle"])
    lif(x, options=NeuronOptions(surrogate="box"), tau=2.0)
    with pytest.raises(BackendError, match="has no lif with surrogate box yet"):
        lif(x, options=NeuronOptions(surrogate="box"), tau=2.0, backend="cpu")


def test_the_usual_sharpness_is_that_of_the_surrogate():
    for name, surrogate in SURROGATES.items():
        assert NeuronOptions(surrogate=name).alpha == surrogate.alpha


def test_readout_integrates():
    x = torch.randn(20, 2, 3, dtype=torch.float64, requires_grad=True)
    v0 = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, v: readout(x, v, 1.5), (x, v0))
    v = readout(x, v0, 1.5)
    assert torch.allclose(v[0], v0 / 3 + x[0])
    assert torch.allclose(readout(x[5:], v[4], 1.5), v[5:])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: lif(x, neuron="lfi", tau=2.0), ValueError, "must be one of"),
        (lambda x: lif(x), ValueError, "takes the constants"),
        (lambda x: lif(x[:0], tau=2.0), ValueError, "T >= 1"),
        (lambda x: lif(x, (x[0, :, :1],), tau=2.0), ValueError, "needs a state"),
        (lambda x: lif(x, tau=2.0, backend="gpu"), BackendError, "backend must be one of"),
        (lambda x: lif(x, tau=2.0, backend="triton"), BackendError, "no backend 'triton'"),
        (lambda x: lif(x.double(), tau=2.0, backend="cpu"), BackendError, "takes float32"),
        (lambda x: readout(x, x), ValueError, "like one step of x"),
        (lambda x: NeuronOptions(reset="harder"), ValueError, "hard, soft or none"),
        (lambda x: NeuronOptions(surrogate="box"), ValueError, "surrogate must be one of"),
    ],
)
def test_bad_arguments_say_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call(torch.zeros(3, 2, 4))
