"""What the measured jobs do: nothing."""

from __future__ import annotations

from typing import Any

from taskflow import task

QUEUE = "default"


@task("bench.noop")
async def noop(**_: Any) -> dict[str, bool]:
    """Return at once."""
    return {"ok": True}
