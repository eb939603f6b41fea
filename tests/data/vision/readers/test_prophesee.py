"""EVT2, EVT3 and DAT: words by hand, clocks that wrap, agreement with expelliarmus."""

import numpy as np
import pytest

from snndelay.data.events import Events
from snndelay.data.vision.readers.prophesee import parse_dat, parse_raw, read_dat, read_raw
from snndelay.errors import EventFormatError

from ....helpers_formats import PARTS, assert_same, dat, evt2, evt3, random_events, rows

EVT2, EVT3 = b"% evt 2.0\n% geometry 1280x720\n", b"% format EVT3;height=720;width=1280\n% end\n"


def words2(*words: int) -> bytes:
    return EVT2 + np.array(words, "<u4").tobytes()


def words3(*words: int) -> bytes:
    return EVT3 + np.array(words, "<u2").tobytes()


def cd(p: int, low: int, x: int, y: int) -> int:
    return p << 28 | low << 22 | x << 11 | y


@pytest.mark.parametrize(
    ("name", "write", "read"),
    [("evt2", evt2, read_raw), ("evt3", evt3, read_raw), ("dat", dat, read_dat)],
)
@pytest.mark.parametrize("n", [1, 63, 5000])
def test_agrees_with_expelliarmus(tmp_path, name, write, read, n):
    peer = pytest.importorskip("expelliarmus")
    path = tmp_path / f"a.{'dat' if name == 'dat' else 'raw'}"
    path.write_bytes(write(random_events(n, n, longest_us=90_000_000)))
    theirs = peer.Wizard(encoding=name).read(str(path))
    got = read(path)
    t_us = got.t_us if name == "evt3" else theirs["t"]
    assert_same(got, Events(t_us, theirs["x"], theirs["y"], theirs["p"]))


def test_evt3_agrees_with_expelliarmus_while_its_clock_does(tmp_path):
    """Whenever the low part of the time falls, 1.1.12 adds 4096 us, beside what the high part says:
    TIME_HIGH 1, TIME_LOW 5, then 2 and 3, are 4101 us and 12291."""
    peer, path = pytest.importorskip("expelliarmus"), tmp_path / "a.raw"
    path.write_bytes(evt3(random_events(500, 1, longest_us=4095)))
    theirs = peer.Wizard(encoding="evt3").read(str(path))
    assert_same(read_raw(path), Events(*(theirs[part[0]] for part in PARTS)))


def test_evt2_by_hand():
    raw = words2(
        cd(1, 9, 1, 1), 8 << 28 | 5, cd(1, 63, 1279, 719), 0xA << 28, 0xE << 28 | 7, 0xF << 28,
        8 << 28 | 6, cd(0, 0, 0, 0),
    )  # fmt: skip
    assert rows(parse_raw(raw)) == [(5 * 64 + 63, 1279, 719, 1), (6 * 64, 0, 0, 0)]


def test_evt3_by_hand():
    raw = words3(
        0x2000 | 4,  # an event before any clock: it has no time
        0x8001, 0x2000 | 5,  # and one before any row
        0x6002, 0x0003, 0x2800 | 7,  # t 4098, row 3, x 7, p 1
        0x3000 | 100, 0x4000 | 0b100000000001, 0x5000 | 0b10000001,  # x 100, 111, 112, 119
        0xA000, 0xE001, 0x7002, 0xF003,
        0x8001, 0x2000 | 8,  # the same clock again: its low part holds
        0x8002, 0x2000 | 9,  # a new one: it is 0
    )  # fmt: skip
    want = [(4098, x, 3, p) for x, p in ((7, 1), (100, 0), (111, 0), (112, 0), (119, 0), (8, 0))]
    assert rows(parse_raw(raw)) == [*want, (8192, 9, 3, 0)]


def test_clocks_go_on_over_their_end():
    top2, top3 = (1 << 28) - 1, 4095
    got = parse_raw(words2(8 << 28 | top2, cd(0, 63, 0, 0), 8 << 28, cd(0, 1, 0, 0)))
    assert got.t_us.tolist() == [2**34 - 1, 2**34 + 1]
    got = parse_raw(words3(0, 0x8000 | top3, 0x6FFF, 0x2000, 0x8000, 0x2000))
    assert got.t_us.tolist() == [2**24 - 1, 2**24]
    pairs = np.array([[2**32 - 1, 0], [3, 0], [2**32 - 2, 0], [4, 0]], "<u4")  # one comes late
    got = parse_dat(b"% Version 2\n\x00\x08" + pairs.tobytes())
    assert got.t_us.tolist() == [2**32 - 1, 2**32 + 3, 2**32 - 2, 2**32 + 4]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (words2(8 << 28 | 5, 8 << 28 | 4), "byte 34: the clock falls"),
        (words3(0x8005, 0x8004), "byte 44: the clock falls"),
        (words2(8 << 28, 3 << 28), "byte 34: the word 0x30000000 is of no known type"),
        (words3(0x1000), "byte 42: the word 0x1000"),
        (words2(8 << 28, cd(0, 0, 1280, 0)), "byte 34: an event lies off the sensor of 720 x 1280"),
        (words3(0x8000, 5, 0x3000 | 1275, 0x5000 | 0b100000), "byte 48: an event lies off"),
        (words2(8 << 28)[:-1], "byte 30: 3 bytes of a 4-byte record"),
        (b"% evt 4.0\n", "encoding '4.0'"),
        (b"% date today\n", "no encoding"),
        (b"\x00\x01\x02", "does not begin with '% '"),
        (b"% evt 2.0", "the header does not end"),
        (b"% evt 3.0\n% geometry 99999x720\n", "a sensor of 720 x 99999"),
    ],
)
def test_what_is_wrong_is_named(raw, words):
    with pytest.raises(EventFormatError, match=words):
        parse_raw(raw, "a.raw")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\x0c", "cut before its first event"),
        (b"\x05\x08", "type 5 and 8 bytes"),
        (b"\x0c\x08" + np.array([20_000, 0, 5_000, 0], "<u4").tobytes(), "byte 22: the time falls"),
        (
            b"\x0c\x08" + np.array([0, 2 << 28], "<u4").tobytes(),
            "byte 14: the event has polarity 2",
        ),
        (b"\x0c\x08" + np.array([0, 5000], "<u4").tobytes(), "x 5000, y 0 lies off"),
        (b"\x0c\x08123", "byte 14: 3 bytes of a 8-byte record"),
    ],
)
def test_what_is_wrong_in_dat_is_named(body, words):
    with pytest.raises(EventFormatError, match=words):
        parse_dat(b"% Version 2\n" + body, "a.dat")


