"""Tries of a promise are counted one by one, and one that fails does not hide the others."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ..helpers_vision import write_tiny_vision
from .table import TRIALS


class Trials:
    """The tries of a test: (promise, held) each, and what went wrong."""

    def __init__(self) -> None:
        self.made: list[tuple[str, bool]] = []
        self.faults: list[str] = []

    @contextmanager
    def __call__(self, promise: str, what: object) -> Iterator[None]:
        """One try; it holds if nothing is raised. what: names it in a report."""
        try:
            yield
        except Exception as error:
            self.made.append((promise, False))
            self.faults.append(f"{promise}, {what}: {type(error).__name__}: {error}")
        else:
            self.made.append((promise, True))


@pytest.fixture
def trial(record_property) -> Iterator[Trials]:
    """`with trial(promise, what): ...` for every try of a test, which fails at its end if one did
    not hold."""
    trials = Trials()
    yield trials
    record_property(TRIALS, trials.made)
    assert trials.made, "nothing was tried"
    assert not trials.faults, "\n".join([f"{len(trials.faults)} did not hold:", *trials.faults])


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Folders of a few tiny recordings and of images of the same classes."""
    return write_tiny_vision(tmp_path_factory.mktemp("vision"))


def often(few: int, many: int):
    """Parametrises `tries`: few of them always, many with `pytest -m faults`."""
    return pytest.mark.parametrize("tries", [few, pytest.param(many, marks=pytest.mark.faults)])
