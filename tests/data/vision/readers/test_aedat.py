"""AEDAT 1.0 to 3.1: addresses by hand, agreement with tonic."""

import struct

import numpy as np
import pytest

from snndelay.data.events import Events
from snndelay.data.vision.readers.aedat import parse_aedat, read_aedat, sensor
from snndelay.errors import EventFormatError

from ....helpers_formats import aedat2, aedat3, assert_same, random_events, rows

HEAD = b"#!AER-DAT2.0\r\n# AEChip: DVS128\r\n"


def two(*pairs: tuple[int, int]) -> bytes:
    return HEAD + np.array(pairs, ">u4").tobytes()


def test_dvs128_has_rows_from_the_bottom_and_columns_from_the_right():
    raw = two((0, 7), (127 << 8 | 127 << 1 | 1, 8), (0x8000, 9))
    assert rows(parse_aedat(raw)) == [(7, 127, 127, 1), (8, 0, 0, 0)], "0x8000 is no event"


def test_agrees_with_tonic_which_has_rows_for_columns(tmp_path):
    """tonic leaves an AEDAT 2.0 as stored: x is the row from the bottom, y the column."""
    io = pytest.importorskip("tonic.io")
    path = tmp_path / "a.aedat"
    path.write_bytes(aedat2(random_events(500, 1, (128, 128)), (128, 128)))
    with path.open("rb") as file:
        start = file.read().index(b"DVS128\r\n") + 8
    raw = io.get_aer_events_from_file(str(path), 2.0, start)
    column, row = raw["address"] >> 1 & 127, raw["address"] >> 8 & 127
    want = Events(raw["timeStamp"], 127 - column, 127 - row, 1 - (raw["address"] & 1))
    assert_same(read_aedat(path), want)


@pytest.mark.parametrize(("chip", "size"), [("DAVIS240C", (180, 240)), ("DAVIS346B", (260, 346))])
def test_davis(tmp_path, chip, size):
    want, path = random_events(300, 2, size), tmp_path / "a.aedat"
    path.write_bytes(aedat2(want, size, chip))
    assert_same(read_aedat(path), want)
    assert sensor(path) == size
    frames = np.array([(1 << 31 | 5, 0), (1 << 10, 0)], ">u4").tobytes()
    path.write_bytes(aedat2(want, size, chip) + frames)
    assert_same(read_aedat(path), want)


def test_davis346_agrees_with_tonic(tmp_path):
    io, path = pytest.importorskip("tonic.io"), tmp_path / "a.aedat"
    raw = aedat2(random_events(300, 2, (260, 346)), (260, 346), "DAVIS346")
    path.write_bytes(raw.replace(b"# This is", b"# Creation time: at 0 is"))
    theirs = io.read_davis_346(str(path))[2]
    assert_same(read_aedat(path), Events(theirs["t"], theirs["x"], theirs["y"], theirs["p"]))


def test_aedat3_agrees_with_tonic(tmp_path):
    """tonic takes packets of every type for events, so there are none of another here."""
    io, path = pytest.importorskip("tonic.io"), tmp_path / "a.aedat"
    raw = aedat3(random_events(400, 5, (128, 128)))
    end = raw.index(b"END-HEADER\r\n") + 12
    path.write_bytes(raw[:end] + raw[end + 36 :])
    theirs = io.get_aer_events_from_file(str(path), 3.1, end)  # read_dvs_ibm fails on any file
    place = theirs["address"]
    x, y, p = place >> 17 & 8191, place >> 2 & 8191, place >> 1 & 1
    assert_same(read_aedat(path), Events(theirs["timeStamp"], x, y, p))


def one(*pairs: tuple[int, int]) -> bytes:
    return b"#!AER-DAT1.0\r\n" + b"".join(struct.pack(">HI", *pair) for pair in pairs)


def test_version_1_has_addresses_of_two_bytes():
    raw = one((0, 7), (127 << 8 | 127 << 1 | 1, 8), (0x8000, 9), (5 << 8 | 9 << 1, 1 << 31))
    want = [(7, 127, 127, 1), (8, 0, 0, 0), (1 << 31, 118, 122, 1)]
    assert rows(parse_aedat(raw)) == want, "0x8000 is no event"


def test_version_30_has_no_end_of_its_header_and_rows_from_the_bottom():
    end = three().index(b"END-HEADER\r\n") + 12
    packet = three(data=3 << 17 | 5 << 2 | 3)[end:]
    for source in (b"#Source 0: DVS128\r\n", b"#Source 0: DVS128\r\n#!END-HEADER\r\n"):
        raw = b"#!AER-DAT3.0\r\n#Format: RAW\r\n" + source + packet
        assert rows(parse_aedat(raw)) == [(5, 3, 127 - 5, 1)]
    unnamed = b"#!AER-DAT3.0\r\n" + packet
    assert rows(parse_aedat(unnamed, "", (30, 40))) == [(5, 3, 29 - 5, 1)]


def three(kind=1, size=8, overflow=0, capacity=1, number=1, t=5, data=1) -> bytes:
    head = struct.pack("<hhiiiiii", kind, 0, size, 4, overflow, capacity, number, number)
    return b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + head + struct.pack("<II", data, t)


def test_aedat3_clock_and_validity():
    assert parse_aedat(three(overflow=2, t=5)).t_us.tolist() == [2 * 2**31 + 5]
    assert len(parse_aedat(three(data=0))) == 0, "an event that is marked as not valid"
    assert len(parse_aedat(three(kind=2))) == 0, "a packet of another type"


def test_aedat3_clocks_fall_only_where_a_signal_comes_between():
    first, second, signal = three(t=90_000), three(t=7), three(kind=0)
    end = first.index(b"END-HEADER\r\n") + 12
    whole = first + signal[end:] + second[end:]
    assert parse_aedat(whole).t_us.tolist() == [90_000, 7]
    with pytest.raises(EventFormatError, match=f"byte {len(first) + 28}: the time falls to 7 us"):
        parse_aedat(first + second[end:], "a.aedat")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (two((0, 50_000), (0, 20_000)), "byte 40: the time falls from 50000 to 20000 us"),
        (two((1 << 20, 0)), "byte 32: the address 0x100000 is none of a DVS128"),
        (two((0, 0))[:-1], "byte 32: 7 bytes of a 8-byte record"),
        (b"#!AER-DAT1.1\r\n", "says AEDAT 1.1, and 1.0, 2.0, 3.0 and 3.1 can be read"),
        (one((0, 50_000), (0, 20_000)), "byte 20: the time falls from 50000 to 20000 us"),
        (one((0, 0))[:-1], "byte 14: 5 bytes of a 6-byte record"),
        (one().replace(b"\r\n", b"\r\n# AEChip: DAVIS240C\r\n"), "a DAVIS240, whose addresses do"),
        (b"#!AER-DAT3.0\r\n#Format: RAW\r\n", "no line '#Source' names a chip"),
        (b"hello", "no line #!AER-DAT"),
        (b"#!AER-DAT3.1\r\n", "no end, #!END-HEADER"),
        (three(size=16), "events of 16 bytes, expected 8"),
        (three(number=2), "makes no sense"),
        (three(capacity=-1), "makes no sense"),
        (three(capacity=2**31 - 1), "goes on after the end"),
        (three(overflow=-1), "a negative time"),
        (three() + b"123", "the header of a packet is cut"),
    ],
)
def test_what_is_wrong_is_named(raw, words):
    with pytest.raises(EventFormatError, match=words):
        parse_aedat(raw, "a.aedat")
