"""Prophesee's files -> events: EVT2, EVT2.1 and EVT3 of .raw, and .dat.

All begin with lines "% name value"; old .dat have none. EVT2: words of 32 bits, EVT3: words of 16
bits, little-endian, whose upper 4 bits say what they are; a time, a row or a column holds until the
next one. EVT2.1: words of 64 bits, their upper half as a word of EVT2, their lower half which of 32
pixels in a row it is about; which half comes first depends on the sensor. DAT: records of a time
and an address, 32 bits each: 14 bits of column and of row, or in version 1 9 bits and 8.
Source: https://docs.prophesee.ai/stable/data/encoding_formats (EVT 2.0, EVT 2.1, EVT 3.0) and
https://docs.prophesee.ai/stable/data/file_formats (RAW, DAT); version 1 of DAT, and files without a
header, as RawEventV1 and FileProducerAlgorithmT of Metavision's OpenEB read them.

Legend: n events, N words; `size` is (height, width) in pixels.
"""

import re
from pathlib import Path

import numpy as np

from ....errors import EventFormatError
from ....kernels.cpu.compiled import compiled
from ...events import Events, pixels
from .common import SIDE, check_size, checked, read_bytes, records, unwrapped

HEAD = 1 << 14  # bytes of a file in which its header ends
FINE, OFF, BACK, UNKNOWN = range(4)  # what a decoder says of the word at which it stopped
NAMES = {
    **{"2.0": "evt2", "EVT2": "evt2", "2.1": "evt21", "EVT21": "evt21", "EVT2.1": "evt21"},
    **{"3.0": "evt3", "EVT3": "evt3"},
}
WIDTH = {"evt2": 4, "evt21": 8, "evt3": 2}  # bytes of a word
CLOCK = 8  # kind of a word that holds the upper bits of the time, in all three
NEW_BITS = 0xFFFC0000  # of an address of .dat: those that version 1 leaves 0


@compiled()
def _evt2(
    word_N: np.ndarray,  # uint32
    valid_N: np.ndarray,  # uint32, bit k: whether it is about the pixel k columns further
    H: int,
    W: int,
    t_us: np.ndarray,  # int64 (n,), where the events go; so x, y int16 and p int8
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
) -> tuple[int, int, int]:
    """(number of events, word at which it stopped, why)."""
    n, high, turns = 0, -1, 0
    for i in range(len(word_N)):
        word = np.int64(word_N[i])
        kind = word >> 28
        if kind <= 1:
            if high < 0:  # before the first clock word: its time is not known
                continue
            column, row, valid = word >> 11 & 2047, word & 2047, np.int64(valid_N[i])
            while valid:
                if valid & 1:
                    if column >= W or row >= H:
                        return n, i, OFF
                    t_us[n] = (turns << 34) + (high << 6) + (word >> 22 & 63)
                    x[n], y[n], p[n] = column, row, kind
                    n += 1
                valid >>= 1
                column += 1
        elif kind == CLOCK:
            new = word & 0xFFFFFFF
            if new < high:
                if high - new < 1 << 27:
                    return n, i, BACK
                turns += 1
            high = new
        elif kind != 10 and kind != 14 and kind != 15:
            return n, i, UNKNOWN
    return n, len(word_N), FINE


@compiled()
def _most_of_evt21(word_N: np.ndarray, valid_N: np.ndarray) -> int:
    """How many events the words can hold."""
    n = 0
    for i in range(len(word_N)):
        valid = valid_N[i] if word_N[i] >> 28 <= 1 else np.uint32(0)
        while valid:
            valid &= valid - np.uint32(1)
            n += 1
    return n


@compiled()
def _evt3(
    word_N: np.ndarray,  # uint16
    H: int,
    W: int,
    t_us: np.ndarray,  # int64 (n,), where the events go; so x, y int16 and p int8
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
) -> tuple[int, int, int]:
    """(number of events, word at which it stopped, why)."""
    n, high, low, turns, row, base, polarity = 0, -1, 0, 0, -1, 0, 0
    for i in range(len(word_N)):
        word = np.int64(word_N[i])
        kind, value = word >> 12, word & 4095
        if kind == 2 or kind == 4 or kind == 5:
            if kind == 2:  # one event; else those of a vector of 12 or 8 pixels
                first, valid, bits = value & 2047, 1, 1
                sign = value >> 11
            else:
                bits = 12 if kind == 4 else 8
                first, valid, sign = base, value & ((1 << bits) - 1), polarity
                base += bits
            if high < 0 or row < 0:  # before the first clock and row: an event of nowhere
                continue
            for bit in range(bits):
                if valid >> bit & 1:
                    if first + bit >= W or row >= H:
                        return n, i, OFF
                    t_us[n] = (turns << 24) + (high << 12) + low
                    x[n], y[n], p[n] = first + bit, row, sign
                    n += 1
        elif kind == 0:
            row = value & 2047
        elif kind == 3:
            base, polarity = value & 2047, value >> 11
        elif kind == 6:
            low = value
        elif kind == 8:
            if value != high:
                low = 0
            if value < high:
                if high - value < 1 << 11:
                    return n, i, BACK
                turns += 1
            high = value
        elif kind != 7 and kind != 10 and kind != 14 and kind != 15:
            return n, i, UNKNOWN
    return n, len(word_N), FINE


