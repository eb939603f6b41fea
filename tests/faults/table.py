"""`pytest -m faults` ends with one table: promise, tried, held. `--trust=FILE` appends its lines to
a result file, from which benchmarks/tables.py fills docs/trust.md.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

from .promises import PROMISES

TRIALS = "trials"  # name of the property in which a test reports (promise, held) of every try
BY_TEST = {test: name for name, promise in PROMISES.items() for test in promise.tests}


class Table:
    """A plugin of pytest that counts, in the process that reports."""

    def __init__(self, file: str | None):
        self.file = file
        self.tried: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        self.tests: dict[str, dict[str, None]] = {name: {} for name in PROMISES}

    @pytest.hookimpl(tryfirst=True)  # before those that the marker does not select are left out
    def pytest_collection_modifyitems(self, config, items) -> None:
        if config.option.markexpr == "faults":
            for item in items:
                if item.nodeid.partition("[")[0] in BY_TEST:
                    item.add_marker("faults")

    def pytest_runtest_logreport(self, report) -> None:
        test = report.nodeid.partition("[")[0]
        if report.when == "teardown":
            for promise, held in dict(report.user_properties).get(TRIALS, ()):
                self._count(promise, test, held)
        elif test in BY_TEST and not report.skipped and (report.when == "call" or report.failed):
            self._count(BY_TEST[test], test, report.passed)

    def _count(self, promise: str, test: str, held: bool) -> None:
        self.tried[promise] += 1
        self.held[promise] += held
        self.tests[promise][test.partition("::")[0]] = None

    def pytest_terminal_summary(self, terminalreporter, config) -> None:
        if config.option.markexpr != "faults":
            return
        rows = [("promise", "tried", "held")]
        rows += [(name, str(self.tried[name]), str(self.held[name])) for name in PROMISES]
        terminalreporter.section("trust")
        for name, tried, held in rows:
            terminalreporter.line(f"{name:24}{tried:>8}{held:>8}")
        if self.file:
            self._write(Path(self.file))

    def _write(self, path: Path) -> None:
        import torch

        from snndelay.kernels.profile.measure import where

        here = where(torch.device("cpu"))
        text = path.read_text() if path.exists() else ""
        known = {json.loads(line).get("promise") for line in text.splitlines()}
        with path.open("a") as file:
            for name, promise in PROMISES.items():
                if not self.tried[name] and name in known:  # in a run of some tests: what is known
                    continue
                line = {"promise": name, "words": promise.words, "tried": self.tried[name]}
                line |= {"held": self.held[name], "tests": [*self.tests[name]]}
                line |= {"why_not": promise.skipped} if not self.tried[name] else {}
                file.write(json.dumps(line | here) + "\n")
