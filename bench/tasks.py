"""What the measured jobs do: nothing."""

from __future__ import annotations

from taskflow import task


@task("bench.noop")
async def noop(user_id: int, email: str, subject: str, body: str) -> dict[str, bool]:
    """Return at once."""
    return {"ok": True}
