import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from snndelay.errors import BackendError
from snndelay.kernels import NEURONS, SURROGATES, NeuronOptions, lif, readout
from snndelay.kernels.dropout import Dropout
from snndelay.kernels.lif import LIF, rest
from snndelay.kernels.neurons import Neuron
from snndelay.kernels.scan import beside, decay_of, per_neuron, scan_of
from snndelay.kernels.surrogate import Surrogate

from ..conftest import assert_close
from .helpers import COMPILED, DEVICE, SLOPED, random_constants

HERE = [b for b in LIF if b != "triton"]  # that one has tests of its own
FAST = [b for b in HERE if b != "reference"]
SEED = torch.tensor(1)


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
    for backend in HERE:
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
    constants = {k: v.double().requires_grad_() for k, v in random_constants(name, 3).items()}
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    state = tuple(
        torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in NEURONS[name].states
    )

    def run(x, *rest):
        values = dict(zip(constants, rest[len(state) :], strict=True))
        s, end = lif(x, rest[: len(state)], neuron=name, options=options, **values)
        return s, *end

    assert torch.autograd.gradcheck(run, (x, *state, *constants.values()))


def both_ways(
    backend, neuron, options, T, B, N, *, normalised=False, mask=None, dtype=None, potentials=False
):
    """Results of a run from random inputs, on ``backend`` and on the reference: spikes, then by
    name final states, potentials and gradients for random cotangents.
    """
    torch.manual_seed(T * N + B)
    inputs = {"x": torch.randn(T, B, N).to(dtype or torch.float32)}
    inputs |= {f"state {name}": torch.randn(B, N) for name in NEURONS[neuron].states}
    constants = random_constants(neuron, N)
    if normalised:
        inputs |= {"scale": torch.rand(N) + 0.5, "shift": torch.randn(N) / 4}
    inputs |= constants
    dropout = Dropout(0.3, mask, torch.tensor(2**40 + 7)) if mask else None
    outcomes = []
    for b in (backend, "reference"):
        leaves = {k: v.clone().requires_grad_() for k, v in inputs.items()}
        s, end, *u = lif(
            leaves["x"],
            [v for k, v in leaves.items() if k.startswith("state")],
            neuron=neuron,
            options=options,
            norm=(leaves["scale"], leaves["shift"]) if normalised else None,
            dropout=dropout,
            potentials=potentials,
            backend=b,
            **{k: leaves[k] for k in constants},
        )
        torch.manual_seed(1)
        cotangents = [torch.randn_like(v) for v in (s, *end, *u)]
        grads = torch.autograd.grad(
            (s, *end, *u), list(leaves.values()), cotangents, materialize_grads=True
        )
        named = dict(zip(NEURONS[neuron].states, end, strict=True))
        named |= {"potentials": u[0]} if u else {}
        named |= zip([f"gradient of {k}" for k in leaves], grads, strict=True)
        outcomes.append((s, named))
    return outcomes


def assert_same(outcomes, rel, what):
    (s, values), (s_ref, wanted) = outcomes
    assert s.dtype == s_ref.dtype
    assert int((s != s_ref).sum()) == 0, f"spikes differ: {what}"
    for name, value in values.items():
        assert value.dtype == wanted[name].dtype
        assert_close(value, wanted[name], rel, f"{name}, {what}")


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize(
    ("neuron", "surrogate"),  # each pair is compiled anew, and no neuron knows its surrogate
    [("lif", s) for s in SLOPED] + [(n, "atan") for n in COMPILED if n != "lif"],
)
@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("detach_reset", [True, False])
def test_backends_equal_the_reference(backend, neuron, reset, decay_input, detach_reset, surrogate):
    options = NeuronOptions(
        reset=reset,
        v_reset=0.125,
        decay_input=decay_input,
        detach_reset=detach_reset,
        surrogate=surrogate,
        alpha=2.0,
    )
    for shape in ((1, 1, 1), (17, 3, 63)):
        assert_same(both_ways(backend, neuron, options, *shape), 1e-5, f"(T, B, N) = {shape}")