@compiled()
def _most_of_evt3(word_N: np.ndarray) -> int:
    """How many events the words can hold."""
    n = 0
    for i in range(len(word_N)):
        kind = word_N[i] >> 12
        if kind == 2:
            n += 1
        elif kind == 4 or kind == 5:
            valid = word_N[i] & (4095 if kind == 4 else 255)
            while valid:
                valid &= valid - 1
                n += 1
    return n


def read_raw(path: str | Path, size: tuple[int, int] | None = None) -> Events:
    """Events of a .raw file; see `parse_raw`, and DataError if it cannot be read."""
    return parse_raw(read_bytes(path), str(path), size)


def parse_raw(raw: bytes, path: str = "", size: tuple[int, int] | None = None) -> Events:
    """Events of an EVT2, EVT2.1 or EVT3 recording in its order, t_us as the sensor's clock says,
    also over its end; words before the first time and row are left out, as their maker's decoder
    does.

    `size`: (H, W) of the sensor, None: as the header says, else 2048 x 2048. Errors:
    EventFormatError that names the byte of a word that is cut, unknown, or off the sensor, or
    whose clock falls, and of a header that names none of these formats.
    """
    words, at = _header(raw, path)
    size = size or _sensor(words, path) or (SIDE, SIDE)
    name = _encoding(words)
    if name not in WIDTH:
        said = f"encoding {name!r}" if name else "no encoding"
        reason = f"its header names {said}, and EVT2, EVT2.1 and EVT3 can be read: convert it"
        raise EventFormatError(path, 0, reason, "byte")
    decode = _evt3 if name == "evt3" else _evt2
    if name == "evt21":
        columns = _halves(raw, at, words, path)
        most = _most_of_evt21(*columns)
    else:
        word_N = records(raw, at, np.dtype(f"<u{WIDTH[name]}"), path)
        columns = (word_N,) if name == "evt3" else (word_N, np.ones(1, "<u4").repeat(len(word_N)))
        most = _most_of_evt3(word_N) if name == "evt3" else len(word_N)
    parts = [np.empty(most, d) for d in (np.int64, np.int16, np.int16, np.int8)]
    n, stop, why = decode(*columns, *size, *parts)
    if why != FINE:
        reason = _reason(why, int(columns[0][stop]), size)
        raise EventFormatError(path, at + stop * WIDTH[name], reason, "byte")
    return Events(*(part if n == most else part[:n].copy() for part in parts))


def _halves(raw: bytes, at: int, words: dict[str, str], path: str) -> tuple[np.ndarray, np.ndarray]:
    """The upper and the lower halves of words of EVT2.1, uint32 (N,) each. The header says
    "little", of the whole word, or "legacy", of its halves, the upper one first; one that says
    nothing is told by the words of the clock, whose lower half is 0."""
    pair = records(raw, at, np.dtype([("one", "<u4"), ("other", "<u4")]), path)
    one, other = (np.ascontiguousarray(pair[name]) for name in ("one", "other"))
    said = re.search(r"endianness=(\w+)", words.get("format", ""))
    order = said[1] if said else words.get("endianness", "")
    if not order:
        legacy, little = (
            int(((upper >> 28 == CLOCK) & (lower == 0)).sum())
            for upper, lower in ((one, other), (other, one))
        )
        order = "little" if little > legacy else "legacy" if legacy > little or not len(one) else ""
    if order not in ("little", "legacy"):
        reason = f"it is of byte order {order!r}" if order else "its byte order cannot be told"
        reason += ": its header should say endianness=little, or legacy for the upper half first"
        raise EventFormatError(path, 0, reason, "byte")
    return (other, one) if order == "little" else (one, other)


