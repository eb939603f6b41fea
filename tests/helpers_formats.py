"""Recordings in every format that is read, written byte by byte from the formats' descriptions, and
damage to them.
"""

import io
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from snndelay.data.events import Events
from snndelay.errors import EventFormatError

PARTS = ("t_us", "x", "y", "p")
SIZE = (720, 1280)  # height and width of the sensor that the files below name


def random_events(n: int, seed: int, size=SIZE, longest_us: int = 40_000_000) -> Events:
    """Sorted events of a sensor, some of them in runs along a row at one time."""
    rng = np.random.default_rng(seed)
    t_us = np.sort(rng.integers(0, longest_us, n))
    x, y, p = rng.integers(0, size[1], n), rng.integers(0, size[0], n), rng.integers(0, 2, n)
    for start in range(0, n - 12, 20):  # vectors of EVT3
        run = slice(start, start + rng.integers(2, 12))
        t_us[run], y[run], p[run] = t_us[start], y[start], p[start]
        length = len(x[run])
        x[run] = np.sort(rng.choice(min(12, size[1]), length, False)) + x[start] % (size[1] - 11)
    return Events(np.sort(t_us), x, y, p)


def assert_same(got: Events, want: Events) -> None:
    """The same events in the same order."""
    for part in PARTS:
        a, b = getattr(got, part), getattr(want, part)
        assert len(a) == len(b), f"{len(a)} events instead of {len(b)}"
        assert np.array_equal(a, b), f"{part} differs first at {np.argmax(a != b)}"


def rows(events: Events) -> list[tuple[int, int, int, int]]:
    """(t_us, x, y, p) of every event."""
    return list(zip(*(getattr(events, part).tolist() for part in PARTS), strict=True))


def evt2(events: Events, size=SIZE) -> bytes:
    words, high = [], -1
    for t, x, y, p in rows(events):
        if t >> 6 != high:
            high = t >> 6
            words.append(8 << 28 | high & 0xFFFFFFF)
        words.append(p << 28 | (t & 63) << 22 | x << 11 | y)
    return _prophesee("evt 2.0", size) + np.array(words, "<u4").tobytes()


def evt21(events: Events, size=SIZE, order="little", says="") -> bytes:
    """`order`: of the whole word, or "legacy": its upper half first; `says`: what the header has
    about that."""
    words, high = [], -1
    for t, x, y, p in rows(events):
        if t >> 6 != high:
            high = t >> 6
            words.append((8 << 28 | high & 0xFFFFFFF, 0))
        upper, bit = p << 28 | (t & 63) << 22 | x // 32 * 32 << 11 | y, x % 32
        if words[-1][0] == upper and words[-1][1] < 1 << bit:  # later pixels of the same word
            words[-1] = upper, words[-1][1] | 1 << bit
        else:
            words.append((upper, 1 << bit))
    pairs = np.array(words, "<u4").reshape(-1, 2)
    head = _prophesee(f"format EVT21;height={size[0]};width={size[1]}{says}", size)
    return head + (pairs if order == "legacy" else pairs[:, ::-1]).tobytes()


def evt21_legacy(events: Events, size=SIZE) -> bytes:
    """As the IMX636 sends it."""
    return evt21(events, size, "legacy", ";endianness=legacy")


def evt3(events: Events, size=SIZE) -> bytes:
    words, all_rows, i = [], rows(events), 0
    high, low, row = -1, -1, -1
    while i < len(all_rows):
        t, x, y, p = all_rows[i]
        if t >> 12 != high:  # a sensor says its clock far more often than it wraps
            later = [*range(max(high, 0), t >> 12, 1024), t >> 12]
            high, low = t >> 12, -1
            words += [8 << 12 | clock & 4095 for clock in later]
        if t & 4095 != low:
            low = t & 4095
            words.append(6 << 12 | low)
        if y != row:
            row = y
            words.append(y)
        run = 1
        while i + run < len(all_rows):
            t_next, x_next, y_next, p_next = all_rows[i + run]
            rises = all_rows[i + run - 1][1] < x_next < x + 12
            if (t_next, y_next, p_next) != (t, y, p) or not rises:
                break
            run += 1
        if run == 1:
            words.append(2 << 12 | p << 11 | x)
        else:
            offsets = [all_rows[i + k][1] - x for k in range(run)]
            words.append(3 << 12 | p << 11 | x)
            kind = 5 if max(offsets) < 8 else 4
            words.append(kind << 12 | sum(1 << k for k in offsets))
        i += run
    return _prophesee("evt 3.0", size) + np.array(words, "<u2").tobytes()