@pytest.mark.parametrize("neuron", COMPILED)
@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
def test_a_detached_state_passes_no_gradient_to_the_step_before(neuron, reset):
    """All steps at once against one step at a time from a state without gradient."""
    constants = {k: v.double().requires_grad_() for k, v in random_constants(neuron, 5).items()}
    x = torch.randn(9, 2, 5, dtype=torch.float64, requires_grad=True)
    how = dict(neuron=neuron, **constants)
    options = NeuronOptions(reset=reset, detach_reset=False)
    s, end = lif(x, options=replace(options, detach_state=True), **how)
    want, state = [], None
    for x_1BN in x.split(1):
        s_1BN, state = lif(x_1BN, state and [v.detach() for v in state], options=options, **how)
        want.append(s_1BN)
    assert torch.equal(s, torch.cat(want))
    cotangents = [torch.randn_like(v) for v in (s, *end)]
    inputs = [x, *constants.values()]
    got = torch.autograd.grad((s, *end), inputs, cotangents)
    wanted = torch.autograd.grad((torch.cat(want), *state), inputs, cotangents)
    for name, a, b in zip(("x", *constants), got, wanted, strict=True):
        assert_close(a, b, 1e-13, f"gradient of {name}")


@pytest.mark.parametrize("backend", HERE)
def test_with_a_detached_state_the_adjoint_is_pointwise(backend):
    """dx[t] = g[t] * derivative at u[t] (Meng et al. 2023)."""
    x, g = torch.randn(20, 3, 40, requires_grad=True), torch.randn(20, 3, 40)
    options = NeuronOptions(reset="soft", detach_state=True, surrogate="triangle")
    (dx,) = torch.autograd.grad(lif(x, options=options, tau=1.1, backend=backend)[0], x, g)
    v, want = torch.zeros(3, 40), []
    for x_BN, g_BN in zip(x.detach(), g, strict=True):
        u = (1 - 1 / 1.1) * v + x_BN
        v = u - (u >= 1).float()
        want.append(g_BN * torch.relu(1 - (u - 1).abs()))
    assert_close(dx, torch.stack(want), 1e-5, "dx")


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("neuron", COMPILED)
@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
@pytest.mark.parametrize("detach_reset", [True, False])
def test_a_detached_state_equals_the_reference(backend, neuron, reset, detach_reset):
    options = NeuronOptions(reset=reset, detach_reset=detach_reset, detach_state=True)
    for shape in ((1, 1, 1), (35, 3, 63)):
        outcomes = both_ways(backend, neuron, options, *shape, normalised=True, mask="held")
        assert_same(outcomes, 1e-5, f"(T, B, N) = {shape}")
        kept = both_ways(backend, neuron, replace(options, detach_state=False), *shape)[0][1]
        for name in NEURONS[neuron].states:
            gradient = f"gradient of state {name}"
            assert outcomes[0][1][gradient].abs().sum() == 0 < kept[gradient].abs().sum()


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("neuron", COMPILED)
@pytest.mark.parametrize("mask", [None, "held", "step"])
@pytest.mark.parametrize("shape", [(2, 1, 1), (33, 3, 63), (20, 5, 300), (250, 3, 1)])
def test_norm_and_dropout_equal_the_reference(backend, neuron, mask, shape):
    options = NeuronOptions(detach_reset=False, reset="soft" if mask == "step" else "hard")
    outcomes = both_ways(backend, neuron, options, *shape, normalised=True, mask=mask)
    assert_same(outcomes, 1e-5, f"mask {mask}")
    if mask and shape[2] > 1:
        assert 0 < (outcomes[0][0] == 1 / 0.7).float().mean() < 0.7, "a mask without effect"


@pytest.mark.parametrize("backend", [*FAST, "triton"])
@pytest.mark.parametrize("neuron", COMPILED)
@pytest.mark.parametrize("detach_state", [False, True])
@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
def test_potentials_equal_the_reference(backend, neuron, detach_state, reset):
    options = NeuronOptions(reset=reset, detach_state=detach_state, detach_reset=detach_state)
    how = dict(normalised=detach_state, potentials=True)
    with torch.device(place_of(backend)):
        outcomes = both_ways(backend, neuron, options, 21, 2, 35, **how)
    assert_same(outcomes, 1e-5, reset)
    (s, values), _ = outcomes
    assert torch.equal(values["potentials"][-1], values[NEURONS[neuron].states[0]])
    if reset == "hard":
        assert values["potentials"][s == 1].eq(0).all(), "after the reset, not before"


