"""Which way delays are computed on a GPU, and how exactly: by counts and torch's switches alone."""

import re

import pytest
import torch
from torch._subclasses import FakeTensorMode

from snndelay.kernels import (
    Synapses,
    choice,
    costs,
    delay,
    delay_integer,
    delay_linear,
    fft_conv,
    precision,
    reference,
)
from snndelay.kernels.delay import CONV, INTEGER, LINEAR
from snndelay.kernels.delay_lif import CURRENT

from ..conftest import assert_close

PARTS = precision.PARTS
# T, B, C, N, K -> milliseconds of a forward and backward pass on an H100 (costs.py)
MEASURED = {
    (112, 256, 256, 256, 25): dict(highest=2.58, default=1.56, fast=0.88, float32=1.44, tf32=0.80),
    (115, 128, 512, 512, 31): dict(highest=5.71, default=3.46, fast=1.87, float32=3.55, tf32=2.49),
    (500, 64, 256, 256, 125): dict(highest=11.5, default=6.44, fast=3.29, float32=4.25, tf32=2.66),
}


@pytest.fixture
def switches():
    """torch's backends, whose switches for float32 products are put back."""
    before = torch.backends.cudnn.allow_tf32
    yield torch.backends
    torch.backends.fp32_precision = torch.backends.cudnn.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    for part in (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul):
        part.fp32_precision = "none"
    torch.backends.cudnn.allow_tf32 = before


# -- cost model ---


@pytest.mark.parametrize("shape", MEASURED)
@pytest.mark.parametrize("asked", PARTS)
@pytest.mark.parametrize("tf32", [False, True])
def test_the_counts_pick_what_was_measured_to_win(shape, asked, tf32):
    if tf32 and asked == "highest":
        assert not choice.frequencies_win(*shape, 0, asked, tf32), "TF32 is not float32"
        return
    row = MEASURED[shape]
    want = row["tf32" if tf32 else "float32"] < row[asked]
    got = choice.frequencies_win(*shape, 0, asked, tf32)
    assert got == want, f"{row}: {asked} against {'TF32' if tf32 else 'float32'}"


@pytest.mark.parametrize("shape", MEASURED)
def test_the_counts_are_near_what_was_measured(shape):
    row, (T, B, C, N, K) = MEASURED[shape], shape
    then = costs.tiling(T, T, K, B, C, N)  # a GPU's was a CPU's when this was measured
    for tf32, name in ((False, "float32"), (True, "tf32")):
        counted = costs.fft_pass(then, T, T, B, C, N, K, tf32)
        counted += 4 * costs.TAP_PASSES * N * C * K / costs.BANDWIDTH
        assert 1e3 * counted == pytest.approx(row[name], rel=0.06), name
        now = costs.fft_seconds(*shape, 0, tf32, False)
        assert counted / 1.1 < now <= (1 if not tf32 else 1.05) * counted, "cut for a GPU"
    for name, P in PARTS.items():
        counted = 1e3 * costs.direct_seconds(*shape, 0, P)
        assert counted == pytest.approx(row[name], rel=0.25), name


