"""Text, one event a line -> events: `t x y p`, apart by blanks, commas or semicolons.

Lines that begin with # or % are comments. A first line of words names the columns, in any order;
one of two numbers is width and height of the sensor. Times are seconds if one of them has a
fraction, else us, however they are written. Polarities are 0 and 1, or -1 and 1.
Source of the form: Mueggler et al. 2017, arXiv 1610.08336 (events.txt, in seconds).

Legend: n events; `size` is (height, width) in pixels.
"""

import re
from pathlib import Path

import numpy as np

from ....errors import EventFormatError
from ....kernels.cpu.compiled import compiled
from ...events import Events
from .arrays import NAMES, two_polarities
from .common import check_size, checked, read_bytes

HEAD = 1 << 14  # bytes of a file in which its header ends
DIGITS = 17  # of a number: more do not fit an int64
TENS = 10 ** np.arange(19)
SHORTEST = 8  # bytes of a line, "0 0 0 0" and its end
FEW, MANY, WORD, HUGE = range(1, 5)  # what is wrong with a line


@compiled()
def _number(
    raw: np.ndarray,  # uint8
    i: int,
) -> tuple[int, int, int]:
    """The number at byte i: (mantissa, power of ten, byte after it; -1: it is none)."""
    end, sign, value, digits, power, real = len(raw), 1, 0, 0, 0, False
    if i < end and (raw[i] == 45 or raw[i] == 43):
        sign = -1 if raw[i] == 45 else 1
        i += 1
    start, points = i, 0
    while i < end and (48 <= raw[i] <= 57 or (raw[i] == 46 and not real)):
        if raw[i] == 46:
            real, points = True, 1
        elif digits < DIGITS:
            value = value * 10 + (raw[i] - 48)
            digits += 1 if value else 0
            power -= 1 if real else 0
        else:
            power += 0 if real else 1
        i += 1
    if i - start == points:
        return 0, 0, -1
    if i < end and (raw[i] == 101 or raw[i] == 69):
        i, minus, e = i + 1, False, 0
        if i < end and (raw[i] == 45 or raw[i] == 43):
            minus = raw[i] == 45
            i += 1
        begin = i
        while i < end and 48 <= raw[i] <= 57:
            e = min(e * 10 + (raw[i] - 48), 999)
            i += 1
        if i == begin:
            return 0, 0, -1
        power += -e if minus else e
    return sign * value, power, i


@compiled()
def _rows(
    raw: np.ndarray,  # uint8
    at: int,  # byte where the events begin
    number_4n: np.ndarray,  # int64 (4, n), mantissas
    power_4n: np.ndarray,  # int16 (4, n), powers of ten
) -> tuple[int, int, int]:
    """(number of events, lines passed, what is wrong with the next one)."""
    n, lines, end = 0, 0, len(raw)
    while at < end:
        column, bad = 0, 0
        while at < end and raw[at] != 10:
            byte = raw[at]
            if byte == 32 or byte == 9 or byte == 44 or byte == 59 or byte == 13:
                at += 1
                continue
            if column == 0 and (byte == 35 or byte == 37):
                while at < end and raw[at] != 10:
                    at += 1
                break
            if column == 4:
                bad = MANY
                break
            value, power, after = _number(raw, at)
            if after < 0 or (after < end and raw[after] > 32 and raw[after] not in (44, 59)):
                bad = WORD
                break
            if power > 300 or power < -300:
                bad = HUGE
                break
            number_4n[column, n], power_4n[column, n] = value, power
            column += 1
            at = after
        if bad == 0 and 0 < column < 4:
            bad = FEW
        if bad:
            return n, lines, bad
        n += column == 4
        lines += 1
        at += 1
    return n, lines, 0