@pytest.mark.parametrize("backend", [*HERE, "triton"])
def test_potentials_are_those_of_single_steps_and_keep_float32(backend):
    """The equation by hand; and gradients where the potentials alone are used."""
    with torch.device(place_of(backend)):
        x, g = torch.randn(30, 2, 5) * 2, torch.randn(30, 2, 5)
    x.requires_grad_()
    s, _, u = lif(x, tau=2.0, potentials=True, backend=backend)
    want, spikes = [torch.zeros_like(x[0])], []
    for x_BN in x:
        h = 0.5 * want[-1] + x_BN
        spikes.append((h >= 1).float())
        want.append(h * (1 - spikes[-1]))
    assert torch.equal(s, torch.stack(spikes)) and torch.equal(u, torch.stack(want[1:]))
    (dx,) = torch.autograd.grad(u, x, g)
    (dx_want,) = torch.autograd.grad(torch.stack(want[1:]), x, g)
    assert_close(dx, dx_want, 1e-5, "dx")
    half = lif(x.bfloat16(), tau=2.0, potentials=True, backend=backend)
    assert half[0].dtype == torch.bfloat16 and half[2].dtype == torch.float32


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("neuron", ["lif", "adlif"])  # of one state and of two
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_its_state_in_float32(backend, neuron, dtype):
    """The spikes are those of float32; only what goes out is rounded."""
    outcomes = both_ways(backend, neuron, None, 50, 3, 63, normalised=True, dtype=dtype)
    assert outcomes[0][0].dtype == dtype
    assert_same(outcomes, 1e-2, str(dtype))


def test_autocast_leaves_the_scan_alone():
    x, w = torch.randn(20, 3, 8), torch.randn(5, 8)
    with torch.autocast("cpu", torch.bfloat16):
        current = torch.nn.functional.linear(x, w)
        s, (v,) = lif(current, tau=2.0)
        integrated = readout(s, None, 2.0)
    assert current.dtype == s.dtype == integrated.dtype == torch.bfloat16
    assert v.dtype == torch.float32
    assert torch.equal(s.float(), lif(current.float(), tau=2.0)[0])


@pytest.mark.parametrize("backend", FAST)
def test_threads_and_repeats_change_no_bit(backend):
    def run():
        outcome = both_ways(backend, "adlif", None, 40, 9, 300, normalised=True, mask="held")
        return [outcome[0][0], *outcome[0][1].values()]

    threads = torch.get_num_threads()
    wanted = run()
    for n in (1, 2, 3):
        try:
            torch.set_num_threads(n)
            got = run()
        finally:
            torch.set_num_threads(threads)
        assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True)), f"{n} threads"


@pytest.mark.parametrize("backend", HERE)
def test_layouts_of_inputs_and_cotangents(backend):
    """Transposed, expanded and zero cotangents, an unused output, and further axes."""
    x = torch.randn(3, 30, 4).transpose(0, 1).requires_grad_()
    want = x.detach().contiguous().requires_grad_()
    s, (v,) = lif(x, tau=2.0, backend=backend)
    s_want, _ = lif(want, tau=2.0, backend="reference")
    assert torch.equal(s, s_want)
    for g in (torch.randn(3, 30, 4).transpose(0, 1), torch.ones(()).expand(30, 3, 4), s * 0):
        (a,) = torch.autograd.grad(s, x, g, retain_graph=True)
        (b,) = torch.autograd.grad(s_want, want, g, retain_graph=True)
        assert_close(a, b, 1e-5, "dx")
    (a,) = torch.autograd.grad(v, x, torch.randn_like(v))
    assert a.isfinite().all() and a.abs().sum() > 0
    image = torch.randn(10, 2, 3, 4, 5)
    got, (end,) = lif(image, tau=torch.full((5,), 2.0), backend=backend)
    assert end.shape == image.shape[1:]
    assert torch.equal(
        got, lif(image.view(10, 6, 4, 5), tau=2.0, backend="reference")[0].view_as(got)
    )


@pytest.mark.parametrize("backend", FAST)
def test_only_the_input_and_checkpoints_are_saved(backend):
    T, B, N = 96, 4, 50
    saved = {}

    def pack(t):
        saved[t.data_ptr()] = t.numel() * t.element_size()
        return t

    x, tau = torch.randn(T, B, N, requires_grad=True), torch.full((N,), 2.0)
    norm, dropout = (torch.ones(N), torch.zeros(N)), Dropout(0.5, "held", torch.tensor(1))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        lif(x, norm=norm, dropout=dropout, tau=tau, backend=backend)
    per_step = sum(saved.values()) / (B * N * T)
    assert 4 < per_step < 4 * 1.125 + 0.1, f"{per_step} bytes per neuron and step"


