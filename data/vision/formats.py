"""Files of recordings that tonic's data sets hold -> events; see atis.py for ATIS.

Legend: n events.
"""

from pathlib import Path

import numpy as np

from ...errors import DataError, EventFormatError
from ..events import Events

LONGEST_MS, SHORTEST_MS = 600_000, 100  # of a gesture: one lasts 1 to 20 s
MANY = 1000  # events that no gesture has in SHORTEST_MS
SIDE = 128  # rows and columns of the DVS128, which recorded both data sets


def read_gesture(path: Path) -> Events:
    """Events of an .npy array (n, 4) of x, y, polarity and time in ms, as tonic cuts the gestures
    of DVS128-Gesture; the clock may start anywhere. Errors: EventFormatError, also for times that
    must be us or s, DataError if it cannot be opened."""
    try:
        with path.open("rb") as file:
            raw = np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    except Exception as error:  # numpy has no common error for a damaged header
        raise EventFormatError(str(path), None, f"it is no array of numbers ({error})") from error
    if raw.ndim != 2 or raw.shape[1] != 4 or raw.dtype.kind not in "iuf":
        reason = f"it holds {raw.dtype} {raw.shape}, expected numbers (n, 4): x, y, p, ms"
        raise EventFormatError(str(path), None, reason)
    x, y, p, t_ms = raw.astype(np.float64).T
    if (unit := _other_unit(t_ms)) is not None:
        lasts = f"read as ms it lasts {np.ptp(t_ms):g} ms, so its times must be {unit}"
        raise EventFormatError(str(path), None, f"{lasts}: write them in ms, as tonic does")
    return _checked(path, np.rint(t_ms * 1000), x, y, p)


def _other_unit(t_ms: np.ndarray) -> str | None:
    """The unit of times that cannot be ms of a gesture, float64 (n,); None if they can."""
    if not len(t_ms) or not np.isfinite(t_ms).all():  # which is refused for what it is
        return None
    if (lasts := np.ptp(t_ms)) > LONGEST_MS:
        return "us"
    return "s" if lasts < SHORTEST_MS and len(t_ms) >= MANY else None


def read_aedat4(path: Path) -> Events:
    """Events of an .aedat4 file, read by tonic and its optional package aedat. The file's clock
    starts anywhere, ours with the first event. Errors: EventFormatError, DataError without aedat.
    """
    from tonic import io

    try:
        raw = io.read_aedat4(str(path))
    except ImportError as error:
        raise DataError(f"reading {path.name} needs a package: pip install aedat") from error
    except Exception as error:  # the decoder has no common error class
        raise EventFormatError(str(path), None, f"it is no AEDAT4 recording ({error})") from error
    t_us, x, y, p = (raw[name].astype(np.float64) for name in raw.dtype.names)  # exact below 2**53
    return _checked(path, t_us - t_us.min(initial=np.inf), x, y, p)


def _checked(path: Path, t_us: np.ndarray, *xyp: np.ndarray) -> Events:
    """Events of float64 columns x, y, p; the first impossible one is an EventFormatError."""
    x, y, p = xyp
    good = (t_us >= 0) & (t_us < 2.0**53) & ((p == 0) | (p == 1))  # NaN compares as false
    for place in (x, y):
        good &= (place >= 0) & (place < SIDE)
    if not good.all():
        i = int(np.argmin(good))
        what = f"event {i} has x {x[i]:g}, y {y[i]:g}, p {p[i]:g} at {t_us[i]:g} us"
        raise EventFormatError(str(path), None, f"{what}, expected x and y below {SIDE}, p 0 or 1")
    return Events(t_us.astype(np.int64), *(part.astype(np.int16) for part in xyp))
