"""Events as text: what is read, and what is refused by its line."""

import numpy as np
import pytest

from snndelay.data.text import CLIP, RECORDING, parse_text
from snndelay.errors import DataError, EventFormatError


@pytest.mark.parametrize("raw", [
    b"100 5 3 1\n2000 15 0 0\n",
    b"# made by a tool\nt,x,y,p\n100,5,3,1\r\n2000,15,0,0",
    b"\n  100\t5\t3\t1\n\n2000; 15; 0; 0\n",
])  # fmt: skip
def test_recordings(raw):
    events = parse_text(raw, "a.txt", RECORDING, "us")
    assert events.t_us.tolist() == [100, 2000] and events.t_us.dtype == np.int64
    assert (events.x.tolist(), events.y.tolist(), events.p.tolist()) == ([5, 15], [3, 0], [1, 0])


@pytest.mark.parametrize(("raw", "unit"), [(b"0.5 3\n2 9", "s"), (b"500 3\n2e3 9", "ms")])
def test_clips(raw, unit):
    events = parse_text(raw, "a.txt", CLIP, unit)
    assert events.t_us.tolist() == [500_000, 2_000_000] and events.x.tolist() == [3, 9]
    assert events.y is None and events.p is None


@pytest.mark.parametrize(("raw", "columns", "unit", "words"), [
    (b"", CLIP, "s", "it holds no events: write one on each line, t unit"),
    (b"t unit\n", CLIP, "s", "it holds no events"),
    (b"0.1 3\n0.2\n", CLIP, "s", "line 2: '0.2' is no event"),
    (b"0.1 3\n0.2 3 4\n", CLIP, "s", "line 2: '0.2 3 4' is no event"),
    (b"1 2 3 1\n# x\n1 2 three 1\n", RECORDING, "us", "line 3"),
    (b"0.1 3\n0.2 -3\n", CLIP, "s", "line 2: '0.2 -3': a number is not whole"),
    (b"0.1 3.5\n", CLIP, "s", "line 1"),
    (b"0.1 nan\n", CLIP, "s", "line 1"),
    (b"nan 1\n", CLIP, "s", "the time is negative, not finite"),
    (b"0.1 1\n-0.1 1\n", CLIP, "s", "line 2: '-0.1 1': the time is negative"),
    (b"1 99999\n", CLIP, "s", "0..32767"),
    (b"1 2 3 2\n", RECORDING, "us", "the polarity is not 0 or 1"),
    (b"5 1\n5000 1\n", CLIP, "s", "whole numbers up to 5000, no seconds"),
    (b"0.5 1 1 1\n", RECORDING, "us", "its times have fractions: give --time-unit s or ms"),
    (b"1 \xff\n", CLIP, "s", "byte 2: it is no text"),
])  # fmt: skip
def test_what_is_refused(raw, columns, unit, words):
    with pytest.raises(EventFormatError) as error:
        parse_text(raw, "a.txt", columns, unit)
    assert words in str(error.value) and str(error.value).startswith("a.txt")


def test_units_have_names():
    with pytest.raises(DataError, match="unknown unit of time 'sec'"):
        parse_text(b"1 2", "a.txt", CLIP, "sec")


def test_no_bytes_break_it():
    rng = np.random.default_rng(0)
    good = b"t x y p\n" + b"\n".join(
        b"%d %d %d %d" % (i * 50, i % 9, i % 7, i % 2) for i in range(20)
    )
    for _ in range(3000):
        raw = bytearray(good)
        for _ in range(int(rng.integers(1, 4))):
            raw[int(rng.integers(len(raw)))] = int(rng.choice([*b"0129 .,-+e#\nxn", 0, 255, 195]))
        raw = raw[: int(rng.integers(len(raw)))] if rng.random() < 0.3 else raw
        try:
            events = parse_text(bytes(raw), "a.txt", RECORDING, "us")
        except EventFormatError:
            continue
        events.validate(2**15, 2**15)
