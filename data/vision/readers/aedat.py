"""AEDAT 1.0, 2.0, 3.0 and 3.1 of jAER and cAER -> events.

1.0 and 2.0: lines of "#", then 6 or 8 bytes for each event, big-endian: address, of 16 or 32 bits,
and time in us. What an address means depends on the chip, which a line "# AEChip:" names. 3.0 and
3.1: lines of "#" (in 3.1 to "#!END-HEADER"), then packets, little-endian: a header of 28 bytes and
events of 8 bytes: place and polarity, time in us; rows count from the bottom in 3.0 and from the
top in 3.1.
Source: https://docs.inivation.com/software/software-advanced-usage/file-formats (AEDAT 1.0, 2.0,
3.0, 3.1); the addresses as jAER has them.

jAER counts rows from the bottom and columns of its chips from the right; ours begin at the top
left. Legend: n events; `size` is (height, width) in pixels.
"""

import re
from pathlib import Path

import numpy as np

from ....errors import EventFormatError
from ...events import Events
from .common import LATE_US, checked, read_bytes, records, unwrapped

HEAD = 1 << 14  # bytes of a file in which its chip is named
CHIPS = {"DVS128": (128, 128), "DAVIS240": (180, 240), "DAVIS346": (260, 346)}
END = b"#!END-HEADER\r\n"
PACKET = np.dtype(
    [
        *(("type", "<i2"), ("source", "<i2"), ("size", "<i4"), ("offset", "<i4")),
        *(("overflow", "<i4"), ("capacity", "<i4"), ("number", "<i4"), ("valid", "<i4")),
    ]
)
PAIR, ADDRESS_1 = [("data", "u4"), ("t", "u4")], [("data", "u2"), ("t", "u4")]
SPECIAL, POLARITY = 0, 1  # types of packets: signals, such as a new clock, and events


def read_aedat(path: str | Path, size: tuple[int, int] | None = None) -> Events:
    """Events of an .aedat file; see `parse_aedat`, and DataError if it cannot be read."""
    return parse_aedat(read_bytes(path), str(path), size)


def parse_aedat(raw: bytes, path: str = "", size: tuple[int, int] | None = None) -> Events:
    """Events of an AEDAT 1.0, 2.0, 3.0 or 3.1 recording in its order, times as its clock says, also
    over its end; special events, frames and motion data are left out.

    `size`: (H, W) of the sensor, None: as the header's chip has it. Errors: EventFormatError that
    names the byte where a record is cut, off the sensor or impossible, or the clock falls by over
    10 ms (in 3.x: and no signal comes between).
    """
    version = re.match(rb"#!AER-DAT([\d.]{1,8})", raw)
    said = version[1].decode() if version else ""
    if said in ("1.0", "2.0"):
        return _addresses(raw, path, size, said)
    if said in ("3.0", "3.1"):
        return _packets(raw, path, size, said)
    what = f"AEDAT {said}" if said else "no line #!AER-DAT"
    reason = f"its header says {what}, and 1.0, 2.0, 3.0 and 3.1 can be read"
    raise EventFormatError(path, 0, f"{reason} (4.0 is an .aedat4 file)", "byte")


def sensor(path: str | Path) -> tuple[int, int] | None:
    """(H, W) of the chip that the header of an .aedat file names, None if it names none we know."""
    with open(path, "rb") as file:
        chip = _chip(file.read(HEAD))
    return CHIPS.get(chip)


def _chip(raw: bytes) -> str:
    """The chip that a line of the header names: one of CHIPS, or ""."""
    for line in re.findall(rb"^#[^\n]*(?:AEChip|Source)[^\n]*", raw[:HEAD], re.MULTILINE):
        for name in CHIPS:
            if name in line.decode("ascii", "replace").upper():
                return name
    return ""


def _addresses(raw: bytes, path: str, size: tuple[int, int] | None, version: str) -> Events:
    """Events of version 1.0 or 2.0."""
    at = _end_of_lines(raw)
    if re.fullmatch(rb"#[\x09\x20-\x7e]*\r?", raw[at:]):  # in 1.0 that would be addresses too
        raise EventFormatError(path, at, "the header does not end: the file was cut", "byte")
    kind, step = (ADDRESS_1, 6) if version == "1.0" else (PAIR, 8)
    pair = records(raw, at, np.dtype(kind).newbyteorder(">"), path)
    address = pair["data"].astype(np.int64)
    chip = _chip(raw[:at]) or "DVS128"
    H, W = CHIPS[chip]
    if version == "1.0" and chip != "DVS128":
        reason = f"its header names a {chip}, whose addresses do not fit into the 16 bits of 1.0"
        raise EventFormatError(path, 0, reason, "byte")
    if chip == "DVS128":
        event, strange = address >> 15 == 0, address >> 16 != 0  # bit 15: a signal from outside
        x, y, p = W - 1 - (address >> 1 & 127), H - 1 - (address >> 8 & 127), 1 - (address & 1)
    else:  # bit 31: a sample of the image or of motion, bit 10: a signal from outside
        event, strange = (address >> 31 | address >> 10 & 1) == 0, address < 0
        x, y = W - 1 - (address >> 12 & 1023), H - 1 - (address >> 22 & 511)
        p = address >> 11 & 1
    if strange.any():
        i = int(strange.argmax())
        reason = f"the address {address[i]:#x} is none of a {chip}"
        reason += ": no line '# AEChip:' names it"
        raise EventFormatError(path, at + step * i, reason, "byte")

    def place(i: int) -> int:
        return at + step * int(np.flatnonzero(event)[i])

    def fail(i: int, reason: str) -> None:
        raise EventFormatError(path, place(i), reason, "byte")

    t_us = unwrapped(pair["t"][event], 32, fail)
    parts = (part[event] for part in (x, y, p))
    return checked(path, t_us, *parts, size or (H, W), place, "byte")


