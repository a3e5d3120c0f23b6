"""Whether the servers answer, and whether the clocks agree."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Final

from taskflow.flow.doctor.deployment import Answers, Deployment, Life
from taskflow.flow.doctor.findings import Finding, Severity, fine

PATIENCE: Final = 5.0
SLOW: Final = 1.0
SKEW: Final = timedelta(seconds=5)


async def servers(deployment: Deployment) -> list[Finding]:
    """Each answers, and soon."""
    asked = deployment.servers.items()
    return list(await asyncio.gather(*(_server(port, server) for port, server in asked)))


async def _server(port: str, server: Answers) -> Finding:
    started = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE):
            await server.ping()
    except Exception as error:
        silent = isinstance(error, TimeoutError)
        why = f"no answer within {PATIENCE:g} s" if silent else str(error) or type(error).__name__
        return unanswered(port, why)
    took = time.monotonic() - started
    if took > SLOW:
        return Finding(
            check=port,
            severity=Severity.WARNING,
            what=f"answered after {took:.1f} s",
            means="every job waits for it",
            advice="look at its load and at the network between",
        )
    return fine(port, f"answers within {took * 1_000:.0f} ms")


def unanswered(port: str, why: str) -> Finding:
    """A server that is not there."""
    meanings = {
        "store": "nothing can be submitted, run or looked at until it answers",
        "broker": "jobs are drawn from the table, more slowly",
        "cache": "documents are read from the store, more slowly",
        "events": "who waits or follows learns of changes up to 2 s late",
        "artifacts": "log lines wait in spools, and files cannot be kept",
        "limiter": "each API process limits by itself",
    }
    return Finding(
        check=port,
        severity=Severity.PROBLEM,
        what=f"does not answer: {why}",
        means=meanings[port],
        advice=f"start it, or correct {port}.url",
    )


async def clock(deployment: Deployment) -> list[Finding]:
    """This host and the database agree about the time. TaskFlow compares no two clocks; people do."""
    if deployment.life is not Life.SHARED:
        return [fine("clock", "there is only one")]
    before = datetime.now(UTC)
    stored = (await deployment.store.standing()).now
    skew = max(before - stored, stored - datetime.now(UTC), timedelta(0))
    if skew <= SKEW:
        return [fine("clock", "this host and the database agree to a few seconds")]
    return [
        Finding(
            check="clock",
            severity=Severity.WARNING,
            what=f"this host and the database are {skew.total_seconds():.0f} s apart",
            means="no job is hurt by that, but a `run_at` that is named here is met by the database's clock",
            advice="keep both by NTP",
        )
    ]
