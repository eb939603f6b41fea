"""Whole delays as one-hot taps of the dense convolution, on a GPU or in the interpreter."""

import pytest
import torch

from snndelay.kernels import choice, delay_integer, reference

from ...conftest import assert_close
from ..helpers import DEVICE

pytest.importorskip("triton")

from snndelay.kernels.triton import delay_integer as events
from snndelay.kernels.triton import delay_one_hot as dense

# relative L2: one rounding of w; tensor cores truncate sums, which shows where w is whole
LIMITS = {"highest": 3e-7 if DEVICE == "cpu" else 1e-6, "default": 2**-16, "fast": 2**-8}
SHAPES = [  # T, B, C, N, K, E, extra
    (1, 1, 1, 1, 1, 1, 0),
    (7, 2, 40, 63, 25, 1, 12),
    (20, 3, 11, 7, 5, 2, 2),
    (30, 1, 3, 7, 31, 1, 70),
    (5, 3, 16, 300, 6, 1, 0),
]


def problem(T, B, C, N, K, E, dyadic=False):
    """Spikes, weights, delays."""
    s = (torch.rand(T, B, C) < 0.3).float()
    w = torch.randint(-200, 201, (E, N, C)) / 64 if dyadic else torch.randn(E, N, C)
    delay = torch.randint(0, K, (E, N, C), dtype=torch.int32)
    return [a.to(DEVICE) for a in (s, w, delay)]


CASES = [(shape, "highest") for shape in SHAPES]
CASES += [(shape, precision) for shape in SHAPES[1:3] for precision in ("default", "fast")]


@pytest.mark.parametrize(("shape", "precision"), CASES)
def test_equals_the_reference(shape, precision):
    *sizes, extra = shape
    K = sizes[4]
    s, w, delay = problem(*sizes)
    x = s * torch.randint(1, 257, s.shape, device=DEVICE)
    cases = {"counts": (x, x), "bits": (reference.pack(s), s), "float16": (s.half(), s)}
    for name, (given, same) in cases.items():
        y = dense.delay_integer(given, w, delay, K, extra, precision)
        want = reference.delay_integer(same.double(), w.double(), delay, K, extra)
        limit = LIMITS[precision] + (1e-3 if name == "float16" else 0)
        assert_close(y, want, limit, f"{name} at {precision}")
        assert y.dtype == (torch.float32 if name == "bits" else given.dtype)


@pytest.mark.parametrize(("shape", "precision"), CASES)
def test_weights_of_few_bits_are_exact(shape, precision):
    """Dyadic weights of 8 bits: every backend gives the same bits, dense or event-driven."""
    *sizes, extra = shape
    K = sizes[4]
    s, w, delay = problem(*sizes, dyadic=True)
    want = reference.delay_integer(s, w, delay, K, extra)
    for given in (s, reference.pack(s)):
        assert torch.equal(dense.delay_integer(given, w, delay, K, extra, precision), want)
        parts = [events.delay_integer(given, a, d, extra) for a, d in zip(w, delay, strict=True)]
        assert torch.equal(sum(parts), want)


def test_values_that_are_no_counts_are_exact_at_highest():
    s, w, delay = problem(9, 2, 20, 7, 5, 1)
    x = torch.randn_like(s)
    want = reference.delay_integer(x.double(), w.double(), delay, 5)
    for precision, limit in (("highest", 1e-6), ("default", 1e-2)):  # else 8 bits of x
        assert_close(dense.delay_integer(x, w, delay, 5, 0, precision), want, limit, precision)


def test_bits_equal_spikes_and_batches_do_not_matter():
    s, w, delay = problem(20, 5, 40, 9, 7, 1)
    y = dense.delay_integer(s, w, delay, 7, 3, "default")
    assert torch.equal(y, dense.delay_integer(reference.pack(s), w, delay, 7, 3, "default"))
    alone = [dense.delay_integer(s[:, [i]], w, delay, 7, 3, "default") for i in range(5)]
    assert torch.equal(y, torch.cat(alone, 1))


@pytest.mark.parametrize("walk", [False, True])
def test_the_backend_takes_either_way(monkeypatch, walk):
    taken = []
    monkeypatch.setattr(choice, "events_win", lambda *shape: taken.append(shape) or walk)
    s, w, delay = problem(9, 2, 40, 7, 5, 2)
    w.requires_grad_()
    want = reference.delay_integer(s.double(), w.detach().double(), delay, 5, 2)
    for given in (s, reference.pack(s)):
        y = delay_integer(given, w, delay, 5, 2, backend="triton")
        assert not y.requires_grad
        assert_close(y, want, 1e-6, "tests of kernels forbid TF32: three parts")
    assert taken == [(40, 7, 5, 2, "highest")] * 2


def test_registration_is_sound():
    s, w, delay = problem(5, 2, 40, 3, 4, 1)
    for x in (s, s.half(), reference.pack(s)):
        args = (x, w, delay, 4, 2, "default")
        torch.library.opcheck(torch.ops.snndelay.triton_delay_one_hot.default, args)


def test_poisoned_memory_does_not_show():
    s, w, delay = problem(9, 3, 37, 7, 9, 1)
    bits = reference.pack(s)
    clean = dense.delay_integer(bits, w, delay, 9, 4, "default")
    torch.use_deterministic_algorithms(True)  # also fills what torch.empty returns with NaN
    try:
        poisoned = dense.delay_integer(bits, w, delay, 9, 4, "default")
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(clean, poisoned)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", LIMITS)
def test_published_layers_on_a_gpu(precision):
    """Sizes of the published networks, and a capture: nothing waits for the device."""
    if DEVICE == "cpu":
        pytest.skip("needs a GPU")
    s, w, delay = problem(112, 64, 256, 256, 25, 1)
    bits = reference.pack(s)
    want = reference.delay_integer(s.double(), w.double(), delay, 25, 12)
    y = dense.delay_integer(bits, w, delay, 25, 12, precision)
    limit = {"highest": 3e-6, "default": 3e-5, "fast": 2**-8}[precision]  # sums are truncated
    assert_close(y, want, limit, precision)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        again = dense.delay_integer(bits, w, delay, 25, 12, precision)
    again.zero_()
    graph.replay()
    assert torch.equal(again, y)
