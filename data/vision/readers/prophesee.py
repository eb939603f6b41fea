"""Prophesee's files -> events: EVT2 and EVT3 of .raw, and .dat.

All begin with lines "% name value". EVT2: words of 32 bits, EVT3: words of 16 bits, little-endian,
whose upper 4 bits say what they are; a time, a row or a column holds until the next one. DAT:
records of a time and an address, 32 bits each.
Source: https://docs.prophesee.ai/stable/data/encoding_formats (EVT 2.0, EVT 3.0) and
https://docs.prophesee.ai/stable/data/file_formats (RAW, DAT).

Legend: n events, N words; `size` is (height, width) in pixels.
"""

import re
from pathlib import Path

import numpy as np

from ....errors import EventFormatError
from ....kernels.cpu.compiled import compiled
from ...events import Events
from .common import SIDE, check_size, checked, read_bytes, records, unwrapped

HEAD = 1 << 14  # bytes of a file in which its header ends
FINE, OFF, BACK, UNKNOWN = range(4)  # what a decoder says of the word at which it stopped
NAMES = {"2.0": "evt2", "EVT2": "evt2", "3.0": "evt3", "EVT3": "evt3"}


@compiled()
def _evt2(
    word_N: np.ndarray,  # uint32
    H: int,
    W: int,
    t_us: np.ndarray,  # int64 (N,), where the events go; so x, y int16 and p int8
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
            column, row = word >> 11 & 2047, word & 2047
            if column >= W or row >= H:
                return n, i, OFF
            t_us[n] = (turns << 34) + (high << 6) + (word >> 22 & 63)
            x[n], y[n], p[n] = column, row, kind
            n += 1
        elif kind == 8:
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
    """Events of an EVT2 or EVT3 file; see `parse_raw`, and DataError if it cannot be read."""
    return parse_raw(read_bytes(path), str(path), size)


def parse_raw(raw: bytes, path: str = "", size: tuple[int, int] | None = None) -> Events:
    """Events of an EVT2 or EVT3 recording in its order, t_us as the sensor's clock says, also over
    its end; words before the first time and row are left out, as their maker's decoder does.

    `size`: (H, W) of the sensor, None: as the header says, else 2048 x 2048. Errors:
    EventFormatError that names the byte of a word that is cut, unknown, or off the sensor, or
    whose clock falls, and of a header that names neither format.
    """
    words, at = _header(raw, path)
    size = size or _sensor(words, path) or (SIDE, SIDE)
    name = _encoding(words)
    if name not in ("evt2", "evt3"):
        said = f"encoding {name!r}" if name else "no encoding"
        reason = f"its header names {said}, and EVT2 and EVT3 can be read: convert it to one"
        raise EventFormatError(path, 0, reason, "byte")
    word_N = records(raw, at, np.dtype("<u4" if name == "evt2" else "<u2"), path)
    most = len(word_N) if name == "evt2" else _most_of_evt3(word_N)
    parts = [np.empty(most, d) for d in (np.int64, np.int16, np.int16, np.int8)]
    decode = _evt2 if name == "evt2" else _evt3
    n, stop, why = decode(word_N, *size, *parts)
    if why != FINE:
        reason = _reason(why, int(word_N[stop]), size)
        raise EventFormatError(path, at + stop * word_N.itemsize, reason, "byte")
    return Events(*(part if n == most else part[:n].copy() for part in parts))


def _reason(why: int, word: int, size: tuple[int, int]) -> str:
    if why == OFF:
        return f"an event lies off the sensor of {size[1]} x {size[0]} pixels"
    if why == BACK:
        return "the clock falls: data were lost or damaged here"
    return f"the word {word:#x} is of no known type: the file is damaged"


def read_dat(path: str | Path, size: tuple[int, int] | None = None) -> Events:
    """Events of a DAT file; see `parse_dat`, and DataError if it cannot be read."""
    return parse_dat(read_bytes(path), str(path), size)


def parse_dat(raw: bytes, path: str = "", size: tuple[int, int] | None = None) -> Events:
    """Events of a DAT recording of changes ("CD"), its clock of 32 bits also over its end. `size`
    and errors as `parse_raw`."""
    words, at = _header(raw, path)
    size = size or _sensor(words, path) or (SIDE, SIDE)
    if (version := words.get("version", "2")) != "2":  # whose addresses have other bits
        reason = f"it is of version {version!r} of DAT, and 2 can be read: convert it"
        raise EventFormatError(path, 0, reason, "byte")
    if len(raw) < at + 2:
        reason = "the file was cut before its first event: fetch it again"
        raise EventFormatError(path, len(raw), reason, "byte")
    kind, length = raw[at], raw[at + 1]
    if kind not in (0, 12) or length != 8:
        reason = f"it holds events of type {kind} and {length} bytes, expected type 0 or 12, 8"
        raise EventFormatError(path, at, reason, "byte")
    pair = records(raw, at := at + 2, np.dtype([("t", "<u4"), ("place", "<u4")]), path)
    place = pair["place"].astype(np.int64)
    x, y, p = place & 0x3FFF, place >> 14 & 0x3FFF, place >> 28

    def fail(i: int, reason: str) -> None:
        raise EventFormatError(path, at + 8 * i, reason, "byte")

    t_us = unwrapped(pair["t"], 32, fail)
    return checked(path, t_us, x, y, p, size, lambda i: at + 8 * i, "byte")


def sensor(path: str | Path) -> tuple[int, int] | None:
    """(H, W) as the header of a .raw or .dat file says it, None if it does not. Errors: DataError,
    EventFormatError."""
    with open(path, "rb") as file:
        raw = file.read(HEAD)
    return _sensor(_header(raw, str(path))[0], str(path))


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
    """ "evt2" or "evt3", another word of the header, or "" where it says nothing."""
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
