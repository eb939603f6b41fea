"""The definition of the ops on events, as reference.py is that of all others.

Legend: n events, the clips' one after the other, B clips, T steps, C channels.
"""

import torch
from torch import Tensor

from .philox import LOW, words


def event_words(
    clip_n: Tensor, begin_B: Tensor, index_B: Tensor, seed: int, epoch: int, stream: int
) -> Tensor:
    """Four random words for each of n events, a function of where it is drawn and nothing else.

    Args:
        clip_n: clip of every event, 0 ... B - 1, ascending, (n,) int32.
        begin_B: first event of every clip, (B,) int64.
        index_B: the number by which a clip draws, 0 ... 2**32 - 1, (B,) int64.
        seed, epoch, stream: key, 64 signed bits, and the last two words of the counter; the first
            two are the number of the event within its clip and the clip's index.

    Returns:
        Bits of the words of ``philox.words``, (4, n) int32.
    """
    number_n = torch.arange(len(clip_n), device=clip_n.device) - begin_B.index_select(0, clip_n)
    index_n = index_B.index_select(0, clip_n) & LOW
    drawn = words(seed, number_n, index_n, index_n * 0 + epoch, index_n * 0 + stream)
    return torch.stack(drawn).to(torch.int32)


def latest(t_n: Tensor, clip_n: Tensor, begin_B: Tensor, alive_n: Tensor | None) -> Tensor:
    """Time of the latest living event of every clip, -1 where there is none.

    Args:
        t_n: times >= 0 of what lives, (n,) integer.
        clip_n, begin_B: see ``event_words``.
        alive_n: which events count, (n,) bool; None: all.

    Returns:
        (B,) int64.
    """
    living_n = t_n if alive_n is None else t_n.masked_fill(~alive_n, -1)
    none_B = torch.full_like(begin_B, -1)
    return none_B.scatter_reduce(0, clip_n.long(), living_n.long(), "amax")


def anchored_steps(
    t_n: Tensor, clip_n: Tensor, begin_B: Tensor, alive_n: Tensor | None, dt_us: int, most: int
) -> Tensor:
    """Step of every event where a step starts at its clip's first event after the last one's end.

    Every event points to the first one of its clip that lies ``dt_us`` or more later. The events
    that start a step are those on the way from a clip's first; the way is followed for all clips
    at once, and doubled in each round.

    Args:
        t_n: times in any order, 0 ... 2**41 - 1 of what lives, (n,) integer.
        clip_n, begin_B, alive_n: see ``latest``.
        dt_us: length of a step, below 2**41.
        most: number of steps that no clip exceeds, such as its number of events.

    Returns:
        (n,) int32, -1 for an event that does not live.

    Source: the published delay runs' framing (arXiv 2306.17670).
    """
    n, after = len(t_n), 2**41  # what does not live comes after all else of its clip
    t_n = t_n.long() if alive_n is None else t_n.long().masked_fill(~alive_n, after)
    key_n, order_n = (t_n + clip_n.long() * (2 * after)).sort()
    next_n = torch.searchsorted(key_n, key_n + dt_us)
    key_n = torch.cat([key_n, key_n.new_full((1,), -1)])  # the end, to which all ways lead
    lives_n, clip = key_n % (2 * after) < after, key_n // (2 * after)
    lives_n[n].fill_(False)
    same = (clip[next_n] == clip[:n]) & lives_n[next_n]
    next_n = torch.cat([next_n.masked_fill(~same, n), next_n.new_full((1,), n)])
    starts_n = torch.zeros_like(key_n, dtype=torch.int32)
    starts_n = starts_n.index_fill(0, begin_B, 1) * lives_n
    for _ in range(most.bit_length()):
        starts_n = starts_n.scatter_reduce(0, next_n, starts_n, "amax")
        next_n = next_n[next_n]
    counted_n = starts_n.cumsum(0)
    step_n = counted_n[:n] - counted_n[begin_B].index_select(0, clip_n)  # clips stay in their order
    step_n = step_n.masked_fill(~lives_n[:n], -1).to(torch.int32)
    return torch.empty_like(step_n).scatter(0, order_n, step_n)


def count_events(
    t_n: Tensor,
    unit_n: Tensor,
    clip_n: Tensor,
    alive_n: Tensor | None,
    shape: tuple[int, int, int],
    dt_us: int,
    units_per_channel: int,
) -> Tensor:
    """Events in each step, clip and channel.

    Args:
        t_n: times, (n,) integer; the step of an event is t // dt_us.
        unit_n: units, (n,) integer; the channel of an event is unit // units_per_channel.
        clip_n: clip of every event, 0 ... B - 1, (n,) int32.
        alive_n: which events count, (n,) bool; None: all.
        shape: T, B, C. What lies outside is left out.
        dt_us, units_per_channel: >= 1.

    Returns:
        Whole numbers, (T, B, C) float32, exact below 2**24.
    """
    T, B, C = shape
    step_n, channel_n = (
        torch.div(a_n.long(), size, rounding_mode="floor")
        for a_n, size in ((t_n, dt_us), (unit_n, units_per_channel))
    )
    inside_n = (step_n >= 0) & (step_n < T) & (channel_n >= 0) & (channel_n < C)
    inside_n = inside_n if alive_n is None else inside_n & alive_n
    at_n = ((step_n * B + clip_n) * C + channel_n) * inside_n
    count = torch.zeros(T * B * C, dtype=torch.int64, device=t_n.device)
    return count.index_add(0, at_n, inside_n.long()).view(shape).float()
