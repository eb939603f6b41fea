"""Events as text, one on each line: `t unit` of a clip, `t x y p` of a recording.

Columns stand apart by blanks, commas or semicolons, and what follows # or % is a comment. A first
line of words names the columns, in any order; one of two numbers, of a recording, is width and
height of the sensor.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from ..errors import DataError, EventFormatError, nearest
from .audio.shd import UNITS_US

CLIP = {  # column of a clip -> what files call it, in lower case
    "t": ("t", "ts", "t_s", "time", "times", "timestamp", "timestamps", "second", "seconds", "s"),
    "unit": ("unit", "units", "x", "channel", "channels", "neuron", "neurons", "id"),
}
RECORDING = {  # the same of a recording
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps", "t_us"),
    "x": ("x", "xs", "col", "column"),
    "y": ("y", "ys", "row"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on"),
}
HEAD = 1 << 14  # bytes of a file in which its header ends
LONGEST_S = 1000  # whole numbers up to more than that are no seconds
SHOWN = 40  # characters of a wrong line
WRONG = ("", "it has too few numbers", "it has too many numbers", "it is no row of numbers",
         "it has a number that is too large or too small")  # fmt: skip


class Rows(NamedTuple):
    """Events of a text: `columns` int64 (k, n), times in us. `size`: (H, W) as a first line says
    it; `line`: index of an event -> the number of its line."""

    columns: np.ndarray
    size: tuple[int, int] | None
    line: Callable[[int], int]


class Header(NamedTuple):
    """What stands before the events: `order` of the columns, `size` (H, W) of the sensor or None,
    how many bytes, `at`, and `lines`, and whether the columns are `named`."""

    order: list[str]
    size: tuple[int, int] | None
    at: int
    lines: int
    named: bool


def read_rows(
    raw: bytes, path: str, names: Mapping[str, Sequence[str]], time_unit: str | None = None
) -> Rows:
    """The events of the text `raw`, in its order, with the columns of `names`, the first of which
    are times. `path`: what errors call it. `time_unit`: of the times, one of UNITS_US; None:
    seconds if one has a fraction, else us. They are rounded to us, the half upwards.

    Errors: DataError for another unit, EventFormatError that names the line that is no row of so
    many numbers, or whose number is not whole or too large.
    """
    from .numbers import rows, scaled  # brings numba, so only here

    if time_unit not in (None, *UNITS_US):
        raise DataError(f"unknown unit of time {time_unit!r}: {nearest(time_unit, UNITS_US)}")
    order, size, at, lines, _ = header(raw, path, names)
    k = len(names)
    most = min(raw.count(b"\n", at) + 1, (len(raw) - at) // (2 * k - 1) + 1)
    number_kn, power_kn = np.empty((k, most), np.int64), np.empty((k, most), np.int16)
    n, passed, wrong = rows(np.frombuffer(raw, np.uint8), at, number_kn, power_kn)
    if wrong:
        _fail(raw, path, lines + passed + 1, f"{WRONG[wrong]}, expected {' '.join(order)}")
    columns, place = np.empty((k, n), np.int64), lambda i: lines + _line(raw, at, i)
    for name, out in zip(names, columns, strict=True):
        column = order.index(name)
        parts = number_kn[column, :n], power_kn[column, :n]
        good = scaled(*parts, 0, False, out)
        if name == "t":
            if time_unit == "s" and good == n and n and out.max() > LONGEST_S:
                reason = f"its times are whole numbers up to {out.max()}, no seconds"
                raise EventFormatError(path, None, f"{reason}: give --time-unit us or ms")
            unit = time_unit or ("us" if good == n else "s")
            if unit != "us" or good < n:
                good = scaled(*parts, round(np.log10(UNITS_US[unit])), True, out)
        if good < n:
            _fail(raw, path, place(good), f"its {name} is no whole number, or too large")
    return Rows(columns, size, place)


def header(raw: bytes, path: str, names: Mapping[str, Sequence[str]]) -> Header:
    """What a text of the columns `names` begins with. Errors: EventFormatError for a line that
    names others."""
    at = 3 if raw.startswith(b"\xef\xbb\xbf") else 0  # the mark of UTF-8
    lines, order, size, named = 0, [*names], None, False
    while at < len(raw):
        end = raw.find(b"\n", at)
        end = len(raw) if end < 0 else end
        words = _words(raw[at : min(end, at + HEAD)])
        if len(words) == 2 < len(names) and size is None and all(map(str.isdecimal, words)):
            size = int(words[1]), int(words[0])
        elif words and words[0][0].isalpha() and not is_number(words[0]):
            order, named = [name for word in words for name in names if word in names[name]], True
            if len(words) > len(order) or sorted(order) != sorted(names):
                said = f"it says {' '.join(words)[:60]!r}, expected the names {' '.join(names)}"
                raise EventFormatError(path, lines + 1, f"{said} in some order", "line")
        elif words:
            break
        at, lines = end + 1, lines + 1
    return Header(order, size, min(at, len(raw)), lines, named)


def holds_rows(path: Path, names: Mapping[str, Sequence[str]]) -> bool:
    """Whether the first lines of a file are events of the columns `names`."""
    try:
        with path.open("rb") as file:
            raw = file.read(HEAD)
        head = header(raw, "", names)
    except (OSError, EventFormatError):
        return False
    # the first line of a recording may be two numbers too, those of its sensor
    rows = [words for line in raw[head.at :].split(b"\n") if (words := _words(line))][:2]
    return bool(rows) and all(len(row) == len(names) and all(map(is_number, row)) for row in rows)


def is_number(word: str) -> bool:
    """Whether a word says a number, NaN and infinity too."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def _words(line: bytes) -> list[str]:
    """The words of a line, in lower case, without its comment."""
    text = re.split("[#%]", line.decode("ascii", "replace").lower())[0]
    return [word for part in re.split(r"[\s,;]+", text) if (word := part.strip("\"'"))]


def _line(raw: bytes, at: int, i: int) -> int:
    """Number of the line, from 1 at byte `at`, that holds event `i`."""
    n = -1
    for line, text in enumerate(raw[at:].split(b"\n"), 1):
        n += text.lstrip(b" \t\r,;")[:1] not in (b"", b"#", b"%")
        if n == i:
            return line
    return 0


def _fail(raw: bytes, path: str, line: int, reason: str) -> NoReturn:
    """EventFormatError that shows a line."""
    text = raw.split(b"\n")[line - 1].decode("utf-8-sig", "replace")
    raise EventFormatError(path, line, f"{' '.join(text.split())[:SHOWN]!r}: {reason}", "line")
