import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings

from snndelay.errors import BackendError
from snndelay.kernels import (
    Synapses,
    costs,
    delay_conv,
    delay_integer,
    delay_linear,
    delay_taps,
    fft_conv,
)
from snndelay.kernels.delay import CONV, INTEGER, LINEAR, VERSIONS

from ..conftest import assert_close
from .helpers import DEVICE

FLOAT32 = ("cpu", "triton")  # backends that compute in nothing else
CPU = [b for b in LINEAR if b not in ("reference", "triton")]  # triton/test_delay.py has the other


def synapses(E, N, C, K, dtype=torch.float64):
    w = torch.randn(E, N, C, dtype=dtype)
    p = (torch.rand(E, N, C, dtype=dtype) - 0.5) * 2 * (K // 2)
    p.view(-1)[:3] = torch.tensor([-(K // 2), K // 2, 0])[: p.numel()]  # edges and an integer
    sigma = torch.rand(E, N, C, dtype=dtype) * 2
    return w.requires_grad_(), p.requires_grad_(), sigma.requires_grad_()


def run_linear(inputs, K, version="gauss", extra_steps=0, backend="auto"):
    """``delay_linear`` of x, w, p, sigma."""
    x, *tensors = inputs
    return delay_linear(x, Synapses(*tensors, K, version), extra_steps, backend)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("E", [1, 2])
@pytest.mark.parametrize("K", [1, 2, 5, 8, 25])
def test_taps_equal_dcls(version, E, K):
    from DCLS.construct.modules import Dcls1d

    w, p, sigma = synapses(E, 7, 3, K)
    with torch.no_grad():
        p.add_(
            0.0 if version == "v0" else 1e-3
        )  # |i - p'| has no slope at 0, where both may differ
    peer = Dcls1d(3, 7, E, dilated_kernel_size=K, bias=False, version=version).double()
    with torch.no_grad():
        peer.weight.copy_(w.permute(1, 2, 0))
        peer.P.copy_(p.permute(1, 2, 0)[None])
        if peer.SIG is not None:
            peer.SIG.copy_(sigma.permute(1, 2, 0)[None])
    want = peer.DCK(peer.weight, peer.P, peer.SIG)
    got = delay_taps(Synapses(w, p, sigma, K, version))
    assert_close(got, want, 1e-12, f"{version} taps")
    g = torch.randn_like(got)
    (got * g).sum().backward()
    (want * g).sum().backward()
    pairs = {"dW": (w.grad, peer.weight.grad), "dP": (p.grad, peer.P.grad[0])}
    if peer.SIG is not None:
        pairs["dSIG"] = (sigma.grad, peer.SIG.grad[0])
    for name, (a, b) in pairs.items():
        assert (a.permute(1, 2, 0) - b).abs().max() <= 1e-10, f"{version} K={K}: {name}"


@pytest.mark.parametrize("version", VERSIONS)
def test_taps_gradcheck(version):
    w, p, sigma = synapses(2, 3, 2, 5)
    p = (p.detach() * 0.9 + 0.05).requires_grad_()  # away from the kinks
    assert torch.autograd.gradcheck(lambda *a: delay_taps(Synapses(*a, 5, version)), (w, p, sigma))


def test_gauss_gradient_formulas():
    w, p, sigma = synapses(1, 4, 3, 9)
    g = torch.randn(4, 3, 9, dtype=torch.float64)
    dw, dp, ds = torch.autograd.grad(
        (delay_taps(Synapses(w, p, sigma, 9)) * g).sum(), (w, p, sigma)
    )
    i, centre, width = torch.arange(9), p[0] + 4, sigma[0] + 0.27
    k = delay_taps(Synapses(torch.ones_like(w), p, sigma, 9))
    mu = (i * k).sum(-1)
    spread = (k * (i - centre[..., None]) ** 2).sum(-1)
    want_p = (g * w[0, ..., None] * k * (i - mu[..., None]) / width[..., None] ** 2).sum(-1)
    want_s = (g * w[0, ..., None] * k * ((i - centre[..., None]) ** 2 - spread[..., None])).sum(
        -1
    ) / width**3
    assert_close(dw[0], (g * k).sum(-1), 1e-6, "dW")
    assert_close(dp[0], want_p, 1e-6, "dP")
    assert_close(ds[0], want_s, 1e-6, "dSIG")


def test_conv_is_the_sum_of_its_definition():
    T, B, C, N, K, extra = 9, 2, 3, 4, 5, 2
    x, k = torch.randn(T, B, C, dtype=torch.float64), torch.randn(N, C, K, dtype=torch.float64)
    want = torch.zeros(T + extra, B, N, dtype=torch.float64)
    for t in range(T + extra):
        for i in range(K):
            if 0 <= t - (K - 1) + i < T:
                want[t] += x[t - (K - 1) + i] @ k[:, :, i].T
    for backend in CONV:
        dtype = torch.float32 if backend in FLOAT32 else torch.float64
        got = delay_conv(x.to(dtype), k.to(dtype), extra, backend=backend)
        assert_close(got, want, 1e-6 if backend in FLOAT32 else 1e-12, backend)


@pytest.mark.parametrize("backend", CPU)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("T", "B", "N", "K"),
    [(1, 1, 1, 1), (2, 3, 63, 25), (17, 1, 5, 31), (250, 1, 3, 5), (9, 2, 7, 90)],
)
@pytest.mark.parametrize("extra", ["none", "published", "long"])
def test_backends_equal_the_reference(backend, version, T, B, N, K, extra):
    extra_steps = {"none": 0, "published": (K - 1) // 2, "long": 2 * K}[extra]
    w, p, sigma = synapses(2, N, 6, K)
    x = torch.randn(T, B, 6, dtype=torch.float64, requires_grad=True)
    inputs = (x, w, p, sigma)
    want = run_linear(inputs, K, version, extra_steps, "reference")
    single = backend in FLOAT32
    cast = [a.float() if single else a for a in inputs]
    got = run_linear(cast, K, version, extra_steps, backend)
    assert_close(got, want, 5e-6 if single else 1e-11, f"{backend} y")
    g = torch.randn_like(want)
    grads = [torch.autograd.grad(y, inputs, g.to(y), allow_unused=True) for y in (got, want)]
    for name, a, b in zip(("dx", "dW", "dP", "dSIG"), *grads, strict=True):
        if b is not None:
            worst = (a - b).abs().max() / (1 + b.abs().max())
            assert worst <= (2e-5 if single else 1e-10), f"{backend} {name}: {worst:.1e}"


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("rows", [0, 10**6])
@pytest.mark.parametrize(("T", "K", "extra"), [(40, 7, 0), (40, 7, 3), (300, 25, 12), (5, 70, 34)])
def test_every_way_to_transform_gives_the_same(monkeypatch, compiled, rows, T, K, extra):
    """Matrices or compiled transforms, one tile or many: the definition decides."""
    monkeypatch.setattr(fft_conv, "MATMUL_ROWS", rows)
    monkeypatch.setattr(fft_conv, "MATMUL_TAPS", rows)
    w, p, sigma = synapses(2, 9, 11, K, torch.float32)
    x = torch.randn(T, 3, 11, requires_grad=True)
    inputs = (x, w, p, sigma)
    want = run_linear([a.double() for a in inputs], K, "gauss", extra, "reference")
    g = torch.randn_like(want)
    wanted = torch.autograd.grad(want, inputs, g)
    for tile in (None, 1, 2, 3):
        if tile is not None:
            cut = costs.Tiling(*_cut(T + extra, K, tile))
            monkeypatch.setattr(fft_conv, "tiling", lambda *_, cut=cut: cut)
        run = fft_conv.compiled_delay_linear if compiled else fft_conv.delay_linear
        got = run(x, Synapses(w, p, sigma, K), extra)
        assert_close(got, want, 3e-6, f"{tile} tiles: y")
        grads = torch.autograd.grad(got, inputs, g.float())
        for name, a, b in zip(("dx", "dW", "dP", "dSIG"), grads, wanted, strict=True):
            assert_close(a, b, 1e-5, f"{tile} tiles: {name}")


def _cut(S: int, K: int, tiles: int) -> tuple[int, int, int]:
    hop = -(-S // tiles)
    (*_, L) = costs.lengths(2, hop + K - 1)
    return L, hop, tiles


@pytest.mark.parametrize(("first", "last"), [(0, 7), (-4, 9), (0, 24)])
def test_the_matrices_of_few_steps_are_parts_of_those_of_many(first, last):
    """As they are kept on a GPU."""
    made = fft_conv.matrices.__wrapped__
    few = made(24, first, last, torch.float32, torch.device("cpu"))
    many = made(24, first, first + 24, torch.float32, torch.device("cpu"))
    assert torch.equal(few[0], many[0][:, : last - first])
    assert torch.equal(few[1], many[1][: last - first])


def test_a_shape_that_is_new_cannot_be_recorded(monkeypatch):
    shape = (24, -4, 20, torch.float32, torch.device("cpu"))
    fft_conv._kept.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(BackendError, match="run the shape once before"):
        fft_conv._kept(*shape)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    made = fft_conv._kept(*shape)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert fft_conv._kept(*shape) is made, "what is there may be recorded"
    fft_conv._kept.cache_clear()


@pytest.mark.parametrize("op", ["delay_conv", "delay_linear"])
@pytest.mark.parametrize("backend", LINEAR)
@pytest.mark.parametrize("tiles", [1, 3])
def test_the_output_may_be_written_into(monkeypatch, op, backend, tiles):
    if op == "delay_conv" and backend not in CONV:
        pytest.skip("no such backend")
    device = DEVICE if backend == "triton" else "cpu"
    K, T, extra = 5, 12, 3
    monkeypatch.setattr(fft_conv, "tiling", lambda *_: costs.Tiling(*_cut(T + extra, K, tiles)))
    with torch.device(device):
        w, p, sigma = (a.detach().requires_grad_() for a in synapses(1, 4, 3, K, torch.float32))
        x, k = (torch.randn(*n, requires_grad=True) for n in ((T, 2, 3), (4, 3, K)))

    def run():
        if op == "delay_conv":
            return delay_conv(x, k, extra, backend=backend)
        return delay_linear(x, Synapses(w, p, sigma, K), extra, backend=backend)

    inputs = (x, k) if op == "delay_conv" else (x, w, p, sigma)
    y, want = run(), run()
    y.mul_(2).add_(1)
    assert torch.equal(y, 2 * want + 1)
    g = torch.randn_like(want)
    grads = [torch.autograd.grad(a, inputs, c) for a, c in ((y, g), (want, 2 * g))]
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_registered_ops_are_sound():
    w, p, sigma = synapses(1, 4, 3, 5, torch.float32)
    x = torch.randn(6, 2, 3, requires_grad=True)
    torch.library.opcheck(torch.ops.snndelay.gauss_conv.default, (x, w, p, sigma, 5, 8))
    k = torch.randn(5, 4, 3, requires_grad=True)
    for compiled in (False, True):
        torch.library.opcheck(torch.ops.snndelay.fft_conv.default, (x, k, 8, compiled))


@pytest.mark.parametrize("backend", CPU)
def test_compiles_as_one_graph(backend):
    w, p, sigma = synapses(1, 4, 3, 25, torch.float32)

    def run(x, w, p, sigma):
        return delay_linear(x, Synapses(w, p, sigma, 25), backend=backend).square().sum()

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    for T in (30, 40, 50):
        inputs = (torch.randn(T, 2, 3, requires_grad=True), w, p, sigma)
        want = torch.autograd.grad(run(*inputs), inputs)
        got = torch.autograd.grad(compiled(*inputs), inputs)
        for name, a, b in zip(("dx", "dW", "dP", "dSIG"), got, want, strict=True):
            assert_close(a, b, 1e-6, f"{name}, T={T}")


@pytest.mark.parametrize("backend", CPU)
def test_autocast_leaves_the_transforms_alone(backend):
    w, p, sigma = synapses(1, 20, 30, 25, torch.float32)
    x = torch.poisson(torch.full((30, 2, 30), 0.3))
    layer = Synapses(w, p, sigma, 25)
    want = delay_linear(x, layer, backend=backend)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(delay_linear(x, layer, backend=backend), want, 1e-6, backend)


@pytest.mark.parametrize("backend", ["reference", *CPU])
def test_float32_is_accurate(backend):
    w, p, sigma = synapses(1, 63, 140, 25, torch.float32)
    x = torch.poisson(torch.full((40, 3, 140), 0.3))
    exact = run_linear([a.double() for a in (x, w, p, sigma)], 25, backend="reference")
    got = delay_linear(x, Synapses(w, p, sigma, 25), backend=backend)
    assert_close(got, exact, 1e-6, backend)


@pytest.mark.parametrize("backend", ["reference", *CPU])
@given(K=st.integers(1, 31), data=st.data())
@settings(max_examples=25, deadline=None)
def test_an_integer_delay_is_a_shift(backend, K, data):
    position = data.draw(st.integers(-(K // 2), (K - 1) // 2))
    steps = K - 1 - (K // 2 + position)
    x = torch.randn(20, 2, 1)
    one = torch.ones(1, 1, 1)
    y = delay_linear(x, Synapses(one, one * position, torch.zeros(()), K, "max"), 0, backend)
    want = F.pad(x, (0, 0, 0, 0, steps, 0))[:20]
    assert (y - want).abs().max() < 1e-5, f"K={K}, P={position} must delay by {steps} steps"


@pytest.mark.parametrize("backend", ["reference", *CPU])
def test_causal_and_equivariant_in_time(backend):
    dtype, tolerance = (torch.float32, 1e-5) if backend in FLOAT32 else (torch.float64, 1e-12)
    w, p, sigma = synapses(1, 5, 4, 9, dtype)
    x = torch.randn(30, 2, 4, dtype=dtype)
    later = x.clone()
    later[20:] += torch.randn_like(later[20:])

    def run(x):
        return delay_linear(x, Synapses(w, p, sigma, 9), backend=backend).detach()

    assert (run(x) - run(later))[:20].abs().max() < tolerance, "an output saw a later input"
    shifted = F.pad(x, (0, 0, 0, 0, 3, 0))
    assert_close(run(shifted)[3:], run(x), tolerance, "a shifted input must give a shifted output")


@given(
    K=st.integers(1, 40), sigma=st.floats(0, 30), version=st.sampled_from(["v1", "max", "gauss"])
)
@settings(max_examples=50, deadline=None)
def test_taps_sum_to_one(K, sigma, version):
    p = (torch.rand(1, 3, 3, dtype=torch.float64) - 0.5) * 2 * ((K - 1) // 2)
    width = torch.tensor(sigma, dtype=p.dtype)
    k = delay_taps(Synapses(torch.ones_like(p), p, width, K, version))
    assert (k.sum(-1) - 1).abs().max() < 1e-5


def test_sigma_to_zero_is_rounding():
    p = torch.tensor([[[-3.4, 2.6, 0.2]]], dtype=torch.float64)
    w = torch.ones_like(p)
    narrow = delay_taps(Synapses(w, p.round(), torch.tensor(0.0), 9, "max"))
    assert torch.equal(narrow.argmax(-1), (p[0] + 4).round().long())
    assert torch.equal((narrow > 0.5).sum(-1), torch.ones(1, 3, dtype=torch.long))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(version="gaus"), "version must be one of"),
        (dict(K=0), "at least 1 tap"),
        (dict(position=torch.zeros(1, 2, 2)), "must both be"),
        (dict(x_TBC=torch.zeros(3, 1, 9)), "to fit the weights"),
        (dict(x_TBC=torch.zeros(3, 1, 4).long()), r"must be floating.*\.float\(\)"),
        (dict(x_TBC=torch.zeros(3, 0, 4)), "x is empty"),
    ],
)
def test_bad_arguments_say_what_is_wrong(arguments, message):
    good = Synapses(torch.zeros(1, 2, 4), torch.zeros(1, 2, 4), torch.tensor(1.0), 3)
    x = arguments.get("x_TBC", torch.zeros(3, 1, 4))
    with pytest.raises(ValueError, match=message):
        delay_linear(x, good._replace(**{k: v for k, v in arguments.items() if k != "x_TBC"}))


@pytest.mark.parametrize("backend", [b for b in INTEGER if b != "triton"])
@pytest.mark.parametrize("density", [0.0, 0.01, 0.5])
@pytest.mark.parametrize(
    ("T", "B", "C", "N", "K", "E", "extra"),
    [
        (20, 3, 11, 7, 5, 2, 2),
        (3, 2, 5, 4, 9, 1, 4),
        (1, 1, 1, 1, 1, 1, 0),
        (40, 70, 63, 20, 25, 1, 12),
    ],
)
def test_integer_delays_are_exact_taps(backend, density, T, B, C, N, K, E, extra):
    x = torch.poisson(torch.full((T, B, C), density))
    w, d = torch.randn(E, N, C), torch.randint(0, K, (E, N, C), dtype=torch.int32)
    position = (K - 1 - K // 2 - d).double()
    inputs = (x.double(), w.double(), position, torch.zeros(()).double())
    want = run_linear(inputs, K, "max", extra, "reference")
    got = delay_integer(x, w, d, K, extra, backend)
    assert (got - want).abs().max() <= 1e-5 * (1 + want.abs().max()), f"{backend} is off"


@pytest.mark.parametrize("delay", [-1, 3])
def test_a_delay_out_of_range_is_refused(delay):
    x, w = torch.zeros(3, 1, 4), torch.zeros(1, 2, 4)
    with pytest.raises(ValueError, match=r"delays must be in 0 \.\.\. 2"):
        delay_integer(x, w, torch.full((1, 2, 4), delay, dtype=torch.int32), 3, backend="cpu")
    with pytest.raises(ValueError, match="must be int32"):
        delay_integer(x, w, w, 3)


@pytest.mark.parametrize("backend", ["auto", *CPU])
@pytest.mark.parametrize("K", [2, 3, 4, 8, 24, 25])
def test_a_single_step(backend, K):
    inputs = (torch.randn(1, 2, 3), *synapses(1, 4, 3, K, torch.float32))
    for extra in (0, K, 3 * K):
        want = run_linear(inputs, K, "gauss", extra, "reference")
        assert_close(run_linear(inputs, K, "gauss", extra, backend), want, 5e-6, f"extra {extra}")


@pytest.mark.parametrize("backend", CPU)
def test_a_lost_run_looks_lost(backend):
    w, p, sigma = synapses(1, 4, 3, 5, torch.float32)
    with torch.no_grad():
        p[0, 1, 2] = torch.nan
    y = delay_linear(torch.ones(9, 2, 3), Synapses(w, p, sigma, 5), backend=backend)
    assert y[..., 1].isnan().all() and y[..., 0].isfinite().all()
