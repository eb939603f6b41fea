"""The Triton scans against the reference, on a GPU or, without one, in Triton's interpreter."""

from dataclasses import replace

import pytest
import torch
import triton
import triton.language as tl

from snndelay.kernels import NEURONS, NeuronOptions, reference
from snndelay.kernels.dropout import Dropout
from snndelay.kernels.scan import Scan, decay_of, scan_of
from snndelay.kernels.triton.lif import STEPS, lif_bwd, lif_fwd, lif_fwd_packed
from snndelay.kernels.triton.readout import readout_bwd, readout_fwd

from ...conftest import assert_close
from ..helpers import COMPILED, DEVICE, SLOPED, random_constants

SHAPES = [(1, 1, 1), (17, 3, 63), (STEPS * 4, 1, 300)]


class Case:
    """Random inputs of one scan, the scan, and its adjoint through the constants."""

    def __init__(self, neuron, options, T, B, N, *, norm=False, dropout=None, dtype=torch.float32):
        self.neuron, self.options, self.norm, self.dropout = neuron, options, norm, None
        if dropout:
            p, mask = dropout
            self.dropout = Dropout(p, mask, torch.tensor(2**40 + 7, device=DEVICE))
        self.constants = {k: leaf(v) for k, v in random_constants(neuron, N).items()}
        self.x = leaf((torch.randn(T, B, N) + 0.3).to(dtype))
        self.state = [leaf(torch.randn(B, N) / 2) for _ in NEURONS[neuron].states]
        self.scale, self.shift = leaf(torch.rand(N) + 0.5), leaf(torch.randn(N) / 4)

    @property
    def inputs(self) -> dict:
        state = {f"state {i}": v for i, v in enumerate(self.state)}
        norm = dict(scale=self.scale, shift=self.shift) if self.norm else {}
        return {"x": self.x, **norm, **state, **self.constants}

    def scan(self, x=None) -> Scan:
        norm = (self.scale.detach(), self.shift.detach()) if self.norm else None
        scan = scan_of(self.x, self.constants, self.neuron, self.options, norm, self.dropout)
        return scan._replace(x=self.x if x is None else x)  # strided where the case's x is

    def forward(self, x=None, state=None) -> list:
        """Spikes, states, checkpoints, packed spikes."""
        with torch.no_grad():
            return lif_fwd(self.scan(x), self.state if state is None else state)

    def backward(self, recorded, ds, dstates) -> list:
        """Gradients in the order of ``inputs``."""
        scan = self.scan()
        with torch.no_grad():
            dx, sums, *first = lif_bwd(scan, ds, dstates, *recorded)
        norm, rows = (list(sums[:2]), sums[2:]) if self.norm else ([], sums)
        constants = list(self.constants.values())
        if constants:
            learned = [i for i, c in enumerate(scan.coefficients) if c.requires_grad]
            constants = torch.autograd.grad(
                [scan.coefficients[i] for i in learned],
                constants,
                [rows[i] for i in learned],
            )
        return [dx, *norm, *first, *constants]

    def reference(self, factor=1.0) -> tuple:
        """Spikes and states; ``factor`` is the dropout mask."""
        x = self.x.float() * self.scale + self.shift if self.norm else self.x.float()
        s, state = reference.lif(x, tuple(self.state), self.constants, self.neuron, self.options)
        return s * factor, state


def leaf(v: torch.Tensor) -> torch.Tensor:
    return v.to(DEVICE).requires_grad_()


def unpack(bits: torch.Tensor, N: int) -> torch.Tensor:
    flags = bits.unsqueeze(-1) >> torch.arange(32, device=bits.device) & 1
    return flags.flatten(2)[..., :N].float()


def assert_same_spikes(got: torch.Tensor, want: torch.Tensor) -> None:
    wrong = (got.float() != want.float()).nonzero()
    assert len(wrong) == 0, f"{len(wrong)} of {got.numel()} differ, first at {wrong[0].tolist()}"


