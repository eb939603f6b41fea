"""The table at the end of `pytest -m faults`."""

import json
import re
from types import SimpleNamespace

import pytest

from ..helpers_training import ROOT
from .promises import PROMISES
from .table import BY_TEST, TRIALS, Table


def test_the_tests_that_promises_name_are_there():
    for test in BY_TEST:
        file, _, name = test.partition("::")
        assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE), test


def report(test, when="call", outcome="passed", **properties):
    return SimpleNamespace(
        nodeid=test,
        when=when,
        passed=outcome == "passed",
        failed=outcome == "failed",
        skipped=outcome == "skipped",
        user_properties=[*properties.items()],
    )


def test_every_try_is_counted_once():
    table, (named, *_) = Table(None), BY_TEST
    promise = BY_TEST[named]
    for outcome in ("passed", "failed", "skipped"):
        table.pytest_runtest_logreport(report(f"{named}[a]", "setup"))
        table.pytest_runtest_logreport(report(f"{named}[a]", "call", outcome))
    made = {TRIALS: [("kills", True), ("kills", False), ("kills", True)]}
    for when in ("setup", "call", "teardown"):
        table.pytest_runtest_logreport(report("tests/faults/test_kills.py::a[3]", when, **made))
    assert (table.tried[promise], table.held[promise]) == (2, 1)
    assert (table.tried["kills"], table.held["kills"]) == (3, 2)
    assert [*table.tests["kills"]] == ["tests/faults/test_kills.py"]


def test_lines_of_what_was_tried_and_of_what_is_not_known_yet(tmp_path):
    def lines():
        return [json.loads(line) for line in path.read_text().splitlines()]

    path, table = tmp_path / "a.jsonl", Table(None)
    made = {TRIALS: [("kills", True), ("kills", False)]}
    table.pytest_runtest_logreport(report("tests/faults/test_kills.py::a", "teardown", **made))
    table._write(path)
    assert [x["promise"] for x in lines()] == [*PROMISES]
    by = {x["promise"]: x for x in lines()}
    assert (by["kills"]["tried"], by["kills"]["held"]) == (2, 1)
    assert by["kills"]["tests"] == ["tests/faults/test_kills.py"]
    untried = by["large shapes"]
    assert untried["tried"] == 0 and untried["why_not"] == "not measured"
    table._write(path)
    assert [x["promise"] for x in lines()[len(PROMISES) :]] == ["kills"]


def test_a_try_that_fails_hides_no_other(trial):
    for n in range(3):
        with trial("kills", n):
            assert n != 1, "one"
    assert [held for _, held in trial.made] == [True, False, True]
    (fault,) = trial.faults
    assert fault == "kills, 1: AssertionError: one\nassert 1 != 1"
    trial.faults.clear()  # else this test fails at its end


@pytest.mark.parametrize("name", PROMISES)
def test_a_promise_is_tried_or_says_why_not(name):
    source = "".join(p.read_text() for p in (ROOT / "tests/faults").glob("test_*.py"))
    promise = PROMISES[name]
    assert promise.tests or promise.skipped or f'"{name}"' in source, name
