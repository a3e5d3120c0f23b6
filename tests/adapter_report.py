"""Which adapters the tests ran on. Tests say so by `@pytest.mark.adapter("redis")`; at its end a run prints a line for
each adapter. With `TASKFLOW_TEST_REQUIRE_SERVICES=1` a run fails that skipped tests of one, or, being a full run, ran none."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any, Final

import pytest

ADAPTERS: Final = ("postgresql", "rabbitmq", "redis", "s3", "sqlite", "memory", "file", "nats", "memcached")
PROPERTY: Final = "adapters"
REQUIRE: Final = "TASKFLOW_TEST_REQUIRE_SERVICES"
NARROWING: Final = ("keyword", "markexpr", "lf", "failedfirst", "deselect", "ignore", "ignore_glob", "maxfail")


class AdapterReport:
    """Counts tests by adapter."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._run: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note what each test runs on."""
        for item in items:
            names = tuple(name for mark in item.iter_markers("adapter") for name in mark.args)
            if wrong := set(names) - set(ADAPTERS):
                raise pytest.UsageError(f"{item.nodeid}: there is no adapter {', '.join(sorted(wrong))}")
            item.user_properties.append((PROPERTY, names))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test counts when it has run, and when it did not."""
        # A property reaches whoever counts, also from the process of another worker.
        names = _names(report)
        if report.skipped and not hasattr(report, "wasxfail"):
            self._skipped.update(names)
        elif report.when == "call" or (report.when == "setup" and report.failed):
            self._run.update(names)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A run that looks green and left an adapter out is not."""
        if hasattr(self._config, "workerinput"):
            return  # one of several, which saw only a part
        if self._missing() and session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """A line an adapter."""
        if not (self._run or self._skipped):
            return
        terminalreporter.section("adapters")
        for name in ADAPTERS:
            skipped = f", {self._skipped[name]} skipped" if self._skipped[name] else ""
            terminalreporter.write_line(f"{name:<10} {self._run[name]:>5} run{skipped}")
        for line in self._missing():
            terminalreporter.write_line(line, red=True)

    def _missing(self) -> list[str]:
        if os.environ.get(REQUIRE) != "1" or self._config.option.collectonly:
            return []
        missing = [f"{name}: tests were skipped, and {REQUIRE} forbids it" for name in ADAPTERS if self._skipped[name]]
        if self._full():
            missing += [
                f"{name}: no test ran, and {REQUIRE} wants some"
                for name in ADAPTERS
                if not self._run[name] and not self._skipped[name]
            ]
        return missing

    def _full(self) -> bool:
        option = self._config.option
        if any(getattr(option, name, None) for name in NARROWING):
            return False
        wanted = [self._config.rootpath / path for path in self._config.getini("testpaths")]
        return [self._config.invocation_params.dir / argument for argument in self._config.args] in (wanted, [])


def _names(report: pytest.TestReport) -> tuple[str, ...]:
    """What the test of a report runs on."""
    said: dict[str, Any] = dict(report.user_properties)
    return tuple(said.get(PROPERTY, ()))
