"""A set's clips in the memory of a device, where batches are then made without the host.

Legend: n events of all clips, N clips, B clips of a batch.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ...errors import DataError
from ..events import Clips
from .flat import BadClip, Flat, Pieces, check, compact, flat, pieces
from .frames import Framing, batch_steps, check_times
from .sets import ClipSet

LOAD = 256  # clips of which lengths are found at once


@dataclass(frozen=True, eq=False)
class Held:
    """The clips of `clips` on a device: `t_us` int32 or int64 (n,), `unit` integer (n,), `label`
    int64 (N,). The host keeps what says how large batches are: `offsets` int64 (N + 1,), and of
    every clip the sum of its times `sum_us`, the first of them `first_us` and the last of them
    `last_us`, int64 (N,)."""

    clips: ClipSet
    t_us: Tensor
    unit: Tensor
    label: Tensor
    offsets: np.ndarray
    sum_us: np.ndarray
    first_us: np.ndarray
    last_us: np.ndarray
    _steps: dict[Framing, np.ndarray] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.t_us.device

    def flat(self, made: Pieces) -> Flat:
        """The events of a batch; nothing waits for the device."""
        start_S = self.offsets[made.place_S]
        size_S = self.offsets[made.place_S + 1] - start_S
        return flat(self.t_us, self.unit, made, size_S, self.sum_us[made.place_S], start_S)

    def steps(self, how: Framing) -> np.ndarray:
        """Number of steps of each clip as stored, int64 (N,), whatever `how.n_steps`."""
        how = how._replace(n_steps=None)
        if how not in self._steps:
            if how.framing == "grid":
                self._steps[how] = self.last_us // how.dt_us + 1
            else:
                every = np.arange(len(self.clips))
                parts = (every[i : i + LOAD] for i in range(0, len(every), LOAD))
                found = [batch_steps(self.flat(pieces(part, None)), how) for part in parts]
                self._steps[how] = torch.cat(found).numpy(force=True)
        return self._steps[how]

    def check(self, how: Framing) -> None:
        """DataError if a clip cannot be framed like that."""
        try:
            check_times(how, self.first_us, self.last_us)
        except BadClip as error:
            raise DataError(f"{self.clips.identity(error.piece)}: {error.why}") from None


def hold(clips: ClipSet, device: torch.device, stored: Clips | None = None) -> Held:
    """Brings a set's clips to a device. `stored`: their events, None: they are read. Errors:
    DataError and EventFormatError, one sentence, for the first clip that cannot be used."""
    stored = clips.whole() if stored is None else stored
    size = np.diff(stored.offsets)
    try:
        check(stored.t_us, stored.x, size, clips.n_units)
    except BadClip as error:
        raise DataError(f"{clips.identity(error.piece)}: {error.why}") from None
    starts = stored.offsets[:-1]
    sum_us = np.add.reduceat(stored.t_us, starts, dtype=np.int64)
    edges = (np.minimum, np.maximum)
    first_us, last_us = (f.reduceat(stored.t_us, starts).astype(np.int64) for f in edges)
    t_us, unit = compact(stored.t_us, stored.x, clips.n_units)
    label = torch.from_numpy(clips.labels.astype(np.int64))
    there = [a.to(device) for a in (t_us, unit, label)]
    return Held(clips, *there, stored.offsets, sum_us, first_us, last_us)


def held_bytes(clips: ClipSet) -> int:
    """Memory that `hold` takes on the device, at most."""
    return clips.source.most_events * (4 + 4)