def assert_backward(case: Case, factor=1.0, rel=1e-5) -> None:
    s, *states, checkpoints, bits = case.forward()
    s_ref, states_ref = case.reference(factor)
    assert_same_spikes(s, s_ref)
    for v, v_ref in zip(states, states_ref, strict=True):
        assert_close(v, v_ref, 1e-6, "last state")
    ds, dstates = torch.randn_like(s), [torch.randn_like(v) for v in states]
    got = case.backward((checkpoints, bits), ds, dstates)
    inputs = case.inputs
    want = torch.autograd.grad(
        *((s_ref, *states_ref), list(inputs.values()), (ds.float(), *dstates)),
        materialize_grads=True,
    )
    for name, g, w in zip(inputs, got, want, strict=True):
        assert_close(g, w, rel, f"gradient of {name}")


@pytest.mark.parametrize("neuron", COMPILED)
@pytest.mark.parametrize(
    ("T", "B", "N"), [(1, 2, 300), (2, 1, 1), (17, 3, 63), (17, 2, 300), (250, 1, 63)]
)
def test_spikes_flip_only_within_rounding_of_the_threshold(neuron, T, B, N):
    """float64 dynamics from the same inputs: a spike may differ only where the exact potential is
    within 1e-5 of the threshold, and the neuron is left alone from there on.
    """
    case = Case(neuron, NeuronOptions(), T, B, N)
    s, *_, bits = case.forward()
    assert_same_spikes(unpack(bits, N), s)
    constants = {k: v.detach().double() for k, v in case.constants.items()}
    state = tuple(v.detach().double() for v in case.state)
    charge = replace(case.options, reset="none")
    alike = torch.ones(B, N, dtype=torch.bool, device=DEVICE)
    step = NEURONS[neuron].step
    for t, x in enumerate(case.x.detach().double()):
        _, (h, *_) = step(x, state, constants, charge)
        s_exact, state = step(x, state, constants, case.options)
        clear = (h - case.options.v_threshold).abs() > 1e-5
        wrong = (s[t] != s_exact) & alike & clear
        assert not wrong.any(), f"{int(wrong.sum())} spikes differ at step {t}: h {h[wrong][0]}"
        alike &= s[t] == s_exact
    assert alike.float().mean() > 0.99, "too many neurons were left out of the comparison"


@pytest.mark.parametrize("neuron", ["lif", "if"])
@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dyadic_inputs_give_the_spikes_of_the_reference(neuron, reset, dtype):
    case = Case(neuron, NeuronOptions(reset=reset), 12, 3, 300, dtype=dtype)
    case.x = leaf(torch.randint(-64, 128, (12, 3, 300)).to(dtype) / 64)
    case.state = [torch.zeros(3, 300, device=DEVICE)]
    case.constants = {k: torch.full((300,), 2.0, device=DEVICE) for k in case.constants}
    s, v, *_ = case.forward()
    s_ref, (v_ref,) = case.reference()
    assert s.dtype == dtype and 0.1 < s.float().mean() < 0.9
    assert_same_spikes(s, s_ref)
    assert torch.equal(v, v_ref)


WAYS = [(n, r, d) for n in COMPILED for r in ("hard", "soft", "none") for d in (True, False)]


@pytest.mark.parametrize(
    ("neuron", "reset", "detach_reset", "surrogate"),
    # a kernel calls its surrogate in one place: every way meets one, and every one some ways
    [(*way, SLOPED[i % len(SLOPED)]) for i, way in enumerate(WAYS)],
)
def test_gradients_equal_autograd_of_the_reference(neuron, reset, detach_reset, surrogate):
    options = NeuronOptions(
        reset=reset,
        v_reset=-0.25 if reset == "hard" else 0.0,
        decay_input=detach_reset,
        detach_reset=detach_reset,
        surrogate=surrogate,
        alpha=2.0,
    )
    assert_backward(Case(neuron, options, 11, 2, 33, norm=not detach_reset))


@pytest.mark.parametrize("neuron", COMPILED)
@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
@pytest.mark.parametrize("detach_reset", [True, False])
def test_gradients_with_a_detached_state(neuron, reset, detach_reset):
    options = NeuronOptions(reset=reset, detach_reset=detach_reset, detach_state=True)
    assert_backward(Case(neuron, options, 19, 2, 33, norm=True))


@pytest.mark.parametrize("neuron", COMPILED)
@pytest.mark.parametrize(("T", "B", "N"), SHAPES)
def test_gradients_over_shapes(neuron, T, B, N):
    assert_backward(Case(neuron, NeuronOptions(), T, B, N, norm=True))


