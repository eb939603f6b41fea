"""How many events of a set its frames hold, and what a clock that leaves some outside looks like:
the words of both wings.

Times are in microseconds.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

WAY_OUT = "; mend it, or leave such samples out with --skip-bad"
ENOUGH = 0.99  # of the events: with fewer in its frames a set is warned of
LATE_S = 1.0  # of a first event: what comes before is silence
ZEROS = ("file", "first-event")  # time 0 of a sample: where its file has it, or there
UNITS = {"ms": ("milliseconds", 1e3), "us": ("microseconds", 1e6), "ns": ("nanoseconds", 1e9)}


class Coverage(NamedTuple):
    """Of a part of the data, called `name` in messages: `n_inside` of `n_events` events lie in its
    frames. `hint`: what is likely wrong with its clock, "" if nothing is."""

    name: str
    n_inside: int
    n_events: int
    hint: str = ""

    @property
    def share(self) -> float:
        """Of the events in the frames."""
        return self.n_inside / max(1, self.n_events)


class Clock(NamedTuple):
    """What times say: in which `unit` they likely are, None: seconds as they should be, and at how
    many seconds their clock starts, `start_s`, None where it starts at 0."""

    unit: str | None
    start_s: float | None

    def sentence(self) -> str:
        """ "times look like milliseconds, the clock starts at 5 s"; "" if nothing is odd."""
        unit = [f"times look like {UNITS[self.unit][0]}"] if self.unit else []
        start = [] if self.start_s is None else [f"the clock starts at {self.start_s:.4g} s"]
        return ", ".join(unit + start)


def clock_of(first_us: float, last_us: float, longest_s: float = 60.0) -> Clock:
    """What the first and the last time of a sample say about its clock, where `longest_s` is as
    long as samples are: lasting longer is a unit below the one that was taken for it."""
    span_s, scale, unit = (last_us - first_us) / 1e6, 1.0, None
    for name, (_, factor) in UNITS.items():
        if span_s > longest_s * scale:
            unit, scale = name, factor
    start_s = first_us / 1e6 / scale
    late = start_s > max(LATE_S, span_s / scale)
    return Clock(unit, start_s if late else None)


def left_out(n_bad: int, n: int, what: str, first: str) -> str:
    """How many of `n` samples are left out, and why the first of them."""
    return f"left out {n_bad} of {n} {what} that cannot be used; the first: {first}"


def none_left(n: int, what: str, first: str) -> str:
    """That no sample can be used, and why the first of them cannot."""
    return f"none of the {n} {what} can be used, the first because of this: {first}"


def coverage_lines(parts: Sequence[Coverage]) -> list[str]:
    """How many events the frames hold, in one line, and a warning for each part below ENOUGH or
    with a hint."""
    said = [f"{part.name} {_percent(part.share)} of {part.n_events:,}" for part in parts]
    found = [f"events in the frames: {', '.join(said)}"] if said else []
    for part in parts:
        if part.share < ENOUGH:
            hint, lost = f", {part.hint}" if part.hint else "", _percent(1 - part.share)
            found.append(f"warning: {part.name}: the frames leave out {lost} of the events{hint}")
        elif part.hint:
            found.append(f"warning: {part.name}: {part.hint}")
    return found


def taken_lines(taken: Mapping[str, int], n_events: int) -> list[str]:
    """How many of `n_events` each filter that is on took away, by its name, in one line; none if
    none is on."""
    said = [f"{name} {n:,} ({_percent(n / max(1, n_events))})" for name, n in taken.items()]
    return [f"filters took away, of {n_events:,} events: {', '.join(said)}"] if said else []


def _percent(share: float) -> str:
    """99.9%, with more digits where some are left out and few, so that it never says 100%."""
    for digits in range(1, 7):
        text = f"{share:.{digits}%}"
        if share in (0, 1) or 0 < float(text[:-1]) < 100:
            break
    return text