def test_a_gpu_cuts_signals_by_its_own_costs():
    """A CPU's compiled transforms cost the same for any length, a GPU's matrices do not."""
    cpu, gpu = (costs.tiling(500, 500, 125, 64, 256, 256, g) for g in (False, True))
    assert gpu.tiles > cpu.tiles and gpu.hop + 124 <= gpu.L and gpu.hop * gpu.tiles >= 500
    for device, tiles in (("cpu", cpu), ("cuda", gpu)):
        with FakeTensorMode(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(fft_conv, "_forward", lambda x, t, *_: pytest.fail(f"{t}"))
            x, k = (torch.empty(n, m, 256, device=device) for n, m in ((500, 64), (125, 256)))
            with pytest.raises(pytest.fail.Exception, match=re.escape(str(tiles))):
                fft_conv._convolve(x, fft_conv.Given(k, False), 500, False)


# network -> T, B, K, extra steps, layers (C, N), activity, and ms on an H200 less 0.2 of neurons
NETWORKS = {
    "shd": (100, 256, 25, 12, ((140, 256), (256, 256), (256, 20)), dict(default=0.7)),
    "ssc": (
        *(100, 128, 31, 15, ((140, 512), (512, 512), (512, 512), (512, 35))),
        dict(highest=3.3, default=2.3, fast=1.5),
    ),
    "2ms": (500, 64, 125, 62, ((140, 256), (256, 256), (256, 20)), {}),  # never timed
}


def layers_of(network):
    """The shape of each layer of a network: T, B, C, N, K, extra steps."""
    T, B, K, extra_steps, layers, _ = NETWORKS[network]
    return [(T + i * extra_steps, B, *layer, K, extra_steps) for i, layer in enumerate(layers)]


@pytest.mark.parametrize("network", NETWORKS)
def test_one_hot_taps_cost_what_was_measured(network):
    for asked, ms in NETWORKS[network][-1].items():
        counted = sum(costs.one_hot_seconds(*s, PARTS[asked]) for s in layers_of(network))
        assert 1e3 * counted == pytest.approx(ms, rel=0.25), asked


def test_walks_cost_what_was_measured():
    for activity, ms in ((0.02, 0.65), (0.08, 1.96)):
        counted = 1e3 * costs.walk_seconds(112, 256, 256, 256, activity)
        assert counted == pytest.approx(ms, rel=0.05)
    first, *others = layers_of("2ms")
    counted = costs.walk_seconds(*first[:4], 0.095)
    counted += sum(costs.walk_seconds(*s[:4], 0.067) for s in others)
    assert 1e3 * counted == pytest.approx(21, rel=0.1)


@pytest.mark.parametrize("asked", PARTS)
@pytest.mark.parametrize("network", NETWORKS)
def test_no_measured_network_is_evaluated_the_slow_way(network, asked):
    """The walk takes 21 ms in 2ms, and a published module 7.3."""
    for T, B, *layer in layers_of(network):
        assert not choice.events_win(*layer, asked), layer
        by_frequencies = choice.frequencies_evaluate(*layer, asked, False)
        if asked != "fast":  # whose products are in TF32
            assert by_frequencies == (network == "2ms"), layer
        if by_frequencies:
            shape = (T, B, *layer)
            others = min(
                costs.walk_seconds(*shape[:4]), costs.one_hot_seconds(*shape, PARTS[asked])
            )
            assert costs.fft_whole_seconds(*shape) < others, "at its own steps and samples too"
        assert not choice.frequencies_evaluate(*layer, asked, True), "TF32 flips spikes"
    if network == "2ms" and asked != "fast":
        counted = 1e3 * sum(costs.fft_whole_seconds(*s) for s in layers_of(network))
        assert counted < 4, f"{counted} ms"


def test_events_are_walked_for_very_long_delays_only():
    for asked, last in (("highest", 150), ("default", 179), ("fast", 215)):
        found = [choice.events_win(256, 256, K, 0, asked) for K in (last, last + 1)]
        assert found == [False, True], asked


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("K", [5, 31, 62, 125, 151, 300])
def test_every_batch_is_evaluated_the_same_way(switches, device, K):
    """Whether a walk, one-hot taps or the frequency domain: a smaller last batch changes nothing.
    That ``events_win`` takes no steps and samples is the other half of it.
    """
    for allowed in (False, True):
        switches.cudnn.allow_tf32 = allowed
        found = set()
        for T, B in ((1, 1), (100, 64), (100, 256), (500, 1), (500, 256), (2000, 3)):
            call = choice.Call(T, B, 256, 256, K, K // 2, device)
            found.add(delay.backend_of("delay_integer", call))
        assert len(found) == 1, found


@pytest.mark.parametrize(
    ("T", "B", "K", "device", "dtype", "want"),
    [
        (500, 64, 125, "cuda", torch.float32, "fft"),
        (500, 64, 125, "cuda", torch.int32, "fft"),
        (100, 256, 25, "cuda", torch.float32, "triton"),
        (1, 1, 125, "cuda", torch.float32, "fft"),
        (100, 256, 25, "cuda", torch.int32, "triton"),
        (500, 64, 125, "cpu", torch.float32, "cpu"),
        (100, 256, 25, "cuda", torch.float64, "reference"),
    ],
)
def test_auto_evaluates_the_way_that_is_counted_faster(switches, T, B, K, device, dtype, want):
    call = choice.Call(T, B, 256, 256, K, 0, device, dtype)
    for allowed in (True, False):  # at default and at highest
        switches.cudnn.allow_tf32 = allowed
        assert delay.backend_of("delay_integer", call) == want, allowed
    exact = {"fft": "triton"}.get(want, want)
    if exact == "triton":
        assert delay.backend_of("delay_integer", call, "triton") == "triton"
    for products in ("high", "medium"):
        torch.set_float32_matmul_precision(products)
        assert delay.backend_of("delay_integer", call) == exact, "no products in TF32"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int32])