@compiled()
def _scaled(
    number_n: np.ndarray,  # int64, mantissas
    power_n: np.ndarray,  # int16, powers of ten
    tens: np.ndarray,  # int64, 10 ** 0 to 10 ** 18
    rounded: bool,
    out: np.ndarray,  # int64 (n,)
) -> int:
    """How many numbers come out before one that is not whole or too large."""
    for i in range(len(number_n)):
        number, power = number_n[i], power_n[i]
        if power > 0 and number != 0:
            if power > 18 or abs(number) > (1 << 62) // tens[power]:
                return i
            number *= tens[power]
        elif power < 0:
            ten = tens[min(-power, 18)]
            whole = (number + ten // 2) // ten
            if not rounded and (whole * ten != number or (power < -18 and number != 0)):
                return i
            number = whole
        out[i] = number
    return len(number_n)


WRONG = {
    FEW: "it has fewer than four numbers",
    MANY: "it has more than four numbers",
    WORD: "it is no row of numbers",
    HUGE: "a number is too large or too small",
}


def read_text(path: str | Path, size: tuple[int, int] | None = None) -> Events:
    """Events of a text file; see `parse_text`, and DataError if it cannot be read."""
    return parse_text(read_bytes(path), str(path), size)


def parse_text(raw: bytes, path: str = "", size: tuple[int, int] | None = None) -> Events:
    """Events of a text in its order; seconds are rounded to us.

    `size`: (H, W) of the sensor, None: as a first line says, else 2048 x 2048. Errors:
    EventFormatError that names the line that is no event of four numbers, or an impossible one.
    """
    order, said, at, lines = _header(raw, path)
    size = size or said
    byte_N = np.frombuffer(raw, np.uint8)
    most = min(raw.count(b"\n", at) + 1, (len(raw) - at) // (SHORTEST - 1) + 1)
    number_4n, power_4n = np.empty((4, most), np.int64), np.empty((4, most), np.int16)
    n, passed, wrong = _rows(byte_N, at, number_4n, power_4n)
    if wrong:
        reason = f"{WRONG[wrong]}, expected {' '.join(order)}"
        raise EventFormatError(path, lines + passed + 1, reason, "line")

    def fail(i: int, reason: str) -> None:
        raise EventFormatError(path, _line(raw, at, i) + lines, reason, "line")

    parts = []
    for name in "txyp":
        number, power = number_4n[order.index(name), :n], power_4n[order.index(name), :n]
        part, good = _whole(number, power)
        if name == "t" and good < n:
            part, good = _whole(number, power + 6, rounded=True)
        if good < n:
            fail(good, f"its {name} is no whole number, or too large")
        parts.append(part)
    t_us, x, y, p = parts
    place = lambda i: _line(raw, at, i) + lines  # noqa: E731
    return checked(path, t_us, x, y, two_polarities(p), size, place, "line")


def sensor(path: str | Path) -> tuple[int, int] | None:
    """(H, W) as a first line `width height` says it, else None. Errors: DataError,
    EventFormatError."""
    with open(path, "rb") as file:
        raw = file.read(HEAD)
    return _header(raw, str(path))[1]


def _header(raw: bytes, path: str) -> tuple[str, tuple[int, int] | None, int, int]:
    """(order of the columns, size of the sensor, byte and number of lines before the events)."""
    at = 3 if raw.startswith(b"\xef\xbb\xbf") else 0  # the mark of UTF-8
    lines, order, size = 0, "txyp", None
    while at < len(raw):
        end = raw.find(b"\n", at)
        end = len(raw) if end < 0 else end
        line = raw[at : min(end, at + HEAD)].decode("ascii", "replace").strip().lower()
        words = [word.strip("\"'") for word in re.split(r"[\s,;]+", line) if word]
        if words and words[0][0] not in "#%":
            if len(words) == 2 and size is None and all(word.isdecimal() for word in words):
                size = check_size((int(words[1]), int(words[0])), path, at)
            elif words[0][0].isalpha():
                order = _order(words, path, lines + 1)
            else:
                break
        at, lines = end + 1, lines + 1
    return order, size, min(at, len(raw)), lines


def _order(words: list[str], path: str, line: int) -> str:
    """The columns by a line that names them."""
    names = ["".join(part for part in NAMES if word in NAMES[part]) for word in words]
    if sorted(names) != sorted(NAMES):
        reason = f"it says {' '.join(words)[:60]!r}, expected the names t x y p in some order"
        raise EventFormatError(path, line, reason, "line")
    return "".join(names)


def _whole(number: np.ndarray, power: np.ndarray, rounded: bool = False) -> tuple[np.ndarray, int]:
    """(number * 10 ** power as int64, how many are whole, or may be `rounded`, and fit, before the
    first that is not)."""
    out = np.empty(len(number), np.int64)
    return out, _scaled(number, power, TENS, rounded, out)


def _line(raw: bytes, at: int, i: int) -> int:
    """Number of the line, from 1 at byte `at`, that holds event `i`."""
    n = -1
    for line, text in enumerate(raw[at:].split(b"\n"), 1):
        n += bool(text.strip(b" \t\r,;")) and text.lstrip(b" \t\r,;")[:1] not in (b"#", b"%")
        if n == i:
            return line
    return 0
