"""Being told to end before there is a loop to tell."""

from __future__ import annotations

import os
import signal
from types import FrameType


def leave_when_told() -> None:
    """From here until a loop listens to it, SIGTERM ends this process cleanly: it has begun nothing."""
    signal.signal(signal.SIGTERM, _leave)


def hear_no_more() -> None:
    """This process ends with its own code: being told so now must not turn that into a death by signal."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _leave(_number: int, _frame: FrameType | None) -> None:
    # An exception is lost where Python has nobody to raise it to: in what runs when an object ends, as at each import.
    os._exit(0)
