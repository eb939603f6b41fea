"""Events as text: units of time, and whether they are of clips or of recordings. The tests of
vision/readers/text.py and audio/spike_files.py hold headers, separators and wrong lines."""

import numpy as np
import pytest

from snndelay.data.text import CLIP, holds_rows, read_rows
from snndelay.errors import DataError, EventFormatError


@pytest.mark.parametrize(
    ("raw", "unit", "t_us"),
    [
        (b"0.5 3\n2 9", None, [500_000, 2_000_000]),
        (b"500 3\n2e3 9", None, [500, 2000]),
        (b"0.5 3\n2 9", "s", [500_000, 2_000_000]),
        (b"500 3\n2e3 9", "ms", [500_000, 2_000_000]),
        (b"0.4 3\n2.5 9", "us", [0, 3]),
        (b"400 3\n2500 9", "ns", [0, 3]),
        (b"1468940293.922985 3\n-1.0000005 9", "s", [1468940293922985, -1000000]),
    ],
)
def test_times_are_microseconds(raw, unit, t_us):
    t, x = read_rows(raw, "a.txt", CLIP, unit).columns
    assert t.tolist() == t_us and x.tolist() == [3, 9] and t.dtype == x.dtype == np.int64


def test_units_have_names():
    with pytest.raises(DataError, match="unknown unit of time 'sec'"):
        read_rows(b"1 2", "a.txt", CLIP, "sec")
    with pytest.raises(EventFormatError, match="up to 5000, no seconds: give --time-unit us or ms"):
        read_rows(b"1 2\n5000 3", "a.txt", CLIP, "s")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("0.1 3\n", True),
        ("# mine\n\nt,unit\n0.1,3\n0.2,4", True),
        ("1000 3 4 1\n", False),
        ("640 480\n1000 3 4 1\n", False),
        ("t x y p\n", False),
        ("These clips are mine.\n", False),
        ("", False),
    ],
)
def test_clips_and_recordings_are_told_apart(tmp_path, text, answer):
    (tmp_path / "a.txt").write_text(text)
    assert holds_rows(tmp_path / "a.txt", CLIP) is answer
    assert not holds_rows(tmp_path / "gone.txt", CLIP)


def test_the_line_of_an_event():
    rows = read_rows(b"# x\nt unit\n\n1 2 % y\n , \n3 4\n", "a.txt", CLIP)
    assert [rows.line(i) for i in range(2)] == [4, 6]


def test_no_bytes_break_it():
    rng = np.random.default_rng(0)
    good = b"t unit\n" + b"\n".join(b"%d %d" % (i * 50, i % 9) for i in range(20))
    refused = 0
    for _ in range(3000):
        raw = bytearray(good)
        for _ in range(int(rng.integers(1, 4))):
            raw[int(rng.integers(len(raw)))] = int(rng.choice([*b"0129 .,-+e#\nxn", 0, 255, 195]))
        raw = raw[: int(rng.integers(len(raw)))] if rng.random() < 0.3 else raw
        try:
            t, x = read_rows(bytes(raw), "a.txt", CLIP, "ms").columns
        except EventFormatError:
            refused += 1
            continue
        assert len(t) == len(x) <= 41
    assert refused > 1000, f"only {refused} of 3000 are refused"