@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_frequencies_by_name_are_taken_in_evaluation_too(switches, device, dtype):
    call = choice.Call(9, 2, 40, 30, 5, 2, device, dtype)
    assert delay.backend_of("delay_integer", call, "fft") == "fft"
    assert delay.backend_of("delay_integer", call) != "fft"
    assert INTEGER["fft"] is fft_conv.delay_integer


@pytest.mark.parametrize("packed", [False, True])
def test_frequencies_by_name_run(monkeypatch, packed):
    runs = []
    run = INTEGER["fft"]
    monkeypatch.setitem(INTEGER, "fft", lambda *a: (runs.append(a[0].shape), run(*a))[1])
    s, w = (torch.rand(9, 2, 40) < 0.3).float(), torch.randn(1, 30, 40)
    d = torch.randint(0, 5, (1, 30, 40), dtype=torch.int32)
    got = delay_integer(reference.pack(s) if packed else s, w, d, 5, 2, backend="fft")
    assert runs == [(9, 2, 40)]
    assert_close(got, delay_integer(s, w, d, 5, 2, backend="reference"), 1e-6, "currents")


@pytest.mark.parametrize("packed", [False, True])
def test_frequencies_evaluate_whole_delays_to_a_millionth(packed):
    """Less than the 2^-16 that ``default`` leaves of weights, and what training errs at
    ``highest``; where that flips a spike, and how often, is the same for both.
    """
    T, B, C, N, K = 150, 2, 40, 30, 63
    s, w = (torch.rand(T, B, C) < 0.1).float(), torch.randn(2, N, C)
    d = torch.randint(0, K, (2, N, C), dtype=torch.int32)
    for extra_steps in (0, 31, 80):
        want = delay_integer(s.double(), w.double(), d, K, extra_steps, backend="reference")
        x = reference.unpack(reference.pack(s), C) if packed else s
        got = fft_conv.delay_integer(x, w, d, K, extra_steps)
        assert got.dtype == torch.float32
        assert_close(got, want, 1e-6, "currents")
        assert (got - want).abs().max() < 2**-16 * want.abs().max()


@pytest.mark.gpu
@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("packed", [False, True])
def test_a_gpu_evaluates_whole_delays_by_frequencies(switches, packed, allowed):
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    switches.cudnn.allow_tf32 = allowed
    T, B, C, N, K = 400, 64, 256, 256, 125
    call = choice.Call(T, B, C, N, K, 62, "cuda", torch.int32 if packed else torch.float32)
    assert delay.backend_of("delay_integer", call) == "fft"
    s, w = (torch.rand(T, B, C) < 0.1).float().cuda(), torch.randn(1, N, C).cuda()
    d = torch.randint(0, K, (1, N, C), dtype=torch.int32).cuda()
    want = delay_integer(s.double(), w.double(), d, K, 62, backend="reference")
    x = reference.pack(s) if packed else s
    got = delay_integer(x, w, d, K, 62)
    assert_close(got, want, 1e-6, "currents")
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        again = delay_integer(x, w, d, K, 62)
    again.zero_()
    graph.replay()
    assert torch.equal(again, got)


@pytest.mark.parametrize("op", ["delay_linear", "delay_lif", "delay_conv"])
@pytest.mark.parametrize(("T", "B", "K"), [(500, 64, 125), (112, 256, 25), (100, 256, 1)])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_backend_of_says_what_is_picked(switches, op, T, B, K, device):
    switches.cudnn.allow_tf32 = True
    table = dict(delay_linear=LINEAR, delay_lif=CURRENT, delay_conv=CONV)[op]
    said = delay.backend_of(op, choice.Call(T, B, 256, 256, K, 0, device))
    assert said == picked(op, table, shape=(T, B, 256), K=K, device=device)


def picked(
    op,
    table,
    backend="auto",
    shape=(112, 256, 256),
    N=256,
    K=25,
    dtype=torch.float32,
    device="cuda",
):
    """Name of what ``pick`` takes for an input on CUDA, without a GPU."""
    with FakeTensorMode():
        x = torch.empty(shape, device=device, dtype=dtype)
        run = delay.pick(op, table, x, N, K, 0, backend)
    return next(name for name, found in table.items() if found is run)


