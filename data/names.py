"""Names of classes and files, which may be anything at all: as bytes, and as they can be shown.

Of what is no UTF-8 on the disk Python makes surrogates (PEP 383), which no stream takes.
"""

import unicodedata
from collections.abc import Sequence

HIDDEN = ("Cc", "Cs", "Zl", "Zp")  # kinds of characters: control, surrogates, ends of lines


def printable(name: str) -> str:
    """A name as one line of text: what would break the line, the terminal or an encoding stands as
    an escape, `\\n` say."""
    if name.isprintable():
        return name
    return "".join(escape(c) if unicodedata.category(c) in HIDDEN else c for c in name)


def escape(character: str) -> str:
    """`\\u65e5` for a character."""
    return character.encode("unicode_escape").decode("ascii")


def same_name(classes: Sequence[str]) -> str:
    """What is wrong where two classes have the same name; "" where none have."""
    twice = next((name for name in classes if classes.count(name) > 1), None)
    return "" if twice is None else f"two classes are called {twice!r}: rename one"


def as_bytes(name: str) -> bytes:
    """The bytes of a name: those on the disk, also where they are no UTF-8."""
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate of another origin
        return name.encode("utf-8", "surrogatepass")


def as_name(raw: bytes) -> str:
    """The name of such bytes, different ones for different bytes."""
    return raw.decode("utf-8", "surrogateescape")
