"""The Triton delay convolution against the reference in float64, on a GPU or in the interpreter."""

import pytest
import torch

from snndelay.errors import BackendError
from snndelay.kernels import Synapses, reference

from ...conftest import assert_close
from ..helpers import DEVICE

pytest.importorskip("triton")

from snndelay.kernels.triton import delay as triton_delay
from snndelay.kernels.triton import delay_launch as triton_delay_launch
from snndelay.kernels.triton.delay import delay_linear, delay_linear_norm
from snndelay.kernels.triton.delay_integer import delay_integer
from snndelay.kernels.triton.norm import update_running_

NAMES = ("dx", "dW", "dP", "dSIG")
LIMITS = {"highest": 1e-6, "default": 2e-5, "fast": 1e-2}  # relative L2, spikes


def problem(T, B, C, N, K, E=1, shared=True, dtype=torch.float32, values="counts"):
    """x, w, p, sigma: counts or normal values; positions with both edges and an integer."""
    shape = (T, B, C)
    x = torch.poisson(torch.full(shape, 0.5)) if values == "counts" else torch.randn(shape)
    p = (torch.rand(E, N, C) - 0.5) * 2 * (K // 2)
    p.view(-1)[:3] = torch.tensor([-(K // 2), K // 2, 0.0])[: p.numel()]
    p.view(-1)[3:] += 1e-3  # |i - p'| has no slope at 0, where rounding decides its sign
    sigma = torch.tensor(1.3) if shared else torch.rand(E, N, C) * 2
    tensors = (x.to(dtype), torch.randn(E, N, C), p, sigma)
    return [t.to(DEVICE).requires_grad_() for t in tensors]


def run(op, inputs, K, version="gauss", *rest):
    """An op of x and synapses from x, w, p, sigma."""
    x, *tensors = inputs
    return op(x, Synapses(*tensors, K, version), *rest)


def check(inputs, K, version, extra_steps, precision, forward, backward):
    """Output and gradients equal those of the reference in float64."""
    exact = [t.detach().double().requires_grad_() for t in inputs]
    y = run(delay_linear, inputs, K, version, extra_steps, precision)
    want = run(reference.delay_linear, exact, K, version, extra_steps)
    assert y.dtype == inputs[0].dtype
    assert_close(y, want, forward, f"{version} {precision} y")
    dy = torch.randn_like(y)
    needed = [i for i, t in enumerate(inputs) if t.requires_grad]
    grads = torch.autograd.grad(y, [inputs[i] for i in needed], dy, allow_unused=True)
    wants = [exact[i] for i in needed]
    wants = torch.autograd.grad(want, wants, dy.double(), allow_unused=True)
    for name, a, b in zip([NAMES[i] for i in needed], grads, wants, strict=True):
        if b is None:
            assert a is None, f"{version} {name}: must be unused"
        elif b.norm() < 1e-6 * dy.norm():  # one tap: what the normaliser leaves of the gradient
            assert a.abs().max() < 1e-5, f"{version} {precision} {name} must vanish"
        else:
            assert_close(a, b, backward, f"{version} {precision} {name}")


SIZES = [  # T, B, C, N, K, extra
    (1, 1, 1, 1, 1, 0),
    (1, 3, 5, 63, 25, 12),
    (2, 1, 17, 1, 31, 15),
    (17, 3, 5, 1, 25, 0),
    (17, 1, 3, 15, 31, 62),
    (17, 3, 20, 7, 2, 0),
]
OTHERS = {"v0": SIZES[1::3], "v1": SIZES[2::3], "max": SIZES[::3]}  # gauss is what is trained


@pytest.mark.parametrize(
    ("version", "sizes"),
    [("gauss", s) for s in SIZES] + [(v, s) for v, sizes in OTHERS.items() for s in sizes],
)
def test_equals_the_reference(version, sizes):
    T, B, C, N, K, extra = sizes
    shared, E = (T + N) % 2 == 0, 1 if N > 30 else 2
    check(problem(T, B, C, N, K, E, shared), K, version, extra, "highest", 1e-6, 1e-5)


@pytest.mark.parametrize(
    ("T", "B", "C", "N", "K"), [(17, 3, 5, 63, 31), (250, 1, 3, 2, 25), (2, 3, 2, 300, 5)]
)
def test_larger_sizes_equal_the_reference(T, B, C, N, K):
    check(problem(T, B, C, N, K), K, "gauss", (K - 1) // 2, "highest", 1e-6, 1e-5)


@pytest.mark.parametrize("sigma", [0.0, -0.23, 12.0])
def test_narrow_and_wide_taps_equal_the_reference(sigma):
    x, w, p, _ = problem(20, 2, 4, 6, 25)
    sigma = torch.tensor(sigma, device=DEVICE, requires_grad=True)
    check([x, w, p, sigma], 25, "gauss", 0, "highest", 1e-6, 1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("precision", LIMITS)
def test_low_precision_equals_the_reference(dtype, precision):
    inputs = problem(17, 3, 16, 32, 25, dtype=dtype, values="normal")
    check(inputs, 25, "gauss", 12, precision, 2e-2, 2e-2)


@pytest.mark.parametrize("precision", LIMITS)
def test_precision_is_as_documented(precision):
    limit = LIMITS[precision]
    check(problem(17, 3, 20, 33, 25), 25, "gauss", 0, precision, limit, 3 * limit)
    real = problem(17, 3, 20, 33, 25, values="normal")
    exact = run(reference.delay_linear, [t.double() for t in real], 25)
    limit = 1e-6 if precision == "highest" else 1e-2  # the others round x to bfloat16
    assert_close(run(delay_linear, real, 25, "gauss", 0, precision), exact, limit, precision)


@pytest.mark.parametrize(
    ("tile", "precision"), [(c, c) for c in LIMITS] + [("small", c) for c in LIMITS]
)
def test_every_tile_of_the_convolution(monkeypatch, tile, precision):
    config = triton_delay_launch.CONV_CONFIGS[tile]
    monkeypatch.setattr(triton_delay_launch, "_conv_config", lambda *_: config)
    inputs = problem(90, 3, 5, 7, 5, shared=False)
    check(inputs, 5, "gauss", 3, precision, LIMITS[precision], 3 * LIMITS[precision])


@pytest.mark.parametrize(
    ("tile", "precision"),
    [("highest", "highest"), *((t, c) for t in ("wide", "narrow") for c in ("default", "fast"))],
)
def test_every_tile_of_the_weight_gradient(monkeypatch, tile, precision):
    config = triton_delay_launch.DW_CONFIGS[tile]
    monkeypatch.setattr(triton_delay_launch, "dw_config", lambda *_: config)
    x, *synapses = problem(200, 3, 5, 7, 5, shared=False)
    check(
        [x.detach(), *synapses], 5, "gauss", 3, precision, LIMITS[precision], 3 * LIMITS[precision]
    )


def test_every_tile_is_tested():
    assert {*triton_delay_launch.CONV_CONFIGS} == {*LIMITS, "small"}
    assert {*triton_delay_launch.DW_CONFIGS} == {"highest", "wide", "narrow"}


def test_no_tile_changes_the_order_of_a_sum(monkeypatch):
    inputs = problem(90, 3, 33, 7, 5)
    outputs = []
    for config in triton_delay_launch.CONV_CONFIGS.values():
        monkeypatch.setattr(triton_delay_launch, "_conv_config", lambda *_, c=config: c)
        outputs.append(run(delay_linear, inputs, 5))
    for y, name in zip(outputs, triton_delay_launch.CONV_CONFIGS, strict=True):
        assert torch.equal(y, outputs[0]), f"tile {name} gives other bits"


@pytest.mark.parametrize(
    ("values", "dtype", "parts"),
    [
        ("counts", torch.float32, 1),
        ("normal", torch.float32, 3),
        ("normal", torch.float16, 2),
        ("normal", torch.bfloat16, None),
    ],
)
def test_parts_add_up_and_spikes_need_one(values, dtype, parts):
    x = problem(5, 3, 7, 1, 1, dtype=dtype, values=values)[0].detach()
    planes, used = triton_delay_launch.split(x, 3, True)
    used = None if used is None else used.amax()
    assert torch.equal(planes.float().sum(0)[:, :7].to(dtype), x.view(15, 7))
    assert planes[..., 7:].count_nonzero() == 0
    assert (None if used is None else used.item()) == parts


def affine_of(N):
    """gamma and beta of a normalisation."""
    return [t.to(DEVICE).requires_grad_() for t in (torch.rand(N) + 0.5, torch.randn(N) / 4)]


def reference_norm(inputs, affine, K, extra_steps, eps=1e-5):
    """Current, mean, variance, scale, shift."""
    y = run(reference.delay_linear, inputs, K, "gauss", extra_steps)
    statistics = reference.batch_statistics(y)
    return y, *statistics, *reference.fold_norm(*statistics, *affine, eps)


NORM = ("y", "mean", "var", "scale", "shift")


@pytest.mark.parametrize(
    ("affine", "dtype"), [(True, torch.float32), (False, torch.float32), (True, torch.bfloat16)]
)
@pytest.mark.parametrize(("T", "B", "N"), [(1, 1, 1), (17, 3, 63), (90, 3, 7)])
def test_normalisation_equals_the_reference(T, B, N, affine, dtype):
    inputs = problem(T, B, 5, N, 9, dtype=dtype)
    gamma_beta = affine_of(N) if affine else [None, None]
    leaves = [*inputs, *gamma_beta] if affine else inputs
    exact = [t.detach().double().requires_grad_() for t in leaves]
    got = run(delay_linear_norm, inputs, 9, "gauss", *gamma_beta, 1e-5, 4)
    want = reference_norm(exact[:4], exact[4:] or [None, None], 9, 4)
    low = dtype == torch.bfloat16
    for name, a, b in zip(NORM, got, want, strict=True):
        assert_close(a, b, 2e-2 if low and name == "y" else 2e-6, name)
    assert torch.equal(got[0], run(delay_linear, inputs, 9, "gauss", 4)), "statistics changed y"
    cotangents = [torch.randn_like(a) for a in got]
    grads = torch.autograd.grad(got, leaves, cotangents)
    wants = torch.autograd.grad(want, exact, [c.double() for c in cotangents])
    for name, a, b in zip((*NAMES, "gamma", "beta")[: len(leaves)], grads, wants, strict=True):
        assert_close(a, b, 5e-2 if low else 1e-5, f"{name} through the statistics")


@pytest.mark.parametrize("which", range(5))
def test_each_output_alone_is_differentiable(which):
    inputs, affine = problem(9, 2, 3, 4, 5), affine_of(4)
    exact = [t.detach().double().requires_grad_() for t in (*inputs, *affine)]
    got = run(delay_linear_norm, inputs, 5, "gauss", *affine, 1e-5)[which]
    want = reference_norm(exact[:4], exact[4:], 5, 0)[which]
    c = torch.randn_like(got)
    grads = torch.autograd.grad(got, [*inputs, *affine], c, materialize_grads=True)
    wants = torch.autograd.grad(want, exact, c.double(), materialize_grads=True)
    for name, a, b in zip((*NAMES, "gamma", "beta"), grads, wants, strict=True):
        assert_close(a, b, 1e-5, f"{name} through {NORM[which]}")


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
@pytest.mark.parametrize("N", [1, 63, 300])
def test_running_statistics_equal_torch(N, momentum):
    bn = torch.nn.BatchNorm1d(N, momentum=momentum).to(DEVICE)
    kept = [torch.zeros(N), torch.ones(N), torch.tensor(0)]
    kept, other = ([t.clone().to(DEVICE) for t in kept] for _ in range(2))
    for _ in range(3):
        y = torch.randn(50, N, device=DEVICE) * 3 + 1
        bn(y)
        mean, var = y.mean(0), y.var(0, correction=0)
        update_running_(mean, var, *kept, momentum, 50)
        reference.update_running_(mean, var, *other, momentum, 50)
    wants = (bn.running_mean, bn.running_var, bn.num_batches_tracked)
    for a, b, c in zip(kept, other, wants, strict=True):
        assert_close(a, c, 1e-6, "running statistics")
        assert_close(b, c, 1e-6, "running statistics of the reference")


def test_cotangents_and_inputs_of_any_layout():
    x, w, p, sigma = problem(9, 2, 20, 6, 5)
    apart = [x.permute(2, 0, 1).contiguous().permute(1, 2, 0), w.mT.contiguous().mT, p, sigma]
    assert not apart[0].is_contiguous() and not apart[1].is_contiguous()
    y, same = run(delay_linear, apart, 5), run(delay_linear, (x, w, p, sigma), 5)
    assert torch.equal(y, same)
    one = torch.randn(2, 1, device=DEVICE)
    for dy in (one.expand(9, 2, 6), torch.zeros_like(y), torch.randn(6, 9, 2).permute(1, 2, 0)):
        dy = dy.to(DEVICE)
        inputs = (x, w, p, sigma)
        grads = torch.autograd.grad(y, inputs, dy, retain_graph=True)
        dense = torch.autograd.grad(same, inputs, dy.contiguous(), retain_graph=True)
        for name, a, b in zip(NAMES, grads, dense, strict=True):
            assert torch.equal(a, b), f"{name} depends on the layout"
            assert b.count_nonzero() == 0 or dy.count_nonzero(), f"{name} from no cotangent"


def test_no_work_for_gradients_that_nobody_needs(monkeypatch):
    convolutions = []

    def conv(*args):
        convolutions.append(args)
        return triton_delay_launch.conv(*args)

    def refuse(*_):
        raise AssertionError("a gradient that nobody needs was computed")

    monkeypatch.setattr(triton_delay, "conv", conv)
    x, w, p, sigma = problem(5, 2, 3, 4, 5)
    run(delay_linear, (x.detach(), w, p, sigma.detach()), 5).sum().backward()
    assert x.grad is None and sigma.grad is None and w.grad is not None
    assert len(convolutions) == 1, "the input's gradient was computed"
    monkeypatch.setattr(triton_delay, "weight_gradient", refuse)
    run(delay_linear, [x, *(t.detach() for t in (w, p, sigma))], 5).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("precision", ["highest", "default"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_weight_gradient_keeps_the_part_that_is_half_of_the_input(precision, dtype):
    x, *synapses = problem(17, 3, 16, 8, 5, dtype=dtype)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        run(delay_linear, (x, *synapses), 5, "gauss", 0, precision)
    half = precision == "default" and dtype == torch.float32
    want = (x.nbytes // 2 if half else x.nbytes) + sum(t.nbytes for t in synapses)
    assert sum(t.nbytes for t in kept) == want, [(t.shape, t.dtype) for t in kept]


def run_all(inputs):
    torch.manual_seed(7)
    affine = affine_of(7)
    outputs = run(delay_linear_norm, inputs, 9, "gauss", *affine, 1e-5, 12)
    cotangents = [torch.randn_like(a) for a in outputs]
    return (*outputs, *torch.autograd.grad(outputs, [*inputs, *affine], cotangents))


def test_poisoned_memory_does_not_show():
    inputs = problem(9, 3, 5, 7, 9, shared=False)
    clean = run_all(inputs)
    torch.use_deterministic_algorithms(True)  # also fills what torch.empty returns with NaN
    try:
        poisoned = run_all(inputs)
    finally:
        torch.use_deterministic_algorithms(False)
    for i, (a, b) in enumerate(zip(clean, poisoned, strict=True)):
        assert a.isfinite().all() and torch.equal(a, b), f"result {i} read memory nobody wrote"


@pytest.mark.parametrize("repeats", [3, pytest.param(100, marks=pytest.mark.gpu)])
def test_repeats_are_bitwise_equal(repeats):
    if repeats == 100 and DEVICE == "cpu":
        pytest.skip("the race test needs a GPU")
    inputs = problem(17, 3, 5, 7, 9)
    first = run_all(inputs)
    for _ in range(repeats - 1):
        for i, (a, b) in enumerate(zip(first, run_all(inputs), strict=True)):
            assert torch.equal(a, b), f"result {i} differs between two runs"


@pytest.mark.parametrize("precision", ["highest", "default"])
def test_registrations_are_sound(precision):
    x, w, p, sigma = problem(5, 2, 3, 4, 5, shared=False)
    ops, check_op = torch.ops.snndelay, torch.library.opcheck
    how = (5, "gauss", 2, precision)
    check_op(ops.triton_delay_fwd.default, (x, w, p, sigma, *how))
    affine = affine_of(4)
    check_op(ops.triton_delay_norm_fwd.default, (x, w, p, sigma, *affine, *how, 1e-5))
    check_op(ops.triton_delay_norm_fwd.default, (x, w, p, sigma, None, None, *how, 1e-5))
    tensors = [t.detach() for t in (x, w, p, sigma, *affine)]
    y, mean, var, *_, planes = ops.triton_delay_norm_fwd(*tensors, *how, 1e-5)
    cut = planes.numel() > 0
    assert cut == (precision == "default")
    kept = planes if cut else tensors[0]
    norm = [y, mean, var, tensors[4], None, var, mean, None]
    for given in (norm, []):
        for need in ((True, True, True), (False, True, False), (True, False, False)):
            args = (y, kept, cut, *tensors[1:4], given, 5, "gauss", precision, 1e-5, *need)
            check_op(ops.triton_delay_bwd.default, args)
    running = (torch.zeros_like(mean), torch.ones_like(var), torch.tensor(3, device=DEVICE))
    check_op(ops.triton_running.default, (mean, var, *running, 0.1, 14))


def test_compiles_into_one_graph():
    inputs = problem(5, 2, 3, 4, 5)

    def layer(*args):
        return run(delay_linear, args, 5).square()

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for got, want in zip(
        torch.autograd.grad(compiled(*inputs).sum(), inputs),
        torch.autograd.grad(layer(*inputs).sum(), inputs),
        strict=True,
    ):
        assert torch.equal(got, want)


def test_what_it_cannot_run_says_why():
    x, w, p, sigma = problem(5, 2, 3, 4, 5)
    with pytest.raises(BackendError, match="float64"):
        run(delay_linear, (x.double(), w, p, sigma), 5)
    with pytest.raises(ValueError, match="precision must be one of"):
        run(delay_linear, (x, w, p, sigma), 5, "gauss", 0, "exact")
    with pytest.raises(ValueError, match="sigma must be"):
        run(delay_linear, (x, w, p, sigma.expand(2)), 5)
    with pytest.raises(ValueError, match="delay_integer"):
        delay_integer(x, w[0], w[0, :2].int())


@pytest.mark.gpu
@pytest.mark.usefixtures("_much_memory")
def test_more_elements_than_32_bits_count():
    if DEVICE == "cpu":
        pytest.skip("needs a GPU")
    T, B, C, K = 2200, 1024, 1024, 2
    _, w, p, sigma = problem(1, 1, C, 3, K)
    x = torch.zeros(T, B, C, dtype=torch.bfloat16, device=DEVICE)
    x[-3:] = torch.randn(3, B, C).to(DEVICE)
    y = run(delay_linear, (x, w, p, sigma), K)
    exact = [t.double() for t in (x[-3:], w, p, sigma)]
    want = run(reference.delay_linear, exact, K)
    assert_close(y[-3:], want, 1e-2, "the last steps")
    assert y[:-3].count_nonzero() == 0


def integer_reference(x, w, delay, extra_steps):
    """A loop over delays of shifted matrix products with the weights that have this delay."""
    T, B, _ = x.shape
    y = torch.zeros(T + extra_steps, B, w.shape[0], dtype=torch.float64, device=x.device)
    for d in delay.unique().tolist():
        n = min(T, T + extra_steps - d)
        if n > 0:
            y[d : d + n] += (x.double() @ (w.double() * (delay == d)).T)[:n]
    return y


def pack(s_TBC):
    """Spikes as bits: bit j of word k is channel 32 k + j."""
    T, B, C = s_TBC.shape
    bits = torch.nn.functional.pad(s_TBC.long(), (0, -C % 32)).view(T, B, -1, 32)
    return (bits << torch.arange(32, device=bits.device)).sum(-1).to(torch.int32)


@pytest.mark.parametrize("activity", [0.0, 0.1, 0.6])
@pytest.mark.parametrize(
    ("T", "B", "C", "N", "K", "extra"),
    [(1, 1, 1, 1, 1, 0), (7, 2, 40, 63, 25, 12), (130, 1, 3, 7, 31, 200)],
)
def test_integer_delays_equal_the_loop_over_delays(T, B, C, N, K, extra, activity):
    s = (torch.rand(T, B, C) < activity).to(DEVICE)
    x = s * torch.randint(1, 5, s.shape, device=DEVICE).float()
    w = torch.randn(N, C, device=DEVICE)
    delay = torch.randint(0, K, (N, C), dtype=torch.int32, device=DEVICE)
    cases = {"counts": x, "bfloat16 counts": x.bfloat16(), "packed": pack(s)}
    for name, given in cases.items():
        dense = s.float() if name == "packed" else x
        y = delay_integer(given, w, delay, extra)
        limit = 1e-2 if given.dtype == torch.bfloat16 else 1e-6
        assert_close(y, integer_reference(dense, w, delay, extra), limit, name)
        assert y.dtype == (torch.float32 if name == "packed" else given.dtype)


def test_integer_delays_equal_the_convolution():
    x, w, p, _ = problem(20, 2, 6, 5, 9)
    p = p.detach().round().clamp(-4, 4)
    zero = torch.zeros((), device=DEVICE)
    want = run(delay_linear, (x, w, p, zero), 9, "max", 3)
    got = delay_integer(x.detach(), w[0].detach(), (4 - p[0]).int(), 3)
    assert_close(got, want, 1e-6, "one tap per synapse")


def test_integer_registration_is_sound():
    s = (torch.rand(5, 2, 40) < 0.3).to(DEVICE)
    w, delay = torch.randn(3, 40, device=DEVICE), torch.ones(3, 40, dtype=torch.int32)
    for x in (s.float(), pack(s)):
        args = (x, w, delay.to(DEVICE), 2)
        torch.library.opcheck(torch.ops.snndelay.triton_delay_integer.default, args)