def place_of(backend):
    """Where the tensors of a backend lie: Triton's on the GPU if there is one, else any."""
    return DEVICE if backend == "triton" else "cpu"


@pytest.mark.parametrize("backend", ["cpu", "triton"])
@pytest.mark.parametrize("neuron", ["lif", "adlif"])  # of one state and of two
def test_registrations_are_sound(backend, neuron):
    ops = (
        getattr(torch.ops.snndelay, f"{backend}_lif_fwd"),
        getattr(torch.ops.snndelay, f"{backend}_lif_bwd"),
    )
    T, B, N = 5, 2, 3
    options = NeuronOptions(alpha=5.0)
    dropout = Dropout(0.5, "held", torch.tensor(3, device=place_of(backend)))
    with torch.device(place_of(backend)):
        states = [torch.randn(B, N) for _ in NEURONS[neuron].states]
        x, norm = torch.randn(T, B, N), (torch.ones(N), torch.zeros(N))
        constants = random_constants(neuron, N)
        ds, dstates = torch.randn(T, B, N), [torch.randn(B, N) for _ in states]
    scan = scan_of(x, constants, neuron, options, norm, dropout)
    *_, checkpoints, bits, u = ops[0](states, True, *scan)
    recorded = (checkpoints, bits)
    torch.library.opcheck(ops[1].default, (ds, dstates, None, *recorded, True, True, *scan))
    torch.library.opcheck(ops[1].default, (ds, [], u, *recorded, True, False, *scan))
    torch.library.opcheck(ops[1].default, (ds, [], None, *recorded, False, True, *scan))
    for t in (scan.x, scan.scale, scan.shift, *states, *scan.coefficients):
        t.requires_grad_()
    torch.library.opcheck(ops[0].default, (states, False, *scan))
    plain = scan._replace(scale=None, shift=None, seed=None)
    torch.library.opcheck(ops[0].default, (states, True, *plain))
    torch.library.opcheck(ops[0].default, ([], False, *plain))


@pytest.mark.parametrize("backend", ["cpu", "triton"])
def test_registrations_of_the_readout_are_sound(backend):
    ops = torch.ops.snndelay
    with torch.device(place_of(backend)):
        x, v, keep = torch.randn(5, 2, 3), torch.randn(2, 3), torch.rand(3)
    bwd, fwd = (getattr(ops, f"{backend}_readout_{way}").default for way in ("bwd", "fwd"))
    for given in ((v, keep, 1.0, True, True), (None, None, 1.5, False, False)):
        torch.library.opcheck(bwd, (x, x + 1, *given))
    for t in (x, v, keep):
        t.requires_grad_()
    for given in ((v, keep, 1.0), (None, None, 1.5), (v, None, 1.5), (None, keep, 1.0)):
        torch.library.opcheck(fwd, (x, *given))


@pytest.mark.parametrize("backend", ["cpu", "triton"])
@pytest.mark.parametrize("neuron", COMPILED)
@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_no_state_is_the_state_at_rest(backend, neuron, reset):
    options = NeuronOptions(reset=reset, v_reset=-0.25 if reset == "hard" else 0.0)
    with torch.device(place_of(backend)):
        x = (torch.randn(19, 2, 35) + 0.3).requires_grad_()
        constants = {k: v.requires_grad_() for k, v in random_constants(neuron, 35).items()}
        g = torch.randn(19, 2, 35)
    outcomes = []
    for state in (None, rest(x, neuron, options)):
        s, end = lif(x, state, neuron=neuron, options=options, backend=backend, **constants)
        grads = torch.autograd.grad(s, [x, *constants.values()], g)
        outcomes.append([s, *end, *grads])
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))


@pytest.mark.parametrize("tau", [1.0, 1.005, 1.5, 3.0, 1e6])
def test_the_decay_of_a_number_is_rounded_like_a_tensor(tau):
    assert decay_of(tau) == (1 - 1 / torch.tensor(tau)).item()