def dat(events: Events, size=SIZE) -> bytes:
    head = (
        f"% Data file containing CD events.\n% Version 2\n% Height {size[0]}\n% Width {size[1]}\n"
    )
    body = [(t & 0xFFFFFFFF, p << 28 | y << 14 | x) for t, x, y, p in rows(events)]
    return head.encode() + b"\x0c\x08" + np.array(body, "<u4").reshape(-1, 2).tobytes()


def dat1(events: Events, size=(240, 304)) -> bytes:
    """Version 1, of the ATIS."""
    head = (
        f"% Data file containing TD events.\n% Version 1\n% Height {size[0]}\n% Width {size[1]}\n"
    )
    return head.encode() + b"\x00\x08" + dat_without_header(events)


def dat_without_header(events: Events, size=(240, 304)) -> bytes:
    body = [(t & 0xFFFFFFFF, p << 17 | y << 9 | x) for t, x, y, p in rows(events)]
    return np.array(body, "<u4").reshape(-1, 2).tobytes()


def _prophesee(line: str, size: tuple[int, int]) -> bytes:
    lines = ["camera_integrator_name Prophesee", line, f"geometry {size[1]}x{size[0]}", "end"]
    return "".join(f"% {line}\n" for line in lines).encode()


def aedat1(events: Events, size=(128, 128)) -> bytes:
    """The DVS128 as in 2.0, with addresses of 16 bits."""
    head = b"#!AER-DAT1.0\r\n# This is a raw AE data file - do not edit\r\n"
    chip = b"# AEChip: ch.unizh.ini.caviar.chip.retina.DVS128\r\n"
    body = b"".join(
        struct.pack(">HI", (127 - y) << 8 | (127 - x) << 1 | (1 - p), t)
        for t, x, y, p in rows(events)
    )
    return head + chip + body


def aedat2(events: Events, size=(128, 128), chip="DVS128") -> bytes:
    """jAER's picture: rows from the bottom, columns from the right."""
    head = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n"
    head += f"# AEChip: ch.unizh.ini.jaer.chip.retina.{chip}\r\n".encode()
    H, W = size
    body = []
    for t, x, y, p in rows(events):
        if chip == "DVS128":
            address = (H - 1 - y) << 8 | (W - 1 - x) << 1 | (1 - p)
        else:
            address = (H - 1 - y) << 22 | (W - 1 - x) << 12 | p << 11
        body.append((address, t & 0xFFFFFFFF))
    return head + np.array(body, ">u4").reshape(-1, 2).tobytes()


def aedat3(events: Events, size=(128, 128), per_packet: int = 7) -> bytes:
    """Packets of a few events, and one of another type among them."""
    out = [b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"]
    out.append(struct.pack("<hhiiiiii", 0, 1, 8, 4, 0, 1, 1, 1) + bytes(8))
    all_rows = rows(events)
    for i in range(0, len(all_rows), per_packet):
        part = all_rows[i : i + per_packet]
        out.append(struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, len(part), len(part), len(part)))
        out += [struct.pack("<II", x << 17 | y << 2 | p << 1 | 1, t) for t, x, y, p in part]
    return b"".join(out)


def aedat30(events: Events, size=(128, 128)) -> bytes:
    """3.0: no end of the header, and rows from the bottom."""
    turned = Events(events.t_us, events.x, size[0] - 1 - np.asarray(events.y), events.p)
    raw = aedat3(turned, size).replace(b"DAT3.1", b"DAT3.0", 1)
    return raw.replace(b"#!END-HEADER\r\n", b"", 1)


def plain(raw: bytes) -> bytes:
    return raw