def _reason(why: int, word: int, size: tuple[int, int]) -> str:
    if why == OFF:
        return f"an event lies off the sensor of {pixels(size)}"
    if why == BACK:
        return "the clock falls: data were lost or damaged here"
    return f"the word {word:#x} is of no known type: the file is damaged"


def read_dat(path: str | Path, size: tuple[int, int] | None = None) -> Events:
    """Events of a DAT file; see `parse_dat`, and DataError if it cannot be read."""
    return parse_dat(read_bytes(path), str(path), size)


def parse_dat(raw: bytes, path: str = "", size: tuple[int, int] | None = None) -> Events:
    """Events of a DAT recording of changes ("CD"), its clock of 32 bits also over its end. One that
    names no version is of version 1, unless it has bits that only version 2 has. `size` and errors
    as `parse_raw`."""
    words, at = _header(raw, path) if raw[:2] == b"% " else ({}, 0)
    size = size or _sensor(words, path) or (SIDE, SIDE)
    if (version := words.get("version", "")) not in ("", "1", "2"):
        reason = f"it is of version {version!r} of DAT, and 1 and 2 can be read: convert it"
        raise EventFormatError(path, 0, reason, "byte")
    if at:  # a file without a header has no such bytes either
        _check_kind(raw, at, path)
        at += 2
    pair = records(raw, at, np.dtype([("t", "<u4"), ("place", "<u4")]), path)
    place = pair["place"].astype(np.int64)
    if version == "2" or (not version and (place & NEW_BITS).any()):
        x, y, p = place & 0x3FFF, place >> 14 & 0x3FFF, place >> 28
    else:
        x, y, p = place & 0x1FF, place >> 9 & 0xFF, place >> 17

    def fail(i: int, reason: str) -> None:
        raise EventFormatError(path, at + 8 * i, reason, "byte")

    t_us = unwrapped(pair["t"], 32, fail)
    return checked(path, t_us, x, y, p, size, lambda i: at + 8 * i, "byte")


def _check_kind(raw: bytes, at: int, path: str) -> None:
    """EventFormatError unless the bytes from `at` on say that changes follow, of 8 bytes each."""
    if len(raw) < at + 2:
        reason = "the file was cut before its first event: fetch it again"
        raise EventFormatError(path, len(raw), reason, "byte")
    kind, length = raw[at], raw[at + 1]
    if kind not in (0, 12) or length != 8:
        reason = f"it holds events of type {kind} and {length} bytes, expected type 0 or 12, 8"
        raise EventFormatError(path, at, reason, "byte")


def sensor(path: str | Path) -> tuple[int, int] | None:
    """(H, W) as the header of a .raw or .dat file says it, None if it does not. Errors:
    EventFormatError if it is damaged."""
    with open(path, "rb") as file:
        raw = file.read(HEAD)
    return _sensor(_header(raw, str(path))[0], str(path)) if raw[:2] == b"% " else None


def _header(raw: bytes, path: str) -> tuple[dict[str, str], int]:
    """(what the lines "% name value" say, names in lower case, byte after them)."""
    at, words = 0, {}
    while raw[at : at + 2] == b"% ":
        end = raw.find(b"\n", at, at + HEAD)
        if end < 0:
            raise EventFormatError(path, at, "the header does not end: the file was cut", "byte")
        name, _, value = raw[at + 2 : end].decode("ascii", "replace").strip().partition(" ")
        at = end + 1
        if name.lower() == "end":
            break
        words[name.lower()] = value.strip()
    if not at:
        reason = "it does not begin with '% ' as Prophesee's files do: it is no such recording"
        raise EventFormatError(path, 0, reason, "byte")
    return words, at


def _encoding(words: dict[str, str]) -> str:
    """One of WIDTH, another word of the header, or "" where it says nothing."""
    name = words.get("format", "").partition(";")[0] or words.get("evt", "")
    return NAMES.get(name, name)


def _sensor(words: dict[str, str], path: str) -> tuple[int, int] | None:
    text = f"width={words.get('width')};height={words.get('height')};{words.get('format', '')}"
    if found := re.fullmatch(r"(\d{1,9})x(\d{1,9})", words.get("geometry", "")):
        W, H = map(int, found.groups())
        return check_size((H, W), path, 0)
    sides = [re.search(rf"{side}=(\d{{1,9}})", text) for side in ("height", "width")]
    if not all(sides):
        return None
    H, W = (int(found[1]) for found in sides if found)
    return check_size((H, W), path, 0)
