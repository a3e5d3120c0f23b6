"""The driver's errors as the port's."""

from __future__ import annotations

import asyncio
from typing import Final

import asyncpg

from taskflow.core.errors import DataRejected, StoreUnavailable, TaskFlowError

REFUSED: Final = ("22", "23", "54")
"""SQLSTATE classes of values that can never be stored."""
ELSEWHERE: Final = ("25006", "57P01", "57P02", "57P03")
"""This server is a standby now, or goes away, and the sessions on it with it. So does class 08."""
FAILURES: Final = (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""All that the driver raises. The internal one is what comes of a connection that broke in the middle of something."""
CUT_OFF: Final = ("57P01", "57P02")
"""The session ended, whatever it was doing: it may have committed just before."""


class Lost(StoreUnavailable):
    """The reply was lost: whether it was written is not known."""


def sqlstate(error: BaseException) -> str:
    """The error's SQLSTATE, `""` where it has none."""
    return str(getattr(error, "sqlstate", None) or "")


def spoiled(error: BaseException) -> bool:
    """Whether no connection to this server is of use any more."""
    state = sqlstate(error)
    if isinstance(error, TimeoutError):
        return False
    return state in ELSEWHERE or state.startswith("08") or isinstance(error, OSError | asyncpg.InternalClientError)


def translated(error: Exception, *, sent: bool) -> TaskFlowError:
    """The port's error for a driver's.

    Args:
        error: what the driver raised.
        sent: whether the statement was on its way, so that a lost connection leaves its outcome open.
    """
    if isinstance(error, TaskFlowError):
        return error
    state = sqlstate(error)
    # A value that the driver cannot encode is a ValueError, as is a certificate that it does not trust.
    unencodable = sent and isinstance(error, ValueError | OverflowError) and not isinstance(error, OSError)
    if state[:2] in REFUSED or unencodable:
        return DataRejected(str(error))
    said = state and not state.startswith("08") and state not in CUT_OFF
    kind = Lost if sent and not said else StoreUnavailable
    if isinstance(error, TimeoutError | asyncio.CancelledError):
        return kind("the database did not answer in time")
    return kind(f"the database cannot do this now: {str(error) or type(error).__name__}")