@pytest.mark.parametrize("neuron", COMPILED)
def test_what_is_not_wanted_changes_nothing_else(neuron):
    """No gradients of states and coefficients, no cotangents of the last states."""
    case = Case(neuron, NeuronOptions(), 11, 2, 33, norm=True)
    s, *states, checkpoints, bits = case.forward()
    zeros = [torch.zeros_like(v) for v in states]
    with torch.no_grad():
        scan, ds = case.scan(), torch.randn_like(s)
        dx, sums, *first = lif_bwd(scan, ds, zeros, checkpoints, bits)
        same_dx, norm = lif_bwd(scan, ds, [], checkpoints, bits, False, False)
        _, _, *same = lif_bwd(scan, ds, [], checkpoints, bits, True, False)
    assert torch.equal(dx, same_dx) and torch.equal(sums[:2], norm)
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_input(dtype):
    """The state is float32 inside: only loading x and storing dx round."""
    assert_backward(Case("adlif", NeuronOptions(), 17, 2, 63, dtype=dtype), rel=2e-2)


@triton.jit
def _rand_kernel(seed, out, n: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.rand(tl.load(seed), i), i < n)


@pytest.mark.parametrize("mask", ["held", "step"])
@pytest.mark.parametrize("neuron", ["lif", "adlif"])
def test_dropout_multiplies_by_the_mask_forward_and_backward(mask, neuron):
    T, B, N, p = 11, 2, 35, 0.4
    case = Case(neuron, NeuronOptions(), T, B, N, dropout=(p, mask))
    n = (T if mask == "step" else 1) * B * N
    uniform = torch.empty(n, device=DEVICE)
    _rand_kernel[(1,)](case.dropout.seed, uniform, n, triton.next_power_of_2(n))
    keep = (uniform >= p).view(-1, B, N)
    assert 0.2 < 1 - keep.float().mean() < 0.6
    assert_backward(case, factor=keep * (1 / (1 - p)))


@pytest.mark.parametrize("neuron", COMPILED)
def test_chunks_with_carried_state_equal_one_run(neuron):
    case = Case(neuron, NeuronOptions(), 40, 2, 35)
    whole, *end, _, bits = case.forward()
    state, parts, words = case.state, [], []
    for x in case.x.split([1, 12, 16, 11]):
        s, *state, _, b = case.forward(x, state)
        parts.append(s)
        words.append(b)
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(torch.cat(words), bits)
    assert all(torch.equal(a, b) for a, b in zip(state, end, strict=True))


def test_packed_spikes_alone():
    """A threshold below rest: lanes without a neuron would fire."""
    case = Case("adlif", NeuronOptions(v_threshold=-0.125), 17, 3, 63, norm=True)
    _, *end, _, bits = case.forward()
    with torch.no_grad():
        packed, *states = lif_fwd_packed(case.scan(), case.state)
    assert torch.equal(packed, bits) and (bits < 0).sum() > 0, "bit 31 is the sign"
    assert (bits[..., -1] >= 0).all(), "there is no neuron 63"
    assert all(torch.equal(a, b) for a, b in zip(states, end, strict=True))


def test_strided_inputs_and_expanded_gradients():
    case = Case("lif", NeuronOptions(), 9, 3, 35)
    want = case.forward()
    case.x = case.x.detach().transpose(0, 2).contiguous().transpose(0, 2)
    assert not case.x.is_contiguous()
    got = case.forward()
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    s, v, *recorded = got
    ones = torch.ones((), device=DEVICE)
    got = case.backward(recorded, ones.expand_as(s), [ones.expand_as(v)])
    want = case.backward(recorded, torch.ones_like(s), [torch.ones_like(v)])
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.fixture
def poisoned_memory():
    """Fresh memory is NaN."""
    before = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    assert torch.empty(1).isnan()
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = before


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("neuron", COMPILED)
@pytest.mark.parametrize("T", [1, STEPS, 19])
def test_every_output_is_written(neuron, T):
    case = Case(neuron, NeuronOptions(), T, 2, 35, norm=True, dropout=(0.5, "held"))
    s, *states, checkpoints, bits = case.forward()
    got = case.backward((checkpoints, bits), torch.randn_like(s), [s[0] + 1 for _ in states])
    for name, tensor in {
        "s": s,
        "checkpoints": checkpoints,
        **dict(zip(case.inputs, got, strict=True)),
    }.items():
        assert tensor.isfinite().all(), f"{name} holds memory that was never written"
    assert (bits[..., -1] >> 3 == 0).all(), "bits beyond the last neuron must be 0"
    x, v, keep = torch.randn(T, 2, 35, device=DEVICE), s[0], torch.rand(35, device=DEVICE)
    out = readout_fwd(x, v, keep)
    for tensor in (out, *readout_bwd(out, out, v, keep)):
        assert tensor.isfinite().all()


