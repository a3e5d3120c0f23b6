"""What a check says: a line where all is well; else what is wrong, what that means, and what mends it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from taskflow.core.errors import TaskFlowError

FEW: Final = 3
"""Ids that are told; the others are counted."""


class Severity(StrEnum):
    """How bad it is. A problem costs jobs, time or data; a warning may be what the operator wants."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Repair:
    """Something that can be done safely. Findings with the same `name` are mended by doing it once.

    Attributes:
        does: what it would do, for people.
        work: does it; returns what it did.
    """

    name: str
    does: str
    work: Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found.

    Attributes:
        check: whose finding this is.
        what: the fact, in a sentence.
        means: what follows from it.
        advice: what the operator must do, where no repair does it.
        ids: of what is concerned, all that were found.
        lasting: whether it must still hold a moment later to be believed: what a system at work is in for a moment.
    """

    check: str
    severity: Severity
    what: str
    means: str = ""
    advice: str = ""
    ids: Sequence[str] = ()
    repair: Repair | None = None
    lasting: bool = False


def fine(check: str, what: str) -> Finding:
    """All is well."""
    return Finding(check=check, severity=Severity.OK, what=what)


def named(ids: Sequence[str], count: int | None = None) -> str:
    """A few ids, and how many there are: as many as `ids`, unless these are only the first of `count`."""
    rest = (len(ids) if count is None else count) - FEW
    return ", ".join(ids[:FEW]) + (f" and {rest:,} more" if rest > 0 else "")


def reason(error: Exception) -> str:
    """An error in a line. What no port promised to raise is told with its name: its text alone may say nothing."""
    if isinstance(error, TaskFlowError):
        return str(error)
    return ": ".join(filter(None, (type(error).__name__, str(error).partition("\n")[0])))
