"""AEDAT 4.0: packets by hand, LZ4, agreement with the package aedat."""

import os
import struct
import sys

import numpy as np
import pytest

from snndelay.data.events import Events
from snndelay.data.vision.readers.aedat4 import parse_aedat4, read_aedat4
from snndelay.errors import DataError, EventFormatError

from ....helpers_formats import aedat4, assert_same, lz4, plain, random_events


def from_first(events: Events) -> Events:
    return Events(events.t_us - events.t_us.min(), events.x, events.y, events.p)


@pytest.mark.parametrize("n", [1, 11, 500])
def test_lz4_packets(n):
    want = random_events(n, n)
    assert_same(parse_aedat4(aedat4(want, pack=lz4, compression=1)), from_first(want))


def test_lz4_that_repeats_reaches_into_what_it_writes():
    want = Events(*(np.full(1000, value) for value in (5, 7, 9, 1)))
    raw = aedat4(want, pack=lz4, compression=1)
    assert_same(parse_aedat4(raw), from_first(want))


@pytest.mark.parametrize(("pack", "compression"), [(plain, 0), (lz4, 1)])
def test_agrees_with_the_package_aedat(tmp_path, pack, compression):
    peer = pytest.importorskip("aedat")
    path = tmp_path / "a.aedat4"
    path.write_bytes(aedat4(random_events(300, 1), pack=pack, compression=compression))
    packets = [packet["events"] for packet in peer.Decoder(path) if packet["stream_id"] == 0]
    theirs = np.concatenate(packets)
    want = Events(theirs["t"].astype(np.int64), theirs["x"], theirs["y"], theirs["on"])
    assert_same(read_aedat4(path), from_first(want))


def test_zstd_needs_a_package(tmp_path, monkeypatch):
    raw = aedat4(random_events(5, 0), pack=lambda packet: b"\x28\xb5\x2f\xfd" + packet)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(DataError, match="pip install zstandard"):
        parse_aedat4(raw, "a.aedat4")


def test_zstd(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    want = random_events(100, 0)
    raw = aedat4(want, pack=zstandard.ZstdCompressor().compress, compression=3)
    assert_same(parse_aedat4(raw), from_first(want))


def test_the_table_at_the_end_is_no_packet():
    want = random_events(30, 0)
    raw = aedat4(want)
    at = raw.index(struct.pack("<q", -1))
    raw = raw[:at] + struct.pack("<q", len(raw)) + raw[at + 8 :] + b"a table of packets"
    assert_same(parse_aedat4(raw), from_first(want))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw[:20], "description is cut"),
        (lambda raw: raw[:-1], "does not fit the file"),
        (lambda raw: raw + b"123", "header of a packet is cut"),
        (lambda raw: raw + struct.pack("<ii", 0, -5), "a packet of -5 bytes"),
        (lambda raw: raw + struct.pack("<ii", 0, 2**31 - 1), "a packet of 2147483647 bytes"),
        (lambda raw: b"#!AER-DAT9" + raw[10:], "does not begin with #!AER-DAT4.0"),
    ],
)
def test_what_is_wrong_is_named(change, words):
    with pytest.raises(EventFormatError, match=words):
        parse_aedat4(change(aedat4(random_events(30, 0))), "a.aedat4")


def test_damaged_lz4_never_writes_outside():
    base, rng, seen = lz4(os.urandom(50) + bytes(400)), np.random.default_rng(0), [0, 0]
    for _ in range(3000):
        packet = bytearray(base)
        for _ in range(rng.integers(1, 4)):
            packet[int(rng.integers(7, len(packet)))] = int(rng.integers(256))
        raw = aedat4(random_events(3, 0), pack=lambda _, packet=packet: bytes(packet))
        try:
            seen[0] += len(parse_aedat4(raw)) >= 0
        except EventFormatError:
            seen[1] += 1
    assert min(seen) > 100, f"the mutants test one side only: {seen}"