@pytest.mark.parametrize("neuron", ["lif", "adlif"])
def test_repeats_are_equal_to_the_last_bit(neuron):
    T, B, N, repeats = (100, 16, 512, 100) if DEVICE == "cuda" else (9, 2, 35, 3)
    case = Case(neuron, NeuronOptions(), T, B, N, norm=True, dropout=(0.4, "held"))
    ds = torch.randn_like(case.x)

    def run():
        s, *states, checkpoints, bits = case.forward()
        grads = case.backward((checkpoints, bits), ds, [torch.ones_like(v) for v in states])
        return [s, *states, checkpoints, bits, *grads]

    first = run()
    for _ in range(repeats - 1):
        assert all(torch.equal(a, b) for a, b in zip(run(), first, strict=True))


@pytest.mark.parametrize(("T", "B", "N"), [*SHAPES, (70, 2, 20)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_readout_equals_the_reference(T, B, N, dtype):
    x, v0 = leaf(torch.randn(T, B, N).to(dtype)), leaf(torch.randn(B, N))
    tau = leaf(torch.rand(N) * 3 + 1.1)
    keep = 1 - 1 / tau
    with torch.no_grad():
        v = readout_fwd(x, v0, keep)
    want = reference.readout(x.float(), v0, tau)
    low = dtype != torch.float32
    assert v.dtype == dtype
    assert_close(v, want, 4e-3 if low else 1e-6, "v")
    g = torch.randn_like(v)
    with torch.no_grad():
        dx, dv0, dkeep = readout_bwd(g, v, v0, keep)
    (dtau,) = torch.autograd.grad(keep, tau, dkeep)
    wanted = torch.autograd.grad(want, (x, v0, tau), g.float())
    for name, a, b in zip(("x", "v0", "tau"), (dx, dv0, dtau), wanted, strict=True):
        assert_close(a, b, 2e-2 if low else 1e-5, f"gradient of {name}")


def test_readout_from_rest_with_a_number():
    x, tau = torch.randn(40, 3, 20, device=DEVICE), 1.7
    zero, keep = torch.zeros(3, 20, device=DEVICE), torch.full((20,), tau, device=DEVICE)
    keep = 1 - 1 / keep
    v = readout_fwd(x, None, decay_of(tau))
    assert torch.equal(v, readout_fwd(x, zero, keep))
    (dx,) = readout_bwd(x, v, None, decay_of(tau), False, False)
    assert torch.equal(dx, readout_bwd(x, v, zero, keep)[0])


@pytest.mark.gpu
@pytest.mark.usefixtures("_much_memory")
@pytest.mark.skipif(DEVICE == "cpu", reason="2**31 elements need a GPU")
def test_more_elements_than_31_bits_count():
    T, B, N = 2**10 + 8, 2**7, 2**14
    x = torch.zeros(T, B, N, dtype=torch.bfloat16, device=DEVICE)
    x[-1, -1, -1] = 1
    keep, gain = torch.full((N,), 0.5, device=DEVICE), torch.ones(N, device=DEVICE)
    v0 = torch.zeros(B, N, device=DEVICE)
    scan = Scan(x, None, None, [keep, gain], None, "lif", 1.0, 0.0, "hard", alpha=5.0)
    s, _, checkpoints, bits = lif_fwd(scan, [v0])
    assert s.sum() == 1 and s[-1, -1, -1] == 1
    dx, *_ = lif_bwd(scan, s, [v0], checkpoints, bits)
    assert dx.count_nonzero() > 0 and dx[:, :-1].count_nonzero() == 0
