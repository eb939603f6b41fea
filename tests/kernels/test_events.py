"""Ops on the events of clips: every backend gives the same bits, and they are the definition's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snndelay.errors import BackendError
from snndelay.kernels import anchored_steps, count_events, event_words, latest
from snndelay.kernels.events import ANCHORED_STEPS, COUNT_EVENTS, EVENT_WORDS, LATEST

from .helpers import DEVICE
from .test_dropout import KNOWN

COMPILED = ["triton", "cpu"]
MASKED = pytest.mark.parametrize("masked", [False, True])


def some(sizes, seed: int = 0, dtype=torch.int32):
    """Random events of clips of these sizes: times, units, clip, begin, alive."""
    g = torch.Generator().manual_seed(seed)
    sizes = torch.tensor(sizes)
    n = int(sizes.sum())
    clip = torch.repeat_interleave(torch.arange(len(sizes)), sizes).int()
    t = torch.randint(0, 300_000, (n,), generator=g).to(dtype)
    unit = torch.randint(0, 700, (n,), generator=g).to(torch.int16)
    return t, unit, clip, sizes.cumsum(0) - sizes, torch.rand(n, generator=g) < 0.7


def on(backend: str, *tensors):
    device = DEVICE if backend == "triton" else "cpu"
    return [a.to(device) if isinstance(a, torch.Tensor) else a for a in tensors]


def signed(word: int) -> int:
    return word - 2**32 if word >= 2**31 else word


@pytest.mark.parametrize("backend", EVENT_WORDS)
def test_known_words(backend):
    """Published vectors cannot be had through the op, whose first word counts events: so the words
    that one counter makes are held to those of one vector, and the layout to the counter."""
    seed, *counter = next(k for k in KNOWN if k[0] == 0)
    one = torch.zeros(1, dtype=torch.int64)
    given_ = on(backend, torch.zeros(1, dtype=torch.int32), one, one)
    got = event_words(*given_, seed, counter[2], counter[3], backend=backend)
    assert got.flatten().tolist() == [signed(w) for w in KNOWN[seed, *counter]]


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("seed", [0, 7, 2**40 + 7, -5, -(2**63), 2**63 - 1])
@pytest.mark.parametrize(("epoch", "stream"), [(0, 8), (3, 0), (2**31, 2**32 - 1)])
def test_the_same_words_everywhere(backend, seed, epoch, stream):
    _, _, clip, begin, _ = some([3, 1, 700, 1500])
    index = torch.tensor([0, 2**31 - 1, 2**31, 2**32 - 1])
    want = event_words(clip, begin, index, seed, epoch, stream, backend="reference")
    got = event_words(*on(backend, clip, begin, index), seed, epoch, stream, backend=backend).cpu()
    assert got.dtype == torch.int32
    wrong = (got != want).nonzero().tolist()
    assert not wrong, f"{len(wrong)} words differ, first {wrong[0]}"


def test_words_do_not_depend_on_the_batch():
    _, _, clip, begin, _ = some([5, 4])
    index = torch.tensor([11, 22])
    both = event_words(clip, begin, index, 1, 2, 8)
    alone = event_words(clip[:4] * 0, begin[:1], index[1:], 1, 2, 8)
    assert torch.equal(both[:, 5:], alone)
    assert len(both.unique()) == both.numel()


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@MASKED
def test_latest(backend, dtype, masked):
    t, _, clip, begin, alive = some([3000, 1, 63, 300], dtype=dtype)
    alive[3001:3064] = False
    mask = alive if masked else None
    want = torch.tensor(
        [
            max(
                [
                    int(a)
                    for a, c, l in zip(t, clip, alive, strict=True)
                    if c == b and (l or not masked)
                ],
                default=-1,
            )
            for b in range(4)
        ]
    )
    for name in ("reference", backend):
        got = latest(*on(name, t, clip, begin, mask), backend=name)
        assert got.dtype == torch.int64 and torch.equal(got.cpu(), want), f"{name}: {got}"


def anchored_by_hand(t, clip, alive, dt):
    """Step of every event, by a loop over sorted times."""
    step = np.full(len(t), -1)
    for b in np.unique(clip):
        start, now = None, -1
        for i in sorted(np.flatnonzero((clip == b) & alive), key=lambda i: t[i]):
            if start is None or t[i] >= start + dt:
                start, now = t[i], now + 1
            step[i] = now
    return step


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 60), st.booleans()), min_size=1, max_size=40),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 30),
)
@settings(max_examples=100, deadline=None)
def test_anchored_steps(clips, dt):
    t, alive = (np.array(part) for part in zip(*(e for clip in clips for e in clip), strict=True))
    sizes = torch.tensor([len(clip) for clip in clips])
    clip = torch.repeat_interleave(torch.arange(len(sizes)), sizes).int()
    begin = sizes.cumsum(0) - sizes
    want = anchored_by_hand(t, clip.numpy(), alive, dt)
    for backend in ANCHORED_STEPS:
        given_ = (torch.tensor(t), clip, begin, torch.tensor(alive), dt, int(sizes.max()))
        got = anchored_steps(*given_, backend=backend).numpy()
        assert np.array_equal(got, want), f"{backend}: {got}, not {want}"
    got = [
        anchored_steps(torch.tensor(t), clip, begin, None, dt, 40, backend=b)
        for b in ANCHORED_STEPS
    ]
    assert torch.equal(*got) and torch.equal(
        got[0], torch.tensor(anchored_by_hand(t, clip.numpy(), alive | True, dt)).int()
    )


@pytest.mark.parametrize("backend", COUNT_EVENTS)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@MASKED
def test_counts(backend, dtype, masked):
    t, unit, clip, _, alive = some([1, 63, 300, 2000], dtype=dtype)
    t[5], unit[9], unit[11], t[7] = -1, -1, 700, 300_001  # outside: left out
    mask = alive if masked else None
    want = np.zeros((31, 4, 140), np.float32)
    for i in range(len(t)):
        if t[i] >= 0 and 0 <= unit[i] < 700 and (alive[i] or not masked):
            want[int(t[i]) // 10_000, clip[i], int(unit[i]) // 5] += 1
    for T in (31, 12):
        got = count_events(
            *on(backend, t, unit, clip, mask), (T, 4, 140), 10_000, 5, backend=backend
        ).cpu()
        assert got.dtype == torch.float32
        wrong = np.argwhere(got.numpy() != want[:T])
        assert not len(wrong), f"{len(wrong)} counts differ, first at {wrong[0]}"


@pytest.mark.parametrize("backend", COUNT_EVENTS)
@pytest.mark.parametrize("dt", [1, 3, 7, 999_983])
def test_boundaries_of_steps_are_exact(backend, dt):
    k = torch.arange(1, 50, dtype=torch.int64) * (10**9 // dt // 50)
    t = torch.cat([k * dt - 1, k * dt])
    step = torch.cat([k - 1, k])
    first = int(step.min())
    t, T = t - first * dt, int(step.max()) - first + 1
    if T > 100_000:
        t, T = t % (1000 * dt), 1000
    zero = torch.zeros(len(t), dtype=torch.int32)
    got = count_events(*on(backend, t, zero, zero, None), (T, 1, 1), dt, 1, backend=backend).cpu()
    want = torch.bincount(t // dt, minlength=T)
    assert torch.equal(got.flatten().long(), want)


@pytest.mark.parametrize("backend", COUNT_EVENTS)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_steps_longer_than_32_bits(backend, dtype):
    t = torch.tensor([-1, 0, 5, 2**31 - 2, 2**31 - 1], dtype=dtype)
    zero = torch.zeros(5, dtype=torch.int32)
    for dt, want in ((2**31 - 1, [3, 1]), (2**31, [4, 0]), (2**40, [4, 0])):
        got = count_events(*on(backend, t, zero, zero, None), (2, 1, 1), dt, 1, backend=backend)
        assert got.flatten().tolist() == want, dt


@pytest.mark.parametrize("backend", EVENT_WORDS)
def test_columns_and_numbers_of_numpy_are_read_as_what_they_are(backend):
    t, unit, clip, begin, alive = some([3, 1500])
    index, numbers = torch.tensor([4, 5]), (7, 3, 2**32 - 1)
    columns = [torch.stack([a, a.flip(0)], 1)[:, 0] for a in (t, unit, clip, begin, alive, index)]
    assert not any(a.is_contiguous() for a in columns)
    found = []
    for given_, whole in (
        ((t, unit, clip, begin, alive, index), int),
        (columns, lambda n: (np.uint32 if n > 7 else np.int64)(n)),
    ):
        t_n, unit_n, clip_n, begin_B, alive_n, index_B = on(backend, *given_)
        shape = tuple(map(whole, (31, 2, 140)))
        some_words = (clip_n, begin_B, index_B, *map(whole, numbers))
        found.append(
            [
                event_words(*some_words, backend=backend),
                latest(t_n, clip_n, begin_B, alive_n, backend=backend),
                count_events(
                    t_n, unit_n, clip_n, alive_n, shape, whole(10_000), whole(5), backend=backend
                ),
            ]
        )
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("backend", COUNT_EVENTS)
def test_counts_are_float32_whatever_the_default(backend):
    t, unit, clip, _, _ = some([30])
    torch.set_default_dtype(torch.float64)
    try:
        got = count_events(*on(backend, t, unit, clip, None), (9, 1, 700), backend=backend)
    finally:
        torch.set_default_dtype(torch.float32)
    assert got.dtype == torch.float32


def test_an_unknown_backend_is_refused():
    t, _, clip, begin, _ = some([3])
    with pytest.raises(BackendError, match="backend must be one of"):
        latest(t, clip, begin, backend="metal")
    assert "triton" in LATEST
