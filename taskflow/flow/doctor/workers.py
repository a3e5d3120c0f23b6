"""Whether the living live, somebody sweeps, and runs have somebody who runs them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from taskflow.core.limits import SWEEP_SECONDS_MAX
from taskflow.flow.doctor.deployment import LIMIT, Deployment, Life
from taskflow.flow.doctor.findings import Finding, Repair, Severity, fine, named
from taskflow.ports.audit import LiveWorker, Odd

BATCH: Final = 500
TARDY: Final = 2.0
"""Seconds by which a busy machine may be late."""


def fresh(workers: Sequence[LiveWorker]) -> list[LiveWorker]:
    """Those that beat."""
    return [worker for worker in workers if worker.silent <= worker.info.lease]


async def workers(deployment: Deployment) -> list[Finding]:
    """Who is said to be alive beats, and is there once."""
    if deployment.life is Life.STOPPED:
        return await _left(deployment)
    alive = (await deployment.store.standing()).workers
    living = fresh(alive)
    silent = [worker for worker in alive if worker not in living]
    found = []
    if silent:
        ids = [worker.info.id for worker in silent]
        found.append(
            Finding(
                check="workers",
                severity=Severity.PROBLEM,
                what=f"alive by the table, and silent for more than their leases: {named(ids)}",
                means="what they ran stands still until a sweep declares them dead",
                ids=ids,
                lasting=True,
                advice=_patience(deployment),
                repair=_sweep(deployment, silent),
            )
        )
    places = Counter((worker.info.host, worker.info.pid) for worker in living)
    twins = [worker.info.id for worker in living if places[worker.info.host, worker.info.pid] > 1]
    if twins:
        found.append(
            Finding(
                check="workers",
                severity=Severity.WARNING,
                what=f"several of one host and process: {named(twins)}",
                means="each beats and runs for itself, but lists of workers do not tell them apart",
                advice="give containers host names of their own",
                ids=twins,
                lasting=True,
            )
        )
    return found or [fine("workers", f"{len(living)} alive, and all of them beat")]


async def _left(deployment: Deployment) -> list[Finding]:
    """Nobody runs: whoever is said to be alive was killed."""
    killed = (await deployment.store.standing()).workers
    if not killed:
        return [fine("workers", "no process runs, and none left anything behind")]
    runs = sum(sum(worker.running.values()) for worker in killed)

    async def adopt() -> str:
        adopted = await deployment.store.adopt()
        return f"declared {len(adopted.dead_workers)} workers dead and queued {adopted.rescued} runs again"

    return [
        Finding(
            check="workers",
            severity=Severity.WARNING,
            what=f"no process runs, and the last one was killed; it left {runs} runs",
            means="the next start rescues them at once",
            repair=Repair("adopt", "declare the killed process dead and queue what it ran again", adopt),
        )
    ]


async def sweeps(deployment: Deployment) -> list[Finding]:
    """Some scheduler sweeps."""
    if deployment.life is Life.STOPPED:
        return [fine("sweeps", "no process runs")]
    standing = await deployment.store.standing()
    if standing.swept is not None and standing.swept <= 3 * SWEEP_SECONDS_MAX + TARDY:
        return [fine("sweeps", f"the last one was {max(0.0, standing.swept):.0f} s ago")]
    ago = "there never was one" if standing.swept is None else f"the last one was {standing.swept:.0f} s ago"
    used = bool(standing.workers)
    return [
        Finding(
            check="sweeps",
            severity=Severity.PROBLEM if used else Severity.WARNING,
            what=f"nobody sweeps: {ago}",
            means="no process has the scheduler role: nothing that is scheduled or retried starts, no dead worker is found"
            if used
            else "no process of this deployment runs",
            advice="start a process with `taskflow run --roles scheduler`, or without --roles",
            lasting=True,
        )
    ]


async def runs(deployment: Deployment) -> list[Finding]:
    """What is running has a worker, and is not past its deadline."""
    if deployment.life is Life.STOPPED:
        return [fine("runs", "no process runs")]
    alive = (await deployment.store.standing()).workers
    orphans = await deployment.store.odd(Odd.ORPHAN_RUN, LIMIT)
    overdue = await deployment.store.odd(Odd.OVERDUE_RUN, LIMIT)
    found = []
    for ids, what in ((orphans, "of workers that are not alive"), (overdue, "past their deadline")):
        if ids:
            found.append(
                Finding(
                    check="runs",
                    severity=Severity.PROBLEM,
                    what=f"{what}: {named(ids)}",
                    means="they are `running`, and nobody can settle them",
                    ids=ids,
                    lasting=True,
                    advice=_patience(deployment),
                    repair=_sweep(deployment, alive),
                )
            )
    return found or [fine("runs", "each has a worker that is alive, and time")]


def _patience(deployment: Deployment) -> str:
    own = deployment.life is Life.RUNNING
    return "the process that runs mends this within its lease; restart it if it does not" if own else ""


def _sweep(deployment: Deployment, waited_for: Sequence[LiveWorker]) -> Repair | None:
    if deployment.life is Life.RUNNING:
        return None
    patience = max((worker.info.lease for worker in waited_for), default=0.0) + 3 * deployment.sweep

    async def work() -> str:
        """The first sweep after a gap gives each worker its lease to be heard: go on until that is over."""
        end = time.monotonic() + patience
        dead = rescued = 0
        while True:
            swept = await deployment.store.sweep(deployment.gap, limit=BATCH)
            dead, rescued = dead + len(swept.dead_workers), rescued + swept.rescued
            left = swept.in_grace or swept.dead_workers or swept.rescued >= BATCH
            if not left or time.monotonic() > end:
                return f"swept: {dead} workers declared dead, {rescued} runs rescued"
            await asyncio.sleep(deployment.sweep)

    return Repair(
        "sweep", f"sweep as a scheduler does, for up to {patience:.0f} s, so that their jobs are queued again", work
    )