@pytest.mark.parametrize("backend", ["cpu", "triton"])
def test_a_compiled_graph_equals_eager(backend):
    def run(x, v, scale, shift, tau, seed):
        dropout = Dropout(0.3, "held", seed)
        s, (end,) = lif(x, (v,), norm=(scale, shift), dropout=dropout, backend=backend, tau=tau)
        return readout(s, None, tau, backend), end

    with torch.device(place_of(backend)):
        x, v, seed = torch.randn(9, 2, 3, requires_grad=True), torch.randn(2, 3), torch.tensor(5)
        scale, shift = torch.ones(3, requires_grad=True), torch.zeros(3)
        tau = torch.full((3,), 2.0, requires_grad=True)
    results = []
    for f in (run, torch.compile(run, fullgraph=True, backend="aot_eager")):
        out, end = f(x, v, scale, shift, tau, seed)
        torch.manual_seed(2)
        grads = torch.autograd.grad(out, (x, scale, tau), torch.randn_like(out))
        results.append((out, end, *grads))
    for eager, compiled in zip(*results, strict=True):
        assert torch.equal(eager, compiled)


@pytest.mark.parametrize("name", COMPILED)
def test_a_number_and_a_tensor_are_the_same_constant(name):
    """A number is written beside the input, in float32, and gives the bits of a tensor."""
    constants = {k: float(v) for k, v in random_constants(name, 1).items()}
    x = torch.randn(9, 2, 3) * 2
    want, end = lif(
        x, neuron=name, backend="cpu", **{k: torch.tensor(v) for k, v in constants.items()}
    )
    got, same = lif(x, neuron=name, backend="cpu", **constants)
    assert torch.equal(got, want) and torch.equal(end[0], same[0])
    v = readout(x, None, 1.7, "cpu")
    assert torch.equal(v, readout(x, None, torch.tensor(1.7), "cpu"))


def copies(run) -> list[str]:
    """The ops of ``run`` whose result lies on another device than what they were given."""
    found = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            out = op(*args, **(kwargs or {}))
            given = {a.device.type for a in tree_leaves((args, kwargs)) if torch.is_tensor(a)}
            made = {a.device.type for a in tree_leaves(out) if torch.is_tensor(a)}
            if given and made - given:
                found.append(str(op))
            return out

    with Watch():
        run()
    return found


@pytest.mark.parametrize("tau", [2.0, "tensor"])
def test_nothing_is_copied_to_the_device(tau):
    """A constant is written where the input lies, never sent there: no CUDA graph records that."""

    def run():
        x = torch.empty(5, 2, 3, device="meta")
        t = torch.full((3,), 2.0, device="meta") if tau == "tensor" else tau
        scan = scan_of(x, {"tau": t}, "lif", NeuronOptions())
        assert all(c.device.type == "meta" for c in scan.coefficients)
        keep = per_neuron(1 - 1 / beside(x, t), x)
        assert keep.device.type == "meta"

    assert not copies(run)


@pytest.mark.parametrize("backend", FAST)
def test_memory_is_never_read_before_it_is_written(backend):
    """Deterministic mode fills new tensors with NaN."""
    outcome = both_ways(backend, "adlif", None, 37, 2, 63, normalised=True, mask="held")
    torch.use_deterministic_algorithms(True)
    try:
        again = both_ways(backend, "adlif", None, 37, 2, 63, normalised=True, mask="held")
    finally:
        torch.use_deterministic_algorithms(False)
    for a, b in zip(outcome[0][1].values(), again[0][1].values(), strict=True):
        assert torch.equal(a, b)


def test_a_changed_neuron_is_compiled_anew(monkeypatch):
    """Compiled code is kept on disk; it must never run for another step of the same name."""

    def eager_charge(x, v, w, c0, c1, c2, c3, rest):
        return c0 * v + 2.0 * x

    x = torch.randn(20, 3, 4)
    before = lif(x, tau=2.0, backend="cpu")[0]
    monkeypatch.setitem(NEURONS, "lif", replace(NEURONS["lif"], charge=eager_charge))
    after = lif(x, tau=2.0, backend="cpu")[0]
    assert torch.equal(after, lif(2 * x, tau=2.0, backend="reference")[0])
    assert not torch.equal(before, after)