@pytest.mark.parametrize(("op", "table"), [("delay_linear", LINEAR), ("delay_lif", CURRENT)])
def test_auto_on_cuda_follows_the_counts(switches, op, table):
    switches.cudnn.allow_tf32 = True
    assert picked(op, table, K=125, shape=(500, 64, 256)) == "fft"
    assert picked(op, table, K=3) == "triton"
    assert picked(op, table, K=125, shape=(500, 64, 256), backend="triton") == "triton"
    switches.cudnn.allow_tf32 = False
    assert picked(op, table) == "fft", "three parts are slower than float32 products"
    switches.cuda.matmul.fp32_precision = "tf32"
    assert picked(op, table) == "triton", "TF32 is not as exact as the user wants convolutions"
    assert picked(op, table, dtype=torch.float64) != "triton"


def test_auto_on_cuda_without_a_direct_kernel_is_as_on_a_cpu():
    assert picked("delay_conv", CONV) == "fft" and picked("delay_conv", CONV, K=1) == "reference"


@pytest.mark.parametrize(
    ("shape", "N", "K", "want"),
    [
        ((112, 64, 256), 256, 25, "cpu"),
        ((112, 64, 256), 20, 25, "cpu"),
        ((1000, 16, 256), 256, 2, "reference"),
        ((100, 64, 140), 256, 1, "reference"),
    ],
)
def test_a_cpu_chooses_by_multiplications(switches, shape, N, K, want):
    for allowed in (False, True):  # which is a matter of GPUs
        switches.cudnn.allow_tf32 = allowed
        run = delay.pick("delay_linear", LINEAR, torch.empty(shape), N, K, 0, "auto")
        assert run is LINEAR[want]


@pytest.mark.gpu
@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize(("T", "K"), [(100, 5), (100, 25), (300, 125)])
def test_auto_on_a_gpu_equals_the_reference(switches, T, K, allowed):
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    w, p = torch.randn(1, 96, 64), (torch.rand(1, 96, 64) - 0.5) * (K - 1)
    tensors = [w.cuda().requires_grad_(), p.cuda().requires_grad_()]
    x = (torch.rand(T, 64, 64) < 0.1).float().cuda().requires_grad_()
    sigma, dy = torch.tensor(1.3, device="cuda"), torch.randn(T, 64, 96, device="cuda")
    exact = [a.detach().double().requires_grad_() for a in (x, *tensors)]
    want = delay_linear(exact[0], Synapses(*exact[1:], sigma.double(), K), 0, backend="reference")
    wants = torch.autograd.grad(want, exact, dy.double())
    switches.cudnn.allow_tf32 = allowed
    y = delay_linear(x, Synapses(*tensors, sigma, K))
    grads = torch.autograd.grad(y, (x, *tensors), dy)
    limit = 1e-4 if allowed else 2e-5
    for name, a, b in zip(("y", "dx", "dW", "dP"), (y, *grads), (want, *wants), strict=True):
        assert_close(a, b, limit, name)


# -- precision ---


def test_precision_is_what_torch_lets_convolutions_do(switches):
    found = []
    for allowed in (True, False):
        switches.cudnn.allow_tf32 = allowed
        for word in ("highest", "high", "medium"):
            torch.set_float32_matmul_precision(word)
            found.append(precision.triton_precision())
            assert precision.products_in_tf32() == (word != "highest")
    assert found == ["default", "default", "fast"] + ["highest"] * 3


def test_old_and_new_switches_may_be_mixed(switches):
    switches.cudnn.allow_tf32 = True
    switches.cudnn.conv.fp32_precision = "ieee"
    with pytest.raises(RuntimeError, match="mix"):
        print(switches.cudnn.allow_tf32)
    assert precision.triton_precision() == "highest"
    switches.cudnn.conv.fp32_precision = "none"
    switches.fp32_precision = "tf32"  # inherited
    with pytest.raises(RuntimeError, match="mix"):
        torch.get_float32_matmul_precision()
    assert precision.triton_precision() == "default" and precision.products_in_tf32()
    switches.fp32_precision = "ieee"
    assert precision.triton_precision() == "highest" and not precision.products_in_tf32()


def test_a_graph_reads_the_precision_when_it_is_compiled(switches):
    pytest.importorskip("triton")
    switches.cudnn.allow_tf32 = True
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, w = torch.rand(6, 2, 3, device=device), torch.randn(1, 4, 3, device=device)
    synapses = Synapses(w, torch.zeros_like(w), torch.ones((), device=device), 5)

    def layer(x):
        return delay_linear(x, synapses, backend="triton")

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), layer(x)), "two parts in both"
