"""What the regressions of tests/bugs did. A test says so by its fixture `report`; at its end a run prints a row for each,
and writes them to the file that `TASKFLOW_TEST_BUGS_JSON` names."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import pytest

from tests.support import FULL

JSON: Final = "TASKFLOW_TEST_BUGS_JSON"
PROPERTY: Final = "bug"


class Report(Protocol):
    """Says what a test of a bug did: the jobs, bytes or minutes that it took, and how often the fault happened."""

    def __call__(self, bug: str, *, scale: str, faults: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One test of a bug, run once."""

    bug: str
    test: str
    form: str
    scale: str
    faults: int
    seconds: float
    outcome: str


def says(item: pytest.Item) -> Report:
    """The `report` of a test.

    Raises:
        AssertionError: by what is returned, where the fault never happened: then the test shows nothing.
    """

    def report(bug: str, *, scale: str, faults: int) -> None:
        assert faults > 0, f"{bug}: the fault never happened"
        item.user_properties.append((PROPERTY, (bug, scale, faults)))

    return report


class BugReport:
    """Keeps a row for each test of a bug, also for one that ended before it said anything."""

    def __init__(self) -> None:
        self._setup: dict[str, float] = {}
        self._rows: list[Row] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test counts when it has run, and when it could not."""
        if report.when == "setup" and report.passed:
            self._setup[report.nodeid] = report.duration
        elif report.when == "call" or (report.when == "setup" and report.failed):
            self._add(report)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """A line a row, in the order of the bugs."""
        rows = sorted(self._rows, key=lambda row: (row.bug, row.test))
        if path := os.environ.get(JSON):
            Path(path).write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
        if not rows:
            return
        terminalreporter.section("bugs")
        for row in rows:
            terminalreporter.write_line(
                f"{row.bug:<4} {row.form:<4} {row.outcome:<7} {row.seconds:7.1f} s  {row.faults:>7} faults  "
                f"{row.test}: {row.scale}",
                red=row.outcome == "wrong",
            )

    def _add(self, report: pytest.TestReport) -> None:
        path, _, test = report.nodeid.partition("::")
        said: list[Any] = [value for name, value in report.user_properties if name == PROPERTY]
        named = re.search(r"\btest_(b\d+)_[^/]*\.py$", path)
        if not said and named and report.failed:
            said = [(named[1].upper(), "?", 0)]
        outcome = {"passed": "right", "failed": "wrong"}.get(report.outcome, report.outcome)
        seconds = self._setup.get(report.nodeid, 0.0) + report.duration
        for bug, scale, faults in said:
            self._rows.append(Row(bug, test, "full" if FULL else "CI", scale, faults, round(seconds, 1), outcome))