def test_compiled_code_is_found_again_by_another_process():
    program = (
        "from snndelay.kernels import NEURONS\n"
        "from snndelay.kernels.cpu.lif_kernels import scan_fwd, step\n"
        "from snndelay.kernels.cpu.specialise import specialise\n"
        "n = NEURONS['adlif']\n"
        "parts = dict(charge=n.charge, settle=n.settle, TWO=True)\n"
        "print(specialise(scan_fwd, (step,), **parts).__name__)"
    )
    run = [sys.executable, "-c", program]
    names = {subprocess.check_output(run, text=True) for _ in range(2)}
    assert len(names) == 1, f"every process compiles its own: {names}"


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("neuron", COMPILED)
def test_chunks_with_carried_state_equal_one_run(backend, neuron):
    constants = random_constants(neuron, 5)
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
    spikes = [lif(x, tau=2.0, backend=b)[0] for b in HERE]
    assert all(torch.equal(s, spikes[0]) for s in spikes)
    assert spikes[0].mean() > 0.1, "the test would be empty without spikes"


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_refractory_neurons_stay_at_their_reset_and_do_not_fire(neuron, reset):
    constants, r = random_constants(neuron, 5), 3
    x = torch.randn(60, 4, 5) * 2 + (40 if neuron == "adlif" else 2)
    options = NeuronOptions(reset=reset, v_reset=-0.25, refractory=r)
    s, end, u = lif(x, neuron=neuron, options=options, potentials=True, **constants)
    assert s.sum() > 20 and len(end) == len(NEURONS[neuron].states) + 1
    for t, b, n in s.nonzero().tolist():
        after = slice(t + 1, t + 1 + r)
        assert not s[after, b, n].any() and u[after, b, n].eq(u[t, b, n]).all()
        if reset == "hard":
            assert u[t, b, n] == -0.25
    gaps = torch.cat([s[:, b, n].nonzero().flatten().diff() for b in range(4) for n in range(5)])
    assert gaps.min() == r + 1 or neuron == "adlif", "and then at once"
    parts, state = [], None
    for chunk in x.split([1, 20, 2, 37]):
        part, state = lif(chunk, state, neuron=neuron, options=options, **constants)
        parts.append(part)
    assert torch.equal(torch.cat(parts), s), "a stream goes on where it was"
    with pytest.raises(BackendError, match="refractory steps exist in the reference only"):
        lif(x, neuron=neuron, options=options, backend="cpu", **constants)


def test_a_refractory_lif_by_hand():
    """Values and gradients, with the adaptation of an adlif that goes on meanwhile."""
    x, g = torch.full((6, 1, 1), 0.7, requires_grad=True), torch.randn(6, 1, 1)
    options = NeuronOptions(refractory=2, surrogate="straight_through")
    _, _, u = lif(x, tau=2.0, options=options, potentials=True)
    assert u.flatten().tolist() == pytest.approx([0.7, 0, 0, 0, 0.7, 0]), "1.05 fires"
    (dx,) = torch.autograd.grad(u, x, g)
    assert dx[2:4].eq(0).all(), "what comes in between is lost"
    assert dx[4].item() == pytest.approx(g[4].item()), "it reaches its own step; then a reset cuts"
    how = dict(neuron="adlif", tau_u=10.0, tau_w=100.0, a=1.0, b=2.0)
    _, (u, w, left) = lif(torch.full((1, 1, 1), 20.0), options=options, **how)
    _, (after, later, _) = lif(torch.full((2, 1, 1), 20.0), (u, w, left), options=options, **how)
    beta = torch.exp(torch.tensor(-1 / 100.0))
    assert left.item() == 2 and u.item() == after.item() == 0
    assert later.item() == pytest.approx((beta**2 * w).item(), rel=1e-6), "without a new spike"


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
def test_a_threshold_of_every_neuron_has_a_gradient(neuron, reset):
    """The same as alone with a number each; finite differences of the smooth twin."""
    x, threshold = torch.randn(30, 2, 3) * 3 + 1, torch.tensor([0.5, 1.0, 2.0])
    constants = random_constants(neuron, 3)
    s, _ = lif(
        x, neuron=neuron, options=NeuronOptions(reset=reset), v_threshold=threshold, **constants
    )
    for n, value in enumerate(threshold.tolist()):
        alone = {k: v[n : n + 1] for k, v in constants.items()}
        options = NeuronOptions(reset=reset, v_threshold=value)
        want, _ = lif(
            x[..., n : n + 1], neuron=neuron, options=options, backend="reference", **alone
        )
        assert torch.equal(s[..., n : n + 1], want)
    assert s[..., 0].any()
    smooth = NeuronOptions(reset=reset, detach_reset=False, alpha=1.0, smooth=True)
    exact = {k: v.double() for k, v in constants.items()}
    assert torch.autograd.gradcheck(
        lambda v: lif(x[:4].double(), neuron=neuron, options=smooth, v_threshold=v, **exact)[0],
        threshold.double().requires_grad_(),
    )
    with pytest.raises(BackendError, match="a threshold that is learned"):
        lif(x, neuron=neuron, v_threshold=threshold, backend="cpu", **constants)


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
    for backend in HERE:
        got = readout(x, v0, tau, backend=backend)
        assert_close(got, want, 1e-6, backend)
        for a, b in zip(torch.autograd.grad(got, inputs, g), wanted, strict=True):
            assert_close(a, b, 1e-5, f"{backend} gradient")


