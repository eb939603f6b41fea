"""Every error that a user can mend, and the words that help to mend it.

Each message is one sentence: what is wrong, where, and what to do. Commands print it and end with
`exit_code`; whoever calls the library catches `UserError`, or one of its kinds.
"""

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """Something a user can mend; the message is one sentence that says how."""

    exit_code = 2
    told_elsewhere = False  # by another of several processes


class ConfigError(UserError, ValueError):
    """A setting or an argument that cannot work."""


class DataError(UserError, ValueError):
    """Data that cannot be used as asked."""


class BadSamples(DataError):
    """Samples that a run would refuse, of a set that was asked to be checked."""

    exit_code = 1


class EventFormatError(UserError, ValueError):
    """A file that does not hold what its format promises.

    `path`: the file. `offset`: where in it, counted in `unit` ("clip" or "byte"), None for the
    file as a whole. `reason`: what is wrong, in words.
    """

    def __init__(self, path: str, offset: int | None, reason: str, unit: str = "clip"):
        super().__init__(path, offset, reason, unit)  # all four, so that the error can be pickled
        self.path, self.offset, self.reason, self.unit = path, offset, reason, unit

    def __str__(self) -> str:
        where = "" if self.offset is None else f", {self.unit} {self.offset}"
        return f"{self.path}{where}: {self.reason}"


class BackendError(UserError, RuntimeError):
    """The backend that was asked for cannot run this op here; the message says why."""


class DoctorFound(UserError, RuntimeError):
    """An op that runs here and computes something else than its reference."""

    exit_code = 1


class ProfileError(UserError, ValueError):
    """Arguments of `snndelay profile` that cannot work."""


class RunError(UserError, RuntimeError):
    """A run that cannot start, go on or be read."""


class ProcessLost(RunError):
    """Another process of a run in several ended without a word."""

    exit_code = 1


class Interrupted(RunError):
    """A signal, Ctrl-C say; the message says how to go on. `exit_code`: 128 and its `number`."""

    def __init__(self, text: str, number: int = 2):
        super().__init__(text)
        self.exit_code = 128 + number


class CellsFailed(RunError):
    """Some runs of a study failed; the others are finished."""

    exit_code = 1


class SamplesUnusable(DataError):
    """Some samples could not be used; what there is to say about the others was said."""

    exit_code = 1


class NonFiniteError(RunError):
    """The loss or a gradient became NaN or infinite."""


class CheckpointCorrupt(UserError, RuntimeError):
    """A checkpoint whose bytes are not those that were written."""


class CheckpointWriteError(UserError, RuntimeError):
    """A checkpoint that could not be written; the one before it is untouched."""

    exit_code = 1  # the machine's fault rather than the command's


class WidthWarning(UserWarning):
    """Delays are evaluated on whole steps although they were trained far wider than that."""


class WindowWarning(UserWarning):
    """Delays have left the window in training, where no tap is, and are evaluated at its edge."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """`did you mean X?` for the choice closest to word, or the list of all choices."""
    choices = list(choices)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"choose one of {', '.join(choices)}"


def alternatives(words: Sequence[str]) -> str:
    """`a, b or c`"""
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def check_words(**words: tuple[str, Iterable[str]]) -> None:
    """ConfigError for a word that is not among those known."""
    for name, (word, known) in words.items():
        if word not in known:
            raise ConfigError(f"unknown {name} {word!r}: {nearest(word, known)}")
