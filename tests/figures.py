"""Figures that tests reached. A test says one by its fixture `say`; at its end a run prints them all."""

from __future__ import annotations

from typing import Final, Protocol

import pytest

PROPERTY: Final = "figure"


class Say(Protocol):
    """Reports what was measured, and how much it was."""

    def __call__(self, what: str, figure: str) -> None: ...


def says(item: pytest.Item) -> Say:
    """The `say` of a test."""

    def say(what: str, figure: str) -> None:
        item.user_properties.append((PROPERTY, f"{what}: {figure}"))

    return say


class Figures:
    """Keeps what tests said, whichever way they ended."""

    def __init__(self) -> None:
        self._lines: list[tuple[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """All of it is there when the test is over."""
        if report.when == "teardown":
            test = report.nodeid.rpartition("/")[2]
            self._lines += [(test, str(line)) for name, line in report.user_properties if name == PROPERTY]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """A line a figure, below the name of its test."""
        if not self._lines:
            return
        terminalreporter.section("figures")
        last = ""
        for test, line in self._lines:
            if test != last:
                terminalreporter.write_line(last := test)
            terminalreporter.write_line(f"  {line}")
