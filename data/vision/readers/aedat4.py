"""AEDAT 4.0, what iniVation's DV writes -> events.

A line #!AER-DAT4.0, a FlatBuffer that says how packets are compressed and describes their streams
in XML, then packets: number of the stream and bytes, 32 bits each, and a FlatBuffer, compressed on
its own. One of events has the identifier EVTS and records of time (us, 64 bits), x, y, polarity.
Source: https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-4.0.html;
LZ4: https://github.com/lz4/lz4/tree/dev/doc; FlatBuffers: https://flatbuffers.dev/internals.

Legend: n events; `size` is (height, width) in pixels.
"""

import importlib
import re
import struct
from pathlib import Path

import numpy as np

from ....errors import DataError, EventFormatError
from ....kernels.cpu.compiled import compiled
from ...events import Events
from .common import check_size, checked, read_bytes

MAGIC = b"#!AER-DAT4.0\r\n"
HEAD = 1 << 18  # bytes of a file in which its description ends
EVENT = np.dtype(
    {
        "names": ["t", "x", "y", "p"],
        "formats": ["<i8", "<i2", "<i2", "u1"],
        "offsets": [0, 8, 10, 12],
        "itemsize": 16,
    }
)
LZ4_MAGIC, ZSTD_MAGIC = b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd"


@compiled()
def _lz4(
    raw: np.ndarray,  # uint8, the file
    at: np.int64,  # first byte of the block
    end: int,  # byte after it
    out: np.ndarray,  # uint8: of all blocks of the frame
    n: np.int64,  # bytes that are in it
    writes: bool,  # False: only count
) -> np.int64 | int:
    """Bytes that `out` then holds; -1: the block is damaged."""
    while at < end:
        token = raw[at]
        at += 1
        length = np.int64(token >> 4)
        if length == 15:
            while at < end and raw[at] == 255:
                length += 255
                at += 1
            if at == end:
                return -1
            length += raw[at]
            at += 1
        if length > end - at:
            return -1
        if writes:
            for i in range(length):
                out[n + i] = raw[at + i]
        at += length
        n += length
        if at == end:  # the last sequence has no match
            return n
        if end - at < 2:
            return -1
        back = np.int64(raw[at]) | np.int64(raw[at + 1]) << 8
        at += 2
        if back == 0 or back > n:
            return -1
        length = np.int64(token & 15)
        if length == 15:
            while at < end and raw[at] == 255:
                length += 255
                at += 1
            if at == end:
                return -1
            length += raw[at]
            at += 1
        length += 4
        if writes:
            for i in range(length):  # byte by byte: a match may reach into what it writes
                out[n + i] = out[n + i - back]
        n += length
    return -1


def read_aedat4(path: str | Path, size: tuple[int, int] | None = None) -> Events:
    """Events of an .aedat4 file; see `parse_aedat4`, and DataError if it cannot be read."""
    return parse_aedat4(read_bytes(path), str(path), size)


def parse_aedat4(raw: bytes, path: str = "", size: tuple[int, int] | None = None) -> Events:
    """Events of the first stream of events, in its order. The file's clock starts anywhere, ours
    with the earliest event.

    `size`: (H, W) of the sensor, None: as the description says, else 2048 x 2048. Errors:
    EventFormatError that names the byte of the packet that is cut or damaged, DataError if packets
    are compressed by zstd and there is no package for it.
    """
    at, end, xml = _description(raw, path)
    size = size or _sensor(xml, path)
    stream, pieces, starts = None, [np.empty(0, EVENT)], [0]
    while at < end:
        if end - at < 8:
            reason = "the header of a packet is cut: the file was cut, fetch it again"
            raise EventFormatError(path, at, reason, "byte")
        number, length = struct.unpack_from("<ii", raw, at)
        if not 0 < length <= end - at - 8:
            reason = f"a packet of {length} bytes does not fit the file: it was cut or damaged"
            raise EventFormatError(path, at, reason, "byte")
        try:
            packet = _unpacked(raw, at + 8, at + 8 + length)
            if packet[8:12] == b"EVTS" and stream in (None, number):
                stream = number
                pieces.append(_records(packet))
                starts.append(at)
        except ImportError as error:
            reason = f"reading {path or 'it'} needs a package for zstd: pip install zstandard"
            raise DataError(reason) from error
        except (ValueError, IndexError, struct.error) as error:
            raise EventFormatError(path, at, f"the packet is damaged ({error})", "byte") from error
        at += 8 + length
    event = np.concatenate(pieces)
    last = np.cumsum([len(piece) for piece in pieces])
    t_us = np.clip(event["t"], -(2**61), 2**61)
    t_us = t_us - t_us.min(initial=2**61)
    parts = (event[name] for name in "xyp")

    def place(i: int) -> int:
        return starts[int(np.searchsorted(last, i, "right"))]

    return checked(path, t_us, *parts, size, place, "byte")