def test_what_is_not_compiled_runs_on_the_reference(monkeypatch):
    """A new neuron or surrogate is one entry: it must never run as another one."""
    x = torch.randn(10, 2, 3) * 3
    plain = Neuron(NEURONS["adlif"].step, ("u", "w"), NEURONS["adlif"].constants)
    monkeypatch.setitem(NEURONS, "new", plain)
    constants = random_constants("adlif", 3)
    s, state = lif(x, neuron="new", **constants)
    assert len(state) == 2
    assert torch.equal(s, lif(x, neuron="adlif", backend="reference", **constants)[0])
    with pytest.raises(BackendError, match="neuron new has no compiled step"):
        lif(x, neuron="new", backend="cpu", **constants)
    triangle = SURROGATES["triangle"]
    box = Surrogate(triangle.derivative, triangle.primitive, triangle.alpha)
    monkeypatch.setitem(SURROGATES, "box", box)
    lif(x, options=NeuronOptions(surrogate="box"), tau=2.0)
    with pytest.raises(BackendError, match="surrogate box has no compiled slope"):
        lif(x, options=NeuronOptions(surrogate="box"), tau=2.0, backend="cpu")


def test_a_function_of_ones_own_is_a_surrogate(caplog):
    """Its gradient is that of the shape it repeats; it runs on the reference, which a line says."""

    def mine(u):
        return 1 / (1 + 3 * u.abs()) ** 2

    x, g = torch.randn(20, 2, 5, requires_grad=True), torch.randn(20, 2, 5)
    named = NeuronOptions(surrogate="fast_sigmoid", alpha=3.0)
    with caplog.at_level("INFO", logger="snndelay"):
        s, _ = lif(x, options=NeuronOptions(surrogate=mine), tau=2.0)
    assert "a surrogate of one's own is not compiled" in caplog.text
    want, _ = lif(x, options=named, tau=2.0, backend="reference")
    assert torch.equal(s, want)
    (dx,), (dx_want,) = (torch.autograd.grad(y, x, g) for y in (s, want))
    assert torch.equal(dx, dx_want) and dx.abs().sum() > 0
    with pytest.raises(BackendError, match="a surrogate of one's own is not compiled"):
        lif(x, options=NeuronOptions(surrogate=mine), tau=2.0, backend="cpu")
    with pytest.raises(ValueError, match="neither a sharpness nor a primitive"):
        NeuronOptions(surrogate=mine, alpha=2.0)


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
        (lambda x: lif(x.double(), tau=2.0, backend="cpu"), BackendError, "computes in float32"),
        (lambda x: readout(x.double(), backend="cpu"), BackendError, "computes in float32"),
        (lambda x: lif(x, dropout=Dropout(1.0, "held", SEED), tau=2.0), ValueError, "in \\[0, 1"),
        (lambda x: lif(x, dropout=Dropout(0.5, "hold", SEED), tau=2.0), ValueError, "held or step"),
        (lambda x: Dropout(0.5, "held", torch.zeros(2)), ValueError, "int64 tensor of shape"),
        (lambda x: lif(x, packed=True, potentials=True, tau=2.0), ValueError, "come without pot"),
        (lambda x: readout(x, x), ValueError, "like one step of x"),
        (lambda x: NeuronOptions(reset="harder"), ValueError, "hard, soft or none"),
        (lambda x: NeuronOptions(refractory=-1), ValueError, "a number of steps"),
        (lambda x: NeuronOptions(surrogate="box"), ValueError, "surrogate must be one of"),
    ],
)
def test_bad_arguments_say_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call(torch.zeros(3, 2, 4))


def test_the_default_dtype_changes_nothing():
    x = torch.randn(20, 2, 5) * 2
    want = lif(x, tau=2.0, backend="cpu")[0], readout(x, backend="cpu")
    torch.set_default_dtype(torch.float64)
    try:
        got = lif(x, tau=2.0, backend="cpu")[0], readout(x, backend="cpu")
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
