"""What recordings whose files do not say their unit of time let suspect about it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import DataError, EventFormatError
from ..events import Events
from .formats import READERS
from .frames import TIMED
from .framing import Framing
from .sets import RecordingSet

LOOKED_AT, FEWER = 100, 8  # recordings, and if they are large
MOST_BYTES = 10**8  # of the files that are read


def clock_lines(recordings: RecordingSet, framing: Framing) -> list[str]:
    """As `short_lines`, of LOOKED_AT of the recordings whose unit of time may be any, at even
    distances, which are read. Errors: none, what cannot be read is found when it is framed."""
    endings = {ending for ending, reader in READERS.items() if reader.timed}
    timed = [i for i, name in enumerate(recordings.names) if Path(name).suffix.lower() in endings]
    lasts_us = []
    for i in _some(recordings, timed) if timed and framing.framing in TIMED else ():
        try:
            lasts_us += lasting_us(recordings[i][0])
        except (DataError, EventFormatError):
            continue
    return short_lines(lasts_us, framing)


def _some(recordings: RecordingSet, index: list[int]) -> list[int]:
    """Those at `index` that are looked at."""
    some = _spaced(index, LOOKED_AT)
    paths = [Path(recordings.folder or "", recordings.names[i]) for i in some]
    few = sum(path.stat().st_size for path in paths if path.is_file()) > MOST_BYTES
    return _spaced(index, FEWER) if few else some


def _spaced(index: list[int], n: int) -> list[int]:
    return [index[k] for k in np.unique(np.linspace(0, len(index) - 1, n).astype(int))]


def lasting_us(events: Events) -> list[int]:
    """How long a recording lasts, from its first event to its last; nothing of fewer than two."""
    return [int(np.ptp(events.t_us))] if len(events) > 1 else []


def short_lines(lasts_us: Sequence[int], framing: Framing) -> list[str]:
    """A warning if recordings, which last so many microseconds, fit into one of their frames, as
    they do where times in milliseconds are taken for microseconds."""
    short = [us for us in lasts_us if us < framing.dt_ms * 1000]
    if framing.framing not in TIMED or not short:
        return []
    most = 2 * len(short) > len(lasts_us)
    hint = "give --time-unit ms or s" if most else "bring them to the unit of the others"
    return [
        f"warning: {len(short)} of {len(lasts_us)} recordings that were looked at last less than "
        f"one frame of {framing.dt_ms:g} ms, the first {short[0] / 1000:g} ms: if their times are "
        f"no microseconds, {hint}"
    ]