def test_another_version_of_dat_is_refused():
    with pytest.raises(EventFormatError, match="of version '3' of DAT, and 1 and 2 can be read"):
        parse_dat(b"% Version 3\n\x0c\x08", "a.dat")


@pytest.mark.parametrize("head", [b"% Version 1\n\x00\x08", b"% Date 2014\n\x0c\x08", b""])
def test_old_addresses_of_dat_by_hand(head):
    """x bits 0 to 8, y 9 to 16, p 17: as Metavision reads files of version 1 and without one."""
    places = [303 | 239 << 9 | 1 << 17, 0, 511 | 255 << 9]
    raw = head + np.array([[7, places[0]], [8, places[1]], [9, places[2]]], "<u4").tobytes()
    assert rows(parse_dat(raw)) == [(7, 303, 239, 1), (8, 0, 0, 0), (9, 511, 255, 0)]
    with pytest.raises(EventFormatError, match="x 511, y 255 lies off the sensor of 240 x 304"):
        parse_dat(raw, "a.dat", (240, 304))


def test_a_file_without_a_version_may_be_of_the_new_one():
    """Bits that version 1 leaves empty say so."""
    pairs = np.array([[7, 5 | 6 << 14], [8, 1 | 700 << 14 | 1 << 28]], "<u4").tobytes()
    for head in (b"", b"% Date 2020\n\x0c\x08"):
        assert rows(parse_dat(head + pairs)) == [(7, 5, 6, 0), (8, 1, 700, 1)]
    with pytest.raises(EventFormatError, match="polarity 2"):
        parse_dat(np.array([7, 2 << 28], "<u4").tobytes(), "a.dat")


def words21(*words: int, says: str = "", order: str = "<u8") -> bytes:
    head = f"% format EVT21;height=720;width=1280{says}\n% end\n".encode()
    return head + np.array(words, np.uint64).astype(order).tobytes()


def halves(*words: int) -> list[int]:
    """The same words with their upper halves first."""
    return [(word & 0xFFFFFFFF) << 32 | word >> 32 for word in words]


def test_evt21_by_hand():
    words = (
        cd(1, 9, 0, 1) << 32 | 1,  # before any clock
        (8 << 28 | 5) << 32,
        cd(1, 63, 1248, 719) << 32 | 1 | 1 << 5 | 1 << 31,
        cd(0, 0, 64, 2) << 32,  # no pixel
        0xA << 60 | 1 << 54, 0xE << 60, 0xF << 60,
        (8 << 28 | 6) << 32, cd(0, 2, 32, 0) << 32 | 2,
    )  # fmt: skip
    want = [(5 * 64 + 63, x, 719, 1) for x in (1248, 1253, 1279)] + [(6 * 64 + 2, 33, 0, 0)]
    assert rows(parse_raw(words21(*words))) == want
    assert rows(parse_raw(words21(*words, says=";endianness=little"))) == want
    assert rows(parse_raw(words21(*halves(*words)))) == want
    legacy = words21(*halves(*words), says=";endianness=legacy")
    assert rows(parse_raw(legacy)) == want
    assert rows(parse_raw(legacy.replace(b"format EVT21;", b"evt 2.1\n% x "))) == want


def test_bytes_of_evt21_are_as_documented():
    """0x0102030405060708 is sent as 04 03 02 01 08 07 06 05, or as 08 07 06 05 04 03 02 01."""
    word, clock = cd(1, 2, 32, 3) << 32 | 0x05060708, 8 << 60
    big = np.array([clock, word], ">u8").tobytes()
    legacy = b"".join(big[k : k + 4][::-1] for k in range(0, 16, 4))
    little = b"".join(big[k : k + 8][::-1] for k in range(0, 16, 8))
    head = b"% format EVT21;height=720;width=1280;endianness="
    one, other = (
        parse_raw(head + name + b"\n% end\n" + raw)
        for name, raw in ((b"legacy", legacy), (b"little", little))
    )
    assert rows(one) == rows(other) and len(one) == bin(0x05060708).count("1")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (words21((8 << 28 | 5) << 32, (8 << 28 | 4) << 32), "byte 51: the clock falls"),
        (words21(8 << 60, 3 << 60), "byte 51: the word 0x30000000 is of no known type"),
        (words21(8 << 60, cd(0, 0, 1256, 0) << 32 | 1 << 31), "off the sensor of 720 x 1280"),
        (words21(8 << 60)[:-3], "5 bytes of a 8-byte record"),
        (words21(1 << 60), "its byte order cannot be told: its header should say endianness="),
        (words21(8 << 60, says=";endianness=big"), "of byte order 'big'"),
    ],
)
def test_what_is_wrong_in_evt21_is_named(raw, reason):
    with pytest.raises(EventFormatError, match=reason):
        parse_raw(raw, "a.raw")
