"""Which way delays are computed on a GPU, and how exactly: by counts and torch's switches alone."""

import pytest
import torch

from snndelay.kernels import Synapses, choice, delay, delay_linear, precision
from snndelay.kernels.delay import CONV, LINEAR
from snndelay.kernels.delay_lif import CURRENT

from ..conftest import assert_close

PARTS = precision.PARTS
# T, B, C, N, K -> milliseconds of a forward and backward pass on an H100 (choice.py)
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
    row = MEASURED[shape]
    for tf32, name in ((False, "float32"), (True, "tf32")):
        counted = 1e3 * choice.fft_seconds(*shape, 0, tf32, False)
        assert counted == pytest.approx(row[name], rel=0.05), name
    for name, P in PARTS.items():
        counted = 1e3 * choice.direct_seconds(*shape, 0, P)
        assert counted == pytest.approx(row[name], rel=0.31), name


@pytest.mark.parametrize("asked", PARTS)
def test_small_problems_and_single_taps_run_direct(asked):
    for shape in ((5, 1, 3, 3, 2, 0), (1, 2, 140, 256, 25, 12), (100, 256, 140, 256, 1, 0)):
        assert not choice.frequencies_win(*shape, asked, False), shape


def test_long_delays_run_by_frequencies():
    for asked in PARTS:
        assert choice.frequencies_win(500, 64, 256, 256, 251, 0, asked, asked == "fast")


@pytest.mark.parametrize(("asked", "last"), [("highest", 41), ("default", 62), ("fast", 125)])
def test_events_are_walked_for_long_delays_only(asked, last):
    assert not choice.events_win(256, last, asked) and choice.events_win(256, last + 1, asked)


def picked(op, table, backend="auto", shape=(112, 256, 256), N=256, K=25, dtype=torch.float32):
    """Name of what ``pick`` takes for an input on CUDA, without a GPU."""
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        x = torch.empty(shape, device="cuda", dtype=dtype)
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
