"""Whether what may run is run."""

from __future__ import annotations

from typing import Final

from taskflow.core.job import LaneKey
from taskflow.flow.doctor.deployment import LIMIT, Deployment, Life
from taskflow.flow.doctor.findings import Finding, Repair, Severity, fine, named
from taskflow.flow.doctor.workers import BATCH, fresh
from taskflow.ports.audit import LATE, LiveWorker, Odd, Waiting

OLD: Final = 30.0
"""Seconds that a job may wait beside a free slot."""
FRONT: Final = 20
"""Oldest jobs of a lane that are looked at."""


async def queued(deployment: Deployment) -> list[Finding]:
    """No old job waits beside a free slot, and each has a worker that knows its task."""
    if deployment.life is Life.STOPPED:
        return [fine("queued", "no process runs")]
    standing = await deployment.store.standing()
    living = fresh(standing.workers)
    fronts = await deployment.store.fronts(FRONT)
    left = [
        row.id
        for lane, rows in fronts.items()
        for row in rows
        if row.age > OLD and any(_could_run(worker, lane, row) for worker in living)
    ]
    found = []
    if left:
        found.append(
            Finding(
                check="queued",
                severity=Severity.PROBLEM,
                what=f"queued for more than {OLD:g} s while a worker of their task has free slots: {named(left)}",
                means="nobody draws them",
                advice="look at the workers' logs and at /api/v1/health/ready; restart a worker that claims nothing",
                ids=left,
                lasting=True,
            )
        )
    found += [
        Finding(
            check="queued",
            severity=Severity.WARNING,
            what=f"no live worker has the task {task}, and {count:,} jobs wait for one",
            means="they wait with the reason `no_worker`, and go on by themselves once one is there",
            advice="start a worker that loads the task's module, or cancel the jobs",
            ids=[task],
            lasting=True,
        )
        for task, count in standing.unrunnable.items()
    ]
    return found or [fine("queued", f"no job waits beside a free slot (the oldest {FRONT} of each lane)")]


def _could_run(worker: LiveWorker, lane: LaneKey, row: Waiting) -> bool:
    info = worker.info
    serves = row.task in info.tasks and (not info.queues or lane.queue in info.queues)
    return serves and info.slots.get(row.runs_in, 0) > worker.running.get(row.runs_in, 0)


async def due(deployment: Deployment) -> list[Finding]:
    """What is scheduled or retried starts in time."""
    if deployment.life is Life.STOPPED:
        return [fine("due", "no process runs")]
    late = await deployment.store.odd(Odd.DUE, LIMIT)
    if not late:
        return [fine("due", "nothing that is scheduled or retried is late")]

    async def promote() -> str:
        queued = 0
        while True:
            promoted = await deployment.store.promote(BATCH)
            queued += len(promoted.tickets)
            if not promoted.more:
                return f"queued {queued:,} jobs that were due"

    running = deployment.life is Life.RUNNING
    return [
        Finding(
            check="due",
            severity=Severity.PROBLEM,
            what=f"due for more than {LATE:g} s and not queued: {named(late)}",
            means="no scheduler promotes them",
            advice="restart the process that runs" if running else "",
            repair=None if running else Repair("promote", "queue everything that is due, once", promote),
            ids=late,
            lasting=True,
        )
    ]
