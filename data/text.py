"""Events as text, one on each line: `t unit` of a clip, `t x y p` of a recording.

Columns are separated by spaces, tabs, commas or semicolons; lines that begin with # and a first
line of names are no events.
"""

import io

import numpy as np

from ..errors import DataError, EventFormatError, nearest
from .audio.shd import LAST_US, UNITS_US
from .events import Events

CLIP, RECORDING = "t unit", "t x y p"
LONGEST_S = 1000  # whole numbers up to more than that are no seconds
LARGEST = 2**15  # of a unit, a row and a column


def parse_text(raw: bytes, path: str, columns: str, time_unit: str) -> Events:
    """Events of the text `raw`, in its order. `path`: what errors call it. `columns`: CLIP or
    RECORDING. `time_unit`: of t, one of UNITS_US. Errors: DataError for another unit,
    EventFormatError(path, line, reason)."""
    if time_unit not in UNITS_US:
        raise DataError(f"unknown unit of time {time_unit!r}: {nearest(time_unit, UNITS_US)}")
    lines = _lines(raw, path)
    if not lines:
        raise EventFormatError(path, None, f"it holds no events: write one on each line, {columns}")
    n_columns = len(columns.split())
    try:
        rows = np.loadtxt(io.StringIO("\n".join(lines.values())), ndmin=2, comments=None)
    except ValueError:
        rows = np.empty((0, 0))
    if rows.shape != (len(lines), n_columns):
        _refuse(lines, path, columns)
    t_us, *others = rows.T
    _check(lines, path, "a number is not whole or not in 0..32767", _odd(np.array(others)))
    if columns == RECORDING:
        _check(lines, path, "the polarity is not 0 or 1", others[-1] > 1)
    t_us = _microseconds(lines, path, t_us, time_unit)
    return Events(t_us, *(part.astype(np.int32) for part in others))


def _lines(raw: bytes, path: str) -> dict[int, str]:
    """Number of each line with an event, from 1 -> the line, with spaces between its columns."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise EventFormatError(path, error.start, "it is no text", "byte") from None
    for mark in ",;":
        text = text.replace(mark, " ")
    split = enumerate(text.splitlines(), 1)
    lines = {i: line for i, line in split if line.strip() and line.strip()[0] != "#"}
    first = next(iter(lines), 0)
    if first and not any(is_number(word) for word in lines[first].split()):
        del lines[first]  # names of the columns
    return lines


def is_number(word: str) -> bool:
    """Whether a word says a number, NaN and infinity too."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def _refuse(lines: dict[int, str], path: str, columns: str) -> None:
    """EventFormatError for the first line that has other columns."""
    for i, line in lines.items():
        words = line.split()
        if len(words) != len(columns.split()) or not all(map(is_number, words)):
            reason = f"{' '.join(words)[:40]!r} is no event: write {columns}, numbers"
            raise EventFormatError(path, i, reason, "line")
    raise EventFormatError(path, None, f"it is no list of events: write {columns} on each line")


def _odd(values: np.ndarray) -> np.ndarray:
    """Of columns (c, n), which of n have one that is no place."""
    good = (values >= 0) & (values < LARGEST) & (values == np.floor(values))  # NaN is false
    return ~good.all(axis=0)


def _microseconds(lines: dict[int, str], path: str, t: np.ndarray, unit: str) -> np.ndarray:
    """Times as int64 microseconds, where they can be in `unit`."""
    t_us = t * UNITS_US[unit]
    whole = bool((t == np.floor(t)).all())
    if unit == "s" and whole and t.max() > LONGEST_S:
        text = f"its times are whole numbers up to {t.max():.0f}, no seconds"
        raise EventFormatError(path, None, f"{text}: give --time-unit us or ms")
    if unit == "us" and not whole and np.isfinite(t).all():
        raise EventFormatError(path, None, "its times have fractions: give --time-unit s or ms")
    good = (t_us >= 0) & (t_us < LAST_US)
    _check(lines, path, "the time is negative, not finite or over 30 years", ~good)
    return np.rint(t_us).astype(np.int64)


def _check(lines: dict[int, str], path: str, reason: str, wrong: np.ndarray) -> None:
    """EventFormatError naming the first line that is `wrong`, bool (n,)."""
    if wrong.any():
        number = [*lines][int(wrong.argmax())]
        text = " ".join(lines[number].split())[:40]
        raise EventFormatError(path, number, f"{text!r}: {reason}", "line")
