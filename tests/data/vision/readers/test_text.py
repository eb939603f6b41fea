"""Text: headers, separators, units and the line that is wrong."""

import io

import numpy as np
import pytest

from snndelay.data.events import Events
from snndelay.data.vision.readers.text import parse_text, sensor
from snndelay.errors import EventFormatError

from ....helpers_formats import PARTS, assert_same, random_events, rows

WANT = random_events(40, 0)
TABLE = np.stack([getattr(WANT, part) for part in PARTS], 1)


def printed(table, **options) -> bytes:
    file = io.StringIO()
    np.savetxt(file, table, **options)
    return file.getvalue().encode()


@pytest.mark.parametrize("separator", [" ", "\t", ",", ";", ", "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_separators_and_ends(separator, end):
    assert_same(parse_text(printed(TABLE, fmt="%d", delimiter=separator, newline=end)), WANT)


def test_what_savetxt_writes_of_us_is_us_and_of_seconds_is_seconds():
    assert b"e+" in printed(TABLE)
    assert_same(parse_text(printed(TABLE)), WANT)
    assert_same(parse_text(printed(TABLE / [1e6, 1, 1, 1])), WANT)


def test_long_clocks_in_seconds_are_exact():
    raw = b"1468940293.922985000 3 4 1\n1468940293.922986499 5 6 0\n"
    assert parse_text(raw).t_us.tolist() == [1468940293922985, 1468940293922986]


def test_agrees_with_loadtxt():
    raw = printed(TABLE / [1e6, 1, 1, 1], fmt="%.7f")
    t_s, x, y, p = np.loadtxt(io.BytesIO(raw)).T
    assert_same(parse_text(raw), Events(np.rint(t_s * 1e6).astype(np.int64), x, y, p))


@pytest.mark.parametrize(
    "head",
    [
        b"# a comment\n\n% and another\n",
        b"1280 720\n",
        b"t x y p\n",
        b"\xef\xbb\xbftimestamp,x,y,pol\n",
    ],
)
def test_headers(tmp_path, head):
    raw = head + printed(TABLE, fmt="%d") + b"# the end"
    assert_same(parse_text(raw), WANT)
    (tmp_path / "a.txt").write_bytes(raw)
    assert sensor(tmp_path / "a.txt") == ((720, 1280) if head[:4] == b"1280" else None)


def test_a_header_gives_the_order():
    raw = b"x,y,polarity,timestamp\n" + printed(TABLE[:, [1, 2, 3, 0]], fmt="%d", delimiter=",")
    assert_same(parse_text(raw), WANT)


@pytest.mark.parametrize(
    ("order", "words"),
    [([1, 2, 0, 3], "third .*, x y t p or"), ([1, 0, 2, 3], "second .*, x t y p or")],
)
def test_columns_in_another_order_are_not_taken_for_times(order, words):
    table = np.concatenate([TABLE[:, :3] % 1000, TABLE[:, 3:]], 1)
    table = table[np.argsort(table[:, 0])]
    raw, names = printed(table[:, order], fmt="%d"), np.array([*"txyp"])[order]
    with pytest.raises(EventFormatError, match=f"a.txt: its first column .* {words} t x y p"):
        parse_text(raw, "a.txt")
    for head in ("t x y p", " ".join(names)):
        assert len(parse_text(f"{head}\n".encode() + raw)) == 40, "who names them knows them"


def test_a_few_late_times_are_no_other_order():
    late = np.arange(40)[:, None].repeat(4, 1) % [100, 100, 100, 2]
    late[20, 0] -= 5
    assert parse_text(printed(late, fmt="%d")).t_us.tolist() == late[:, 0].tolist()
    assert rows(parse_text(b"5 2 3 1\n4 5 6 1")) == [(5, 2, 3, 1), (4, 5, 6, 1)]


def test_polarities_of_minus_one_and_no_last_end():
    assert rows(parse_text(b"1 2 3 -1\n4 5 6 1")) == [(1, 2, 3, 0), (4, 5, 6, 1)]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"1 2 3\n", "line 1: '1 2 3': it has too few numbers, expected t x y p"),
        (b"#\n\n1 2 3 1\n1 2 3 1 5\n", "line 4: '1 2 3 1 5': it has too many"),
        (b"1 2 3 1\n1 2 a 1\n", "line 2: .*: it is no row of numbers"),
        (b"1 2 3 1\n1 2 3x 1\n", "line 2: .*: it is no row of numbers"),
        (b"1 2 3 1\n1e999 2 3 1\n", "line 2: .*: it has a number that is too large"),
        (b"1 2 3 1\n\n# b\n1 2.5 3 1\n", "line 4: '1 2.5 3 1': its x is no whole number"),
        (b"99999999999999999999 2 3 1\n", "line 1: .*: its t is no whole number, or too large"),
        (b"0.5 2 3 1\n1e17 2 3 1\n", "line 2: .*: its t"),
        (b"# b\n1 2 3 4\n", "line 2: the event has polarity 4"),
        (
            b"1280 720\n1 1280 3 0\n",
            "line 2: .* x 1280, y 3 lies off the sensor of 720 x 1280",
        ),
        (b"-1 1 1 1\n", "line 1: the event comes at -1 us"),
        (b"t x y\n", "line 1: it says 't x y', expected the names"),
        (b"0 0\n", "names a sensor of 0 x 0"),
        ("h\xe9llo\n".encode("utf-16"), "line 1: .*: it is no row of numbers"),
    ],
)
def test_what_is_wrong_is_named(raw, words):
    with pytest.raises(EventFormatError, match=words):
        parse_text(raw, "a.txt")
