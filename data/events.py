"""Events: the one form in which every data set leaves its file.

Shapes: n events of one sample, a clip or a recording. Times are int64 microseconds; they need
not be sorted.
"""

from dataclasses import dataclass, field

import numpy as np

from ..errors import DataError

MAX_STEPS = 100_000  # frames of 1000 s at 10 ms: more is a damaged time stamp, not a sample


@dataclass(frozen=True)
class Events:
    """The events of one sample: `t_us` int64 (n,), `x` integer unit or column (n,), and of a
    recording `y` row (0 at the top) and `p` polarity (0 or 1, as stored), both integer (n,)."""

    t_us: np.ndarray
    x: np.ndarray
    y: np.ndarray | None = None
    p: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.t_us)

    def select(self, index: np.ndarray) -> "Events":
        """The events at `index` (bool mask (n,) or integer indices), in that order."""
        y, p = (None if part is None else part[index] for part in (self.y, self.p))
        return Events(self.t_us[index], self.x[index], y, p)

    def validate(self, n_units: int | None = None, n_rows: int | None = None) -> "Events":
        """Itself if the invariants hold, else DataError: 1-D arrays of one length, integer,
        times >= 0, 0 <= x < n_units where `n_units` is given; where `n_rows` is given the events
        are a recording's: they have p, 0 or 1, and 0 <= y < n_rows."""
        for name in ("t_us", "x", "y", "p"):
            part = getattr(self, name)
            if part is None:
                continue
            if part.ndim != 1 or len(part) != len(self.t_us):
                raise DataError(f"{name} has shape {part.shape}, expected ({len(self.t_us)},)")
            if part.dtype.kind not in "iu":
                raise DataError(f"{name} has dtype {part.dtype}, expected integers")
        if len(self) and self.t_us.min() < 0:
            raise DataError(f"an event lies at {self.t_us.min()} us, before time 0")
        if n_units is not None and len(self) and not 0 <= self.x.min() <= self.x.max() < n_units:
            raise DataError(f"units {self.x.min()}..{self.x.max()} are not all in 0..{n_units - 1}")
        if n_rows is not None:
            if self.y is None or self.p is None:
                raise DataError("the events have no y and p: they are no recording")
            if len(self) and not 0 <= self.y.min() <= self.y.max() < n_rows:
                raise DataError(
                    f"rows {self.y.min()}..{self.y.max()} are not all in 0..{n_rows - 1}"
                )
            if len(self) and not 0 <= self.p.min() <= self.p.max() <= 1:
                raise DataError(f"polarities {self.p.min()}..{self.p.max()} are not all 0 or 1")
        return self


def pixels(size: tuple[int, int]) -> str:
    """The size (H, W) of a sensor, in the one order that all messages and options have."""
    return f"{size[0]} x {size[1]} pixels (height x width)"


@dataclass(frozen=True)
class Clips:
    """The events of many clips in memory: flat `t_us` and `x`, both integer (sum of n,), and
    `offsets` int64 (clips + 1,): clip i owns the elements offsets[i] to offsets[i + 1]. `bad`:
    clips that could not be read, which have no events, and why."""

    t_us: np.ndarray
    x: np.ndarray
    offsets: np.ndarray
    bad: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def events(self, i: int) -> Events:
        """Events of clip `i`, with times as int64."""
        i = range(len(self))[i]
        part = slice(self.offsets[i], self.offsets[i + 1])
        return Events(self.t_us[part].astype(np.int64), self.x[part])

    def take(self, index: np.ndarray) -> "Clips":
        """The clips at `index`, int64 (m,), in that order."""
        size = np.diff(self.offsets)[index]
        offsets = np.concatenate([[0], np.cumsum(size)])
        place = np.arange(offsets[-1]) + np.repeat(self.offsets[index] - offsets[:-1], size)
        return Clips(self.t_us[place], self.x[place], offsets)

    def whole(self) -> "Clips":
        """Itself."""
        return self

    def between(self, start: int, stop: int) -> "Clips":
        """The clips start..stop - 1."""
        begin, end = self.offsets[start], self.offsets[stop]
        offsets = self.offsets[start : stop + 1] - begin
        return Clips(self.t_us[begin:end], self.x[begin:end], offsets)

    @property
    def most_events(self) -> int:
        """Number of all events."""
        return int(self.offsets[-1])

    def before_fork(self) -> None:
        """Nothing to do: worker processes share the arrays."""
