"""Being told to end before there is a loop to tell."""

from __future__ import annotations

import signal
from types import FrameType


def leave_when_told() -> None:
    """From here until a loop listens to it, SIGTERM ends this process cleanly: it has begun nothing."""
    signal.signal(signal.SIGTERM, _leave)


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
