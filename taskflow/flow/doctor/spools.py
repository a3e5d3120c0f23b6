"""Whether log lines wait for long on this host."""

from __future__ import annotations

import asyncio
from typing import Final

from taskflow.flow import spool_room
from taskflow.flow.doctor.deployment import Deployment, Life
from taskflow.flow.doctor.findings import Finding, Repair, Severity, fine, named

OLD: Final = 600.0
"""Seconds. A living process ships its lines within seconds, and takes over a dead one's within a minute."""


async def spools(deployment: Deployment) -> list[Finding]:
    """Of the living and of the dead."""
    rooms = await asyncio.to_thread(spool_room.rooms, deployment.spool)
    found = []
    stuck = [room for room in rooms if room.owned and room.age > OLD]
    left = [room for room in rooms if not room.owned and room.age > OLD]
    if stuck:
        found.append(
            Finding(
                check="spools",
                severity=Severity.WARNING,
                what=f"lines wait for {_age(stuck)} ({_size(stuck)}): {named([room.name for room in stuck])}",
                means="their processes live, and cannot store them",
                advice="see what is said of artifacts and store above, and the processes' logs",
                ids=[room.name for room in stuck],
                lasting=True,
            )
        )
    if left:

        async def ship() -> str:
            await deployment.ship()
            still = [room for room in await asyncio.to_thread(spool_room.rooms, deployment.spool) if not room.owned]
            return f"stored the lines of {len(left)} spools" if not still else f"{_size(still)} could not be stored"

        found.append(
            Finding(
                check="spools",
                severity=Severity.WARNING,
                what=f"lines of dead processes wait for {_age(left)} ({_size(left)}): {named([room.name for room in left])}",
                means="no process of this deployment runs on this host: the next one that does stores them",
                ids=[room.name for room in left],
                repair=None
                if deployment.life is Life.RUNNING
                else Repair("spools", "store the lines that dead processes left", ship),
                lasting=True,
            )
        )
    return found or [fine("spools", f"{_size(rooms)} wait on this host, none for long")]


def _age(rooms: list[spool_room.Found]) -> str:
    return f"{max(room.age for room in rooms) / 60:.0f} minutes"


def _size(rooms: list[spool_room.Found]) -> str:
    return f"{sum(room.size for room in rooms):,} bytes"
