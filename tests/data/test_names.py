"""Names of anything: as bytes and back, and as text that any screen can show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snndelay.data.names import as_bytes, as_name, printable

ANYTHING = st.text(st.characters(blacklist_categories=()))  # surrogates too


@given(ANYTHING)
def test_a_printable_name_is_one_line_of_text(name):
    text = printable(name)
    assert text.encode() and "\x1b" not in text if text else not name
    assert len(text.splitlines()) <= 1 and printable(text) == text
    as_bytes(name)


@given(st.binary())
def test_bytes_come_back(raw):
    assert as_bytes(as_name(raw)) == raw


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain name", "plain name"),
        ("日本 😀 é", "日本 😀 é"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # joins letters
        ("two\nlines\t\x1b[31m", "two\\nlines\\t\\x1b[31m"),
        (as_name(b"\xff"), "\\udcff"),
        ("\u2028", "\\u2028"),
    ],
)
def test_what_breaks_a_line_is_an_escape(name, text):
    assert printable(name) == text
