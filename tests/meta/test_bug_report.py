"""A run of regressions says what each did, also those that failed before they could."""

from __future__ import annotations

import json

import pytest

from tests.bug_report import JSON

pytest_plugins = ["pytester"]

CONFTEST = """
import pytest
from tests.bug_report import BugReport, says

def pytest_configure(config):
    config.pluginmanager.register(BugReport(), "bug-report")

@pytest.fixture
def report(request):
    return says(request.node)
"""
TESTS = """
def test_right(report):
    report("B1", scale="7 kills", faults=7)

def test_wrong(report):
    report("B1", scale="8 kills", faults=8)
    assert False

def test_fails_early():
    assert False

def test_shows_nothing(report):
    report("B1", scale="9 kills", faults=0)

def test_of_something_else():
    pass
"""


def test_a_row_for_each_test(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Printed and, where that is asked for, written; without a fault a test proves nothing, and fails."""
    monkeypatch.setenv(JSON, str(pytester.path / "bugs.json"))
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_b01_of_old=TESTS)
    done = pytester.runpytest()
    done.assert_outcomes(passed=2, failed=3)
    done.stdout.fnmatch_lines(["*B1 * * right * 7 faults * test_right: 7 kills"])
    rows = json.loads((pytester.path / "bugs.json").read_text())
    assert {(row["bug"], row["test"], row["faults"], row["outcome"]) for row in rows} == {
        ("B1", "test_right", 7, "right"),
        ("B1", "test_wrong", 8, "wrong"),
        ("B01", "test_fails_early", 0, "wrong"),
        ("B01", "test_shows_nothing", 0, "wrong"),
    }