def aedat4(
    events: Events, size=SIZE, pack=plain, start=10**15, compression=0, per_packet=11
) -> bytes:
    """Packets of a few events, each as `pack` makes it, and one of another stream among them."""
    sides = "".join(
        f'<attr key="{key}" type="int">{side}</attr>'
        for key, side in zip(("sizeY", "sizeX"), size, strict=True)
    )
    kind = '<attr key="typeIdentifier" type="string">{}</attr>'
    info = f'<node name="info" path="/mainloop/Recorder/outInfo/0/info/">{sides}</node>'
    xml = f"""<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">
    <node name="0" path="/mainloop/Recorder/outInfo/0/">{kind.format("EVTS")}{info}</node>
    <node name="1" path="/mainloop/Recorder/outInfo/1/">{kind.format("TRIG")}</node>
    </node></dv>"""
    vtable = struct.pack("<HHHHH", 10, 20, 4, 8, 16)  # compression, end of packets, description
    table = struct.pack("<iiqI", 12, compression, -1, 4)
    table += struct.pack("<I", len(xml)) + xml.encode() + bytes(4)
    body = struct.pack("<I", 20) + b"IOHE" + vtable + bytes(2) + table
    out = [b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(body)) + body]
    packets, all_rows = [(1, _packet(b"TRIG", []))], rows(events)
    for i in range(0, len(all_rows), per_packet):
        part = [
            struct.pack("<qhhB3x", t + start, x, y, p)
            for t, x, y, p in all_rows[i : i + per_packet]
        ]
        packets.append((0, _packet(b"EVTS", part)))
    for stream, packet in packets:
        packed = pack(packet)
        out.append(struct.pack("<ii", stream, len(packed)) + packed)
    return b"".join(out)


def _packet(name: bytes, elements: list[bytes]) -> bytes:
    """A FlatBuffer of one field, a vector of structs, its size before it."""
    # root at 16 | name | fields: 6 and 8 bytes, at 4 | table: fields 8 before, vector 8 after
    flat = struct.pack("<I4sHHHHiII", 16, name, 6, 8, 4, 0, 8, 8, 0)
    flat += struct.pack("<I", len(elements)) + b"".join(elements)
    return struct.pack("<I", len(flat)) + flat