def _end_of_lines(raw: bytes) -> int:
    """The byte after the lines of "#" at the beginning."""
    at = 0
    while line := re.compile(rb"#[\x09\x20-\x7e]*\r?\n").match(raw, at):
        at = line.end()
    return at


def _packets(raw: bytes, path: str, size: tuple[int, int] | None, version: str) -> Events:
    """Events of version 3.0 or 3.1."""
    # in 3.0 lines go on as long as one begins with "#", which is no type of a packet
    at = _end_of_lines(raw) if version == "3.0" else raw.find(END) + len(END)
    if version == "3.1" and at < len(END):
        reason = "its header has no end, #!END-HEADER: the file was cut, fetch it again"
        raise EventFormatError(path, len(raw), reason, "byte")
    chip = CHIPS.get(_chip(raw[:at]))
    size = size or chip
    H, _ = chip or size or (0, 0)
    if version == "3.0" and not H:
        reason = "its rows count from the bottom, and no line '#Source' names a chip of known size"
        raise EventFormatError(path, 0, f"{reason}: give the sensor's", "byte")
    pieces, starts, n, resets = [np.empty((2, 0), np.int64)], [], 0, [0]
    while at < len(raw):
        head = _packet(raw, at, path)
        at += PACKET.itemsize
        if head["type"] == POLARITY:
            pair = np.frombuffer(raw, np.dtype(PAIR).newbyteorder("<"), head["number"], at)
            clock_us = pair["t"].astype(np.int64) | int(head["overflow"]) << 31
            pieces.append(np.stack([pair["data"].astype(np.int64), clock_us]))
            starts.append(at + 8 * np.arange(len(pair)))
            n += len(pair)
        elif head["type"] == SPECIAL:
            resets.append(n)
        at += int(head["size"]) * int(head["capacity"])
    data, t_us = np.concatenate(pieces, axis=1)
    valid = data & 1 == 1
    where = np.concatenate([*starts, np.empty(0, np.int64)])[valid]
    back = np.diff(t_us, prepend=0) < -LATE_US
    back[[k for k in resets if k < n]] = False  # the sensor says so when its clock begins anew
    if back.any():
        i = int(back.argmax())
        reason = f"the time falls to {t_us[i]} us: the clock was reset or damaged"
        raise EventFormatError(path, int(np.concatenate(starts)[i]), reason, "byte")
    x, y, p = data >> 17 & 0x7FFF, data >> 2 & 0x7FFF, data >> 1 & 1
    if version == "3.0":
        y = H - 1 - y
    parts = (part[valid] for part in (t_us, x, y, p))
    return checked(path, *parts, size, lambda i: int(where[i]), "byte")


def _packet(raw: bytes, at: int, path: str) -> np.void:
    """The header of the packet at byte `at`, which lies whole in the file."""
    if len(raw) - at < PACKET.itemsize:
        reason = "the header of a packet is cut: the file was cut, fetch it again"
        raise EventFormatError(path, at, reason, "byte")
    head = np.frombuffer(raw, PACKET, 1, at)[0]
    length = int(head["size"]) * int(head["capacity"])
    if not (head["size"] >= 0 and 0 <= head["number"] <= head["capacity"]):
        raise EventFormatError(path, at, "the header of a packet makes no sense", "byte")
    if head["type"] == POLARITY and (head["size"], head["offset"]) != (8, 4):
        reason = f"a packet has events of {head['size']} bytes, expected 8"
        raise EventFormatError(path, at, reason, "byte")
    if head["type"] == POLARITY and head["overflow"] < 0:
        raise EventFormatError(path, at, "a packet has a negative time", "byte")
    if length > len(raw) - at - PACKET.itemsize:
        reason = f"a packet of {length} bytes goes on after the end: the file was cut or damaged"
        raise EventFormatError(path, at, reason, "byte")
    return head
