"""What a setting that cannot work raises, and the words that help to mend it."""

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """A setting that cannot work; the message is one sentence that says what to change."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """`did you mean X?` for the choice closest to word, or the list of all choices."""
    choices = list(choices)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"choose one of {', '.join(choices)}"