def lz4(raw: bytes) -> bytes:
    """A frame of one block, in which runs of four and more equal bytes are matches."""
    out, literals, i = [], bytearray(), 0

    def put(match: int) -> None:
        n = len(literals)
        token = min(n, 15) << 4 | min(max(match - 4, 0), 15)
        out.append(bytes([token]))
        if n >= 15:
            out.append(b"\xff" * ((n - 15) // 255) + bytes([(n - 15) % 255]))
        out.append(bytes(literals))
        literals.clear()
        if match:
            out.append(b"\x01\x00")
            if match - 4 >= 15:
                out.append(b"\xff" * ((match - 19) // 255) + bytes([(match - 19) % 255]))

    while i < len(raw):
        run = 1
        while i + run < len(raw) and raw[i + run] == raw[i]:
            run += 1
        literals.append(raw[i])
        if run > 5 and i + run + 12 < len(raw):
            put(run - 1)
            i += run
        else:
            i += 1
    put(0)
    block = b"".join(out)
    frame = b"\x04\x22\x4d\x18" + bytes([1 << 6, 4 << 4, 0xC0]) + struct.pack("<I", len(block))
    return frame + block + bytes(4)


def npz(events: Events, size=SIZE) -> bytes:
    """As SpikingJelly saves them."""
    file = io.BytesIO()
    np.savez(file, **{name[0]: getattr(events, name) for name in PARTS})
    return file.getvalue()


def npy(events: Events, size=SIZE) -> bytes:
    """As tonic returns them."""
    kind = [("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", bool)]
    array = np.empty(len(events), kind)
    for name in PARTS:
        array[name[0]] = getattr(events, name)
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def text(events: Events, size=SIZE) -> bytes:
    """Seconds, as the recordings of Mueggler et al. are."""
    lines = [f"{t // 10**6}.{t % 10**6:06} {x} {y} {p}\n" for t, x, y, p in rows(events)]
    return f"{size[1]} {size[0]}\n{''.join(lines)}".encode()


def dsec(events: Events, size=SIZE) -> bytes:
    return _hdf5(events, "events", "gzip")


def metavision(events: Events, size=SIZE) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        kind = [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")]
        h5["CD/events"] = np.array([(x, y, p, t) for t, x, y, p in rows(events)], kind)
        h5.attrs["geometry"] = f"{size[1]}x{size[0]}"
    return file.getvalue()


def _hdf5(events: Events, group: str, compression: str | None) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        for name, kind in zip(PARTS, (np.uint32, np.uint16, np.uint16, np.uint8), strict=True):
            part = getattr(events, name).astype(kind)
            where = f"{group}/{name[0]}"
            h5.create_dataset(where, data=part, compression=compression if len(part) else None)
        h5["t_offset"] = np.int64(49_599_300_523)
    return file.getvalue()


def atis(events: Events, size=(34, 34)) -> bytes:
    return b"".join(bytes([x, y]) + (p << 23 | t).to_bytes(3, "big") for t, x, y, p in rows(events))


FORMATS = {  # name -> (ending, writer, size of the sensor, longest time in us)
    "atis": (".bin", atis, (34, 34), 8_000_000),
    "npz": (".npz", npz, SIZE, 40_000_000),
    "npy": (".npy", npy, SIZE, 40_000_000),
    "aedat1": (".aedat", aedat1, (128, 128), 40_000_000),
    "aedat2": (".aedat", aedat2, (128, 128), 40_000_000),
    "aedat30": (".aedat", aedat30, (128, 128), 40_000_000),
    "aedat3": (".aedat", aedat3, (128, 128), 40_000_000),
    "aedat4": (".aedat4", aedat4, SIZE, 40_000_000),
    "evt2": (".raw", evt2, SIZE, 40_000_000),
    "evt21": (".raw", evt21, SIZE, 40_000_000),
    "evt21 legacy": (".raw", evt21_legacy, SIZE, 40_000_000),
    "evt3": (".raw", evt3, SIZE, 40_000_000),
    "dat": (".dat", dat, SIZE, 40_000_000),
    "dat1": (".dat", dat1, (240, 304), 40_000_000),
    "dat without header": (".dat", dat_without_header, (240, 304), 40_000_000),
    "dsec": (".h5", dsec, SIZE, 40_000_000),
    "metavision": (".hdf5", metavision, SIZE, 40_000_000),
    "text": (".txt", text, SIZE, 40_000_000),
}


def sample(name: str, n: int, seed: int) -> tuple[bytes, Events, tuple[int, int]]:
    """(a file of a format, the events in it, (H, W))."""
    _, write, size, longest_us = FORMATS[name]
    events = random_events(n, seed, size, longest_us)
    return write(events, size), events, size


def put(path: Path, raw: bytes) -> None:
    """Gives a file another content. `write_bytes` empties it first, and then ext4 waits for the
    disk at every close, 3 ms instead of 0.01."""
    with open(path, "r+b" if path.exists() else "wb") as file:
        file.write(raw)
        file.truncate()


def mutants(base: list[bytes], n: int, seed: int = 0) -> Iterator[bytes]:
    """`n` damaged copies of the files in turn: bytes changed, put in, or taken out."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        raw = bytearray(base[i % len(base)])
        for _ in range(rng.integers(1, 5)):
            at = int(rng.integers(len(raw) + 1))
            if rng.integers(2):  # the beginning, where the headers are, as often as all the rest
                at = int(at * rng.random() ** 3)
            junk = rng.integers(0, 256, rng.integers(1, 12), np.uint8).tobytes()
            match rng.integers(5):
                case 0:
                    raw[at : at + 1] = junk[:1]
                case 1:
                    raw[at:at] = junk
                case 2:
                    del raw[at : at + len(junk)]
                case 3:
                    raw[at : at + len(junk)] = junk
                case 4 if at < len(raw):
                    raw[at] ^= 1 << int(rng.integers(8))
        yield bytes(raw)


def scattered(base: list[bytes], n: int, seed: int = 0) -> Iterator[bytes]:
    """`n` copies of the files in turn with some bytes changed, anywhere alike; every fourth cut."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        raw = bytearray(base[i % len(base)])
        for at in rng.integers(0, len(raw), rng.integers(1, 8)):
            junk = rng.bytes(rng.integers(1, 5))
            raw[at : at + len(junk)] = junk
        yield bytes(raw[: rng.integers(len(raw))] if i % 4 == 3 else raw)


def check_damaged(read: Callable[[bytes], Events], files: Iterator[bytes], size) -> dict[str, int]:
    """Every file gives valid events or an EventFormatError within it; how many did which."""
    seen = {"events": 0, "error": 0}
    for raw in files:
        try:
            read(raw).validate(size[1], size[0])
            seen["events"] += 1
        except EventFormatError as caught:
            seen["error"] += 1
            if not 0 <= (caught.offset or 0) <= len(raw):
                pytest.fail(f"there is no such place in the file: {caught}")
    return seen