def sensor(path: str | Path) -> tuple[int, int] | None:
    """(H, W) as the description of a file says it, else None. Errors: EventFormatError."""
    with open(path, "rb") as file:
        raw = file.read(HEAD)
    return _sensor(_description(raw, str(path))[2], str(path))


def _description(raw: bytes, path: str) -> tuple[int, int, bytes]:
    """(first byte of the packets, byte after them, XML)."""
    if not raw.startswith(MAGIC):
        raise EventFormatError(path, 0, "it does not begin with #!AER-DAT4.0", "byte")
    at = len(MAGIC)
    try:
        (length,) = struct.unpack_from("<I", raw, at)
        head = raw[at : at + 4 + length]
        if len(head) < 4 + length:
            raise ValueError("it is cut")
        table = 4 + _u32(head, 4)
        spot = _field(head, table, 1)
        (ending,) = struct.unpack_from("<q", head, spot) if spot else (-1,)
        xml = b""
        if spot := _field(head, table, 2):
            text = spot + _u32(head, spot)
            xml = head[text + 4 : text + 4 + _u32(head, text)]
    except (struct.error, ValueError) as error:
        reason = f"its description is cut or damaged ({error}): fetch it again"
        raise EventFormatError(path, at, reason, "byte") from error
    begin = at + 4 + length
    return begin, min(ending, len(raw)) if ending >= begin else len(raw), xml


def _sensor(xml: bytes, path: str) -> tuple[int, int] | None:
    text = xml.decode("ascii", "replace")
    text = text[max(text.find("EVTS"), 0) :]
    sides = [re.search(rf'"{side}"[^>]*>(\d{{1,9}})<', text) for side in ("sizeY", "sizeX")]
    if not all(sides):
        return None
    H, W = (int(found[1]) for found in sides if found)
    return check_size((H, W), path, len(MAGIC))


def _u32(raw: bytes, at: int) -> int:
    return struct.unpack_from("<I", raw, at)[0]


def _field(raw: bytes, table: int, index: int) -> int:
    """Where a field of the table lies, 0: it is left out."""
    vtable = table - struct.unpack_from("<i", raw, table)[0]
    if vtable < 0:
        raise ValueError("a table has no fields")
    if 4 + 2 * index >= struct.unpack_from("<H", raw, vtable)[0]:
        return 0
    offset = struct.unpack_from("<H", raw, vtable + 4 + 2 * index)[0]
    return table + offset if offset else 0


def _records(packet: bytes) -> np.ndarray:
    """The events of a FlatBuffer with its size before it."""
    table = 4 + _u32(packet, 4)
    spot = _field(packet, table, 0)
    if not spot:
        return np.empty(0, EVENT)
    vector = spot + _u32(packet, spot)
    n = _u32(packet, vector)
    if n * EVENT.itemsize > len(packet) - vector - 4:
        raise ValueError(f"it claims {n} events")
    return np.frombuffer(packet, EVENT, n, vector + 4)


def _unpacked(raw: bytes, at: int, end: int) -> bytes:
    """A packet as it was before it was compressed."""
    magic = raw[at : at + 4]
    if magic == LZ4_MAGIC:
        return _lz4_frame(raw, at + 4, end)
    if magic == ZSTD_MAGIC:
        zstandard = importlib.import_module("zstandard")
        try:
            return zstandard.ZstdDecompressor().decompressobj().decompress(raw[at:end])
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error
    return raw[at:end]


def _lz4_frame(raw: bytes, at: int, end: int) -> bytes:
    flags = raw[at]
    if flags >> 6 != 1 or flags & 1:  # another version, or a dictionary
        raise ValueError(f"flags {flags:#x} of LZ4")
    at += 3 + (8 if flags & 8 else 0)
    blocks, n, byte_N = [], 0, np.frombuffer(raw, np.uint8)
    nothing = np.empty(0, np.uint8)
    while at + 4 <= end and (length := _u32(raw, at)):
        plain, length, at = length >> 31, length & 0x7FFFFFFF, at + 4
        if length > end - at:
            raise ValueError("a block of LZ4 is cut")
        after = n + length if plain else _lz4(byte_N, at, at + length, nothing, n, False)
        if after < 0:
            raise ValueError("a block of LZ4 is damaged")
        blocks.append((plain, at, at + length, n))
        n, at = after, at + length + (4 if flags & 16 else 0)
    if at + 4 > end:
        raise ValueError("LZ4 has no end")
    out = np.empty(n, np.uint8)
    for plain, begin, stop, before in blocks:
        if plain:
            out[before : before + stop - begin] = byte_N[begin:stop]
        else:
            _lz4(byte_N, begin, stop, out, before, True)
    return out.tobytes()
