"""Events on a GPU: random words for each, the latest of a clip, and counts per step and channel.

Every launch knows its sizes on the host, so none waits. Counts are sums of ones, which float32
holds to 2^24 whatever the order in which they are added: the same bits at every run.

Legend: n events, B clips, T steps, C channels.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .device import on_its_device

# -- kernels ---


@triton.jit(do_not_specialize=["seed", "epoch", "stream", "n"])
def event_words_kernel(
    clip,  # clip of every event, (n,) int32
    begin,  # first event of every clip, (B,) int64
    index,  # the number by which a clip draws, (B,) int64
    seed,  # key, 64 bits
    epoch,
    stream,
    out,  # out: four words of every event, (4, n) int32
    n,
    BLOCK: tl.constexpr,
):
    i_n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = i_n < n
    b_clip = tl.load(clip + i_n, mask, other=0)
    b_number = (i_n - tl.load(begin + b_clip, mask, other=0)).to(tl.uint32)
    b_index = tl.load(index + b_clip, mask, other=0).to(tl.uint32)
    zero = b_number * 0
    b_epoch = zero + tl.cast(epoch, tl.uint32)
    b_stream = zero + tl.cast(stream, tl.uint32)
    b_0, b_1, b_2, b_3 = tl.philox(tl.cast(seed, tl.int64), b_number, b_index, b_epoch, b_stream)
    n = tl.cast(n, tl.int64)
    tl.store(out + i_n, b_0.to(tl.int32, bitcast=True), mask)
    tl.store(out + n + i_n, b_1.to(tl.int32, bitcast=True), mask)
    tl.store(out + 2 * n + i_n, b_2.to(tl.int32, bitcast=True), mask)
    tl.store(out + 3 * n + i_n, b_3.to(tl.int32, bitcast=True), mask)


@triton.jit(do_not_specialize=["n"])
def latest_kernel(
    t,  # times, (n,) integer
    clip,  # clip of every event, ascending, (n,) int32
    alive,  # whether an event counts, (n,) uint8; None: all do
    out,  # in and out: the latest time of every clip, (B,) int64, -1 before
    n,
    BLOCK: tl.constexpr,
):
    i_0 = tl.program_id(0).to(tl.int64) * BLOCK
    i_n = i_0 + tl.arange(0, BLOCK)
    mask = i_n < n
    b_t = tl.load(t + i_n, mask, other=-1).to(tl.int64)
    if alive is not None:
        b_t = tl.where(tl.load(alive + i_n, mask, other=0) != 0, b_t, -1)
    first, last = tl.load(clip + i_0), tl.load(clip + tl.minimum(i_0 + BLOCK, n) - 1)
    if first == last:  # most blocks lie inside a clip: one atomic instead of one per event
        tl.atomic_max(out + first, tl.max(b_t, 0), sem="relaxed")
    else:
        tl.atomic_max(out + tl.load(clip + i_n, mask, other=0), b_t, mask, sem="relaxed")


@triton.jit(do_not_specialize=["n", "T"])
def count_events_kernel(
    t,  # times, (n,) integer
    unit,  # (n,) integer
    clip,  # clip of every event, (n,) int32
    alive,  # whether an event counts, (n,) uint8; None: all do
    y,  # in and out: counts, (T, B, C) float32, zero before
    n,
    T,
    B,
    C,
    DT: tl.constexpr,  # length of a step, in units of t
    GROUP: tl.constexpr,  # neighbouring units of a channel
    BLOCK: tl.constexpr,
):
    i_n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = i_n < n
    b_t = tl.load(t + i_n, mask, other=-1)
    b_unit = tl.load(unit + i_n, mask, other=-1).to(tl.int32)
    b_clip = tl.load(clip + i_n, mask, other=0).to(tl.int64)
    # division rounds towards zero, so what is negative is left out before it
    b_step, b_channel = (b_t // DT).to(tl.int64), b_unit // GROUP
    mask = mask & (b_t >= 0) & (b_step < T) & (b_unit >= 0) & (b_channel < C)
    if alive is not None:
        mask = mask & (tl.load(alive + i_n, mask, other=0) != 0)
    at = (b_step * B + b_clip) * C + b_channel
    tl.atomic_add(y + at, tl.full((BLOCK,), 1.0, tl.float32), mask, sem="relaxed")


# -- launchers ---

BLOCK = 1024
INT32 = 2**31 - 1


def bytes_of(alive_n: Tensor | None) -> Tensor | None:
    """A mask as Triton reads it everywhere."""
    return None if alive_n is None else alive_n.contiguous().view(torch.uint8)


@on_its_device
def event_words(
    clip_n: Tensor, begin_B: Tensor, index_B: Tensor, seed: int, epoch: int, stream: int
) -> Tensor:
    """See `reference_events.event_words`."""
    n = len(clip_n)
    out = torch.empty((4, n), dtype=torch.int32, device=clip_n.device)
    event_words_kernel[(triton.cdiv(n, BLOCK),)](
        clip_n.contiguous(), begin_B.contiguous(), index_B.contiguous(),
        int(seed), int(epoch), int(stream), out, n, BLOCK=BLOCK,
    )  # fmt: skip
    return out


@on_its_device
def latest(t_n: Tensor, clip_n: Tensor, begin_B: Tensor, alive_n: Tensor | None) -> Tensor:
    """See `reference_events.latest`."""
    n, out = len(t_n), begin_B.new_full(begin_B.shape, -1)
    latest_kernel[(triton.cdiv(n, BLOCK),)](
        t_n.contiguous(), clip_n.contiguous(), bytes_of(alive_n), out, n, BLOCK=BLOCK
    )
    return out


@on_its_device
def count_events(
    t_n: Tensor,
    unit_n: Tensor,
    clip_n: Tensor,
    alive_n: Tensor | None,
    shape: tuple[int, int, int],
    dt_us: int,
    units_per_channel: int,
) -> Tensor:
    """See `reference_events.count_events`."""
    n, (T, B, C) = len(t_n), map(int, shape)
    if dt_us > INT32:  # a step that int32 times cannot be divided by
        t_n = t_n.long()
    y = torch.zeros((T, B, C), dtype=torch.float32, device=t_n.device)
    count_events_kernel[(triton.cdiv(n, BLOCK),)](
        t_n.contiguous(), unit_n.contiguous(), clip_n.contiguous(), bytes_of(alive_n), y,
        n, T, B, C, DT=int(dt_us), GROUP=int(units_per_channel), BLOCK=BLOCK,
    )  # fmt: skip
    return y
