import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snndelay.data.events import Events
from snndelay.data.vision.atis import (
    OVERFLOW_US,
    atis_bytes,
    extent,
    parse_atis,
    read_atis,
    write_atis,
)
from snndelay.errors import DataError, EventFormatError

PARTS = ("t_us", "x", "y", "p")
EVENT = st.tuples(
    st.integers(0, 12_000_000), st.integers(0, 255), st.integers(0, 239), st.integers(0, 1)
)


def events(rows) -> Events:
    """Events of rows (t_us, x, y, p)."""
    return Events(*(np.array([row[i] for row in rows], np.int64) for i in range(4)))


def random_events(n: int, seed: int, longest_us: int = 300_000, size=(34, 34)) -> Events:
    rng = np.random.default_rng(seed)
    t_us = np.sort(rng.integers(0, longest_us, n))
    x, y = rng.integers(0, size[1], n), rng.integers(0, size[0], n)
    return Events(t_us, x, y, rng.integers(0, 2, n))


def packed(t_us: int, x: int, y: int, p: int) -> bytes:
    """One record, written from the format's description, not with our writer."""
    return bytes([x, y]) + (p << 23 | t_us).to_bytes(3, "big")


def assert_same(got: Events, want: Events) -> None:
    for part in PARTS:
        a, b = getattr(got, part), getattr(want, part)
        assert np.array_equal(a, b), f"{part} differs first at {np.argmax(a != b)}"


def test_records_by_hand():
    raw = packed(0, 0, 0, 0) + packed(70_000, 33, 1, 1) + packed(2**23 - 1, 255, 239, 1)
    got = parse_atis(raw)
    assert_same(got, events([(0, 0, 0, 0), (70_000, 33, 1, 1), (2**23 - 1, 255, 239, 1)]))
    assert got.t_us.dtype == np.int64, "times must be int64"


def test_an_overflow_moves_all_later_times_and_is_no_event():
    over = packed(5, 9, 240, 1)
    raw = packed(7, 1, 1, 0) + over + packed(7, 1, 1, 0) + over + over + packed(8, 2, 2, 1)
    want = [(7, 1, 1, 0), (7 + 8192, 1, 1, 0), (8 + 3 * 8192, 2, 2, 1)]
    assert_same(parse_atis(raw), events(want))
    assert len(parse_atis(over)) == 0, "an overflow alone holds no event"


def test_no_bytes_are_no_events(tmp_path):
    (tmp_path / "empty.bin").touch()
    got = read_atis(tmp_path / "empty.bin", (34, 34))
    assert [len(getattr(got, part)) for part in PARTS] == [0, 0, 0, 0]


@given(st.lists(EVENT, max_size=60))
@settings(max_examples=200, deadline=None)
def test_round_trip(rows):
    want = events(sorted(rows))
    assert_same(parse_atis(atis_bytes(want)), want)


@given(st.lists(EVENT, min_size=1, max_size=60), st.integers(0, 4_000_000))
@settings(max_examples=100, deadline=None)
def test_round_trip_keeps_an_order_that_is_not_of_time(rows, back_us):
    rows = sorted(rows)
    rows += [(max(0, rows[-1][0] - back_us), 3, 4, 1)]
    assert_same(parse_atis(atis_bytes(events(rows))), events(rows))


def test_overflows_are_written_only_where_needed():
    last = 2**23 - 1
    assert len(atis_bytes(events([(0, 0, 0, 0), (last, 0, 0, 0)]))) == 10
    assert len(atis_bytes(events([(0, 0, 0, 0), (last + 1, 0, 0, 0)]))) == 15
    raw = atis_bytes(events([(last + 2 * OVERFLOW_US, 0, 0, 0)]))
    assert [raw[i + 1] for i in range(0, len(raw), 5)] == [240, 240, 0]


def test_file_round_trip_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "00001.bin"
    for seed in (1, 2):
        want = random_events(4_000, seed)
        write_atis(path, want)
        assert_same(read_atis(path, (34, 34)), want)
    assert [file.name for file in tmp_path.iterdir()] == ["00001.bin"]


def test_agrees_with_tonic(tmp_path):
    from tonic.io import read_mnist_file

    dtype = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])
    for seed, longest_us in enumerate((300_000, 9_000_000, 60_000_000)):
        path = tmp_path / f"{seed}.bin"
        write_atis(path, random_events(2_000, seed, longest_us, (180, 240)))
        peer = read_mnist_file(str(path), dtype)
        assert_same(read_atis(path), Events(peer["t"], peer["x"], peer["y"], peer["p"]))


def test_truncation_at_every_byte():
    want = random_events(40, 0, 10_000_000)
    raw = atis_bytes(want)
    for end in range(len(raw)):
        if end % 5:
            with pytest.raises(EventFormatError, match="cut") as caught:
                parse_atis(raw[:end], "a.bin")
            assert caught.value.offset == end // 5 * 5, f"cut at {end}: {caught.value}"
        else:
            got = parse_atis(raw[:end], "a.bin")
            assert_same(got, want.select(slice(len(got))))


