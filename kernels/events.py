"""Events of clips -> batches: random words for each event, its step, and counts per step and
channel. No gradients.

Legend: n events, the clips' one after the other, B clips, T steps, C channels.
"""

from collections.abc import Callable

from torch import Tensor

from . import reference_events
from .dispatch import dispatch


def _lazy(backend: str, name: str) -> Callable:
    """A function of a backend's events.py, whose compiler takes long to import."""

    def run(*args):
        if backend == "cpu":
            from .cpu import events
        else:
            from .triton import events
        return getattr(events, name)(*args)

    return run


def _backends(name: str, *compiled: str) -> dict[str, Callable]:
    return {b: _lazy(b, name) for b in compiled} | {"reference": getattr(reference_events, name)}


EVENT_WORDS = _backends("event_words", "triton", "cpu")
LATEST = _backends("latest", "triton", "cpu")
ANCHORED_STEPS = _backends("anchored_steps", "cpu")
COUNT_EVENTS = _backends("count_events", "triton", "cpu")


def event_words(
    clip_n: Tensor,
    begin_B: Tensor,
    index_B: Tensor,
    seed: int,
    epoch: int,
    stream: int,
    backend: str = "auto",
) -> Tensor:
    """Four random words for each event, the same bits on every backend.

    Args:
        clip_n: clip of every event, 0 ... B - 1, ascending, (n,) int32.
        begin_B: first event of every clip, (B,) int64.
        index_B: the number by which a clip draws, 0 ... 2**32 - 1, (B,) int64.
        seed: key, 64 signed bits.
        epoch, stream: 0 ... 2**32 - 1.
        backend: ``auto``, ``reference``, ``triton`` or ``cpu``.

    Returns:
        Bits of the words, (4, n) int32.

    Raises:
        BackendError: the backend cannot run.

    Source: Salmon et al. 2011, doi 10.1145/2063384.2063405 (Philox).
    """
    run = dispatch("event_words", EVENT_WORDS, backend, clip_n.device.type)
    return run(clip_n, begin_B, index_B, seed, epoch, stream)


def latest(
    t_n: Tensor,
    clip_n: Tensor,
    begin_B: Tensor,
    alive_n: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Time of the latest living event of every clip, -1 where there is none.

    Args:
        t_n: times, >= 0 of what lives, (n,) int32 or int64.
        clip_n, begin_B: as for ``event_words``.
        alive_n: which events count, (n,) bool; None: all.
        backend: ``auto``, ``reference``, ``triton`` or ``cpu``.

    Returns:
        (B,) int64.

    Raises:
        BackendError: the backend cannot run.
    """
    run = dispatch("latest", LATEST, backend, t_n.device.type)
    return run(t_n, clip_n, begin_B, alive_n)


def anchored_steps(
    t_n: Tensor,
    clip_n: Tensor,
    begin_B: Tensor,
    alive_n: Tensor | None,
    dt_us: int,
    most: int,
    backend: str = "auto",
) -> Tensor:
    """Step of every event where each step starts at an event: a clip's first, then the first that
    lies at or after the end of the step before.

    Args:
        t_n: times in any order, 0 ... 2**41 - 1 of what lives, (n,) int32 or int64.
        clip_n, begin_B, alive_n: as for ``latest``.
        dt_us: length of a step, 1 ... 2**41 - 1.
        most: number of steps that no clip exceeds, such as its number of events.
        backend: ``auto``, ``reference`` or ``cpu``.

    Returns:
        (n,) int32, -1 for an event that does not live.

    Raises:
        BackendError: the backend cannot run.

    Source: the framing of the published delay runs (arXiv 2306.17670).
    """
    run = dispatch("anchored_steps", ANCHORED_STEPS, backend, t_n.device.type)
    return run(t_n, clip_n, begin_B, alive_n, dt_us, most)


def count_events(
    t_n: Tensor,
    unit_n: Tensor,
    clip_n: Tensor,
    alive_n: Tensor | None,
    shape: tuple[int, int, int],
    dt_us: int = 1,
    units_per_channel: int = 1,
    backend: str = "auto",
) -> Tensor:
    """Events in each step, clip and channel.

    Args:
        t_n: times, (n,) int32 or int64; the step of an event is t // dt_us.
        unit_n: units, (n,) integer; the channel of an event is unit // units_per_channel.
        clip_n: clip of every event, 0 ... B - 1, (n,) int32.
        alive_n: which events count, (n,) bool; None: all.
        shape: T, B, C. What lies outside is left out.
        dt_us, units_per_channel: >= 1.
        backend: ``auto``, ``reference``, ``triton`` or ``cpu``.

    Returns:
        Whole numbers, (T, B, C) float32, exact below 2**24.

    Raises:
        BackendError: the backend cannot run.
    """
    run = dispatch("count_events", COUNT_EVENTS, backend, t_n.device.type)
    return run(t_n, unit_n, clip_n, alive_n, shape, dt_us, units_per_channel)
