"""Numbers in the bytes of a text: each as mantissa and power of ten, so that nothing is rounded
before its unit is known.

Legend: n rows of k numbers.
"""

import numpy as np

from ..kernels.cpu.compiled import compiled

DIGITS = 17  # of a number: more do not fit an int64
TENS = 10 ** np.arange(19)
AFTER = (44, 59, 35, 37)  # what may follow a number: , ; # %
FEW, MANY, WORD, HUGE = range(1, 5)  # what is wrong with a row


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
def rows(
    raw: np.ndarray,  # uint8
    at: int,  # byte where the rows begin
    number_kn: np.ndarray,  # int64 (k, n), mantissas
    power_kn: np.ndarray,  # int16 (k, n), powers of ten
) -> tuple[int, int, int]:
    """(number of rows of k numbers, lines passed, what is wrong with the next one)."""
    k, n, lines, end = len(number_kn), 0, 0, len(raw)
    while at < end:
        column, bad = 0, 0
        while at < end and raw[at] != 10:
            byte = raw[at]
            if byte == 32 or byte == 9 or byte == 44 or byte == 59 or byte == 13:
                at += 1
                continue
            if byte == 35 or byte == 37:
                while at < end and raw[at] != 10:
                    at += 1
                break
            if column == k:
                bad = MANY
                break
            value, power, after = _number(raw, at)
            if after < 0 or (after < end and raw[after] > 32 and raw[after] not in AFTER):
                bad = WORD
                break
            if power > 300 or power < -300:
                bad = HUGE
                break
            number_kn[column, n], power_kn[column, n] = value, power
            column += 1
            at = after
        if bad == 0 and 0 < column < k:
            bad = FEW
        if bad:
            return n, lines, bad
        n += column == k
        lines += 1
        at += 1
    return n, lines, 0


@compiled()
def scaled(
    number_n: np.ndarray,  # int64, mantissas
    power_n: np.ndarray,  # int16, powers of ten
    more: int,  # power of ten by which all are multiplied
    rounded: bool,
    out: np.ndarray,  # int64 (n,)
) -> int:
    """How many numbers come out before one that is not whole or too large."""
    for i in range(len(number_n)):
        number, power = number_n[i], power_n[i] + more
        if power > 0 and number != 0:
            if power > 18 or abs(number) > (1 << 62) // TENS[power]:
                return i
            number *= TENS[power]
        elif power < 0:
            ten = TENS[min(-power, 18)]
            whole = (number + ten // 2) // ten
            if not rounded and (whole * ten != number or (power < -18 and number != 0)):
                return i
            number = whole
        out[i] = number
    return len(number_n)