@pytest.mark.parametrize(
    ("row", "size", "words"),
    [
        ((1, 34, 0, 0), (34, 34), "x 34, y 0 .* 34 x 34 pixels"),
        ((1, 0, 34, 0), (34, 34), "x 0, y 34 "),
        ((1, 180, 0, 0), (240, 180), "x 180, y 0 .* 240 x 180 pixels"),
        ((1, 0, 241, 0), None, "y 241 "),
    ],
)
def test_events_off_the_sensor_are_named(row, size, words):
    raw = packed(0, 1, 1, 0) + packed(0, 200, 240, 0) + packed(*row)
    with pytest.raises(EventFormatError, match=f"a.bin, byte 10: .*{words}"):
        parse_atis(raw, "a.bin", size)


def test_the_last_pixel_is_on_the_sensor():
    assert len(parse_atis(packed(0, 239, 179, 0), size=(180, 240))) == 1


def test_mutants_give_valid_events_or_a_format_error():
    rng = np.random.default_rng(0)
    base = [atis_bytes(random_events(30, seed, 12_000_000)) for seed in range(20)]
    seen = {"events": 0, "error": 0}
    for i in range(10_000):
        raw = bytearray(base[i % len(base)])
        for _ in range(rng.integers(1, 5)):
            at = int(rng.integers(len(raw) + 1))
            junk = rng.integers(0, 256, rng.integers(1, 12), np.uint8).tobytes()
            match rng.integers(4):
                case 0:
                    raw[at : at + 1] = junk[:1]
                case 1:
                    raw[at:at] = junk
                case 2:
                    del raw[at : at + len(junk)]
                case 3:
                    raw[at : at + len(junk)] = junk
        try:
            parse_atis(bytes(raw), "mutant.bin", (34, 34)).validate(34, 34)
            seen["events"] += 1
        except EventFormatError as caught:
            offset = caught.offset
            seen["error"] += 1
            if not (0 <= offset < len(raw) and offset % 5 == 0):
                pytest.fail(f"no record starts at the byte named: {caught}")
    assert min(seen.values()) > 1_000, f"the mutants test one side only: {seen}"


def test_memory_stays_within_32_times_the_file():
    raw = atis_bytes(random_events(400_000, 0))
    tracemalloc.start()
    parse_atis(raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * len(raw), f"{peak / len(raw):.0f} times the file"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([(0, 0, 240, 0)], "rows 240..240"),
        ([(0, 256, 0, 0)], "256 are not all"),
        ([(0, 0, 0, 2)], "polarities 2..2"),
        ([(-1, 0, 0, 0)], "before time 0"),
        ([(10**15, 0, 0, 0)], "too late for ATIS"),
        ([(20_000_000, 0, 0, 0), (0, 0, 0, 0)], "sort the events"),
    ],
)
def test_what_the_format_cannot_say_is_refused(tmp_path, rows, words):
    with pytest.raises(DataError, match=words):
        write_atis(tmp_path / "a.bin", events(rows))
    assert not list(tmp_path.iterdir()), "a refused recording left a file"


def test_files_that_cannot_be_read_or_written(tmp_path):
    for path in (tmp_path / "none.bin", tmp_path):
        with pytest.raises(DataError, match=r"cannot read the recording .*"):
            read_atis(path)
    with pytest.raises(DataError, match="cannot write the recording"):
        write_atis(tmp_path / "none" / "a.bin", events([(0, 0, 0, 0)]))
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="cannot write the recording"):
        write_atis(tmp_path / "folder", events([(0, 0, 0, 0)]))
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


REAL = os.environ.get("SNNDELAY_DATA")


@pytest.mark.skipif(
    not (REAL and Path(REAL, "nmnist").is_dir()),
    reason="set SNNDELAY_DATA to a folder with nmnist/Train/<digit>/<id>.bin",
)
def test_real_recordings_come_back_byte_for_byte():
    for path in sorted(Path(REAL, "nmnist").rglob("*.bin"))[::50]:
        got = read_atis(path, (34, 34))
        assert atis_bytes(got) == path.read_bytes(), f"{path.name} differs"
        assert 500 < len(got) < 20_000 and got.t_us.max() < 400_000, path.name


def test_the_size_is_that_of_the_events_alone(tmp_path):
    events = Events(*(np.array(part) for part in ([5, 9_000_000], [3, 200], [100, 7], [0, 1])))
    write_atis(tmp_path / "a.bin", events)  # holds records that are no events
    assert extent(tmp_path / "a.bin") == (101, 201)
    (tmp_path / "b.bin").write_bytes(b"")
    assert extent(tmp_path / "b.bin") is None
    (tmp_path / "c.bin").write_bytes(b"123456")
    with pytest.raises(EventFormatError, match=r"byte 5: 1 bytes of a 5-byte record"):
        extent(tmp_path / "c.bin")
