"""How the lanes stand at the broker."""

from __future__ import annotations

from typing import Final

from taskflow.core.errors import BrokerUnavailable
from taskflow.core.job import Lane, LaneKey
from taskflow.flow.doctor.deployment import Deployment
from taskflow.flow.doctor.findings import Finding, Severity, fine, named
from taskflow.flow.doctor.workers import fresh

MANY: Final = 1_000
"""Messages beyond the queued rows of a queue that are worth a word."""
QUEUES: Final = 100


async def lanes(deployment: Deployment) -> list[Finding]:
    """Each lane that a live worker serves has a consumer; nothing lies among the dead letters."""
    broker = deployment.broker
    if broker is None:
        return [fine("lanes", "tickets lie in the memory of a process")]
    living = fresh((await deployment.store.standing()).workers)
    queues = (await deployment.store.queues())[:QUEUES]
    unserved, spare, waiting, there = [], [], 0, False
    try:
        for queue in queues:
            served = not queue.paused and any(
                not worker.info.queues or queue.name in worker.info.queues for worker in living
            )
            stands = {lane: await broker.standing(LaneKey(queue.name, lane)) for lane in Lane}
            there = there or any(stands.values())
            ready = sum(standing.ready for standing in stands.values() if standing)
            waiting += ready
            if not queue.depth_capped and ready > queue.depth + MANY:
                spare.append(f"{queue.name} ({ready:,} messages for {queue.depth:,} rows)")
            unserved += [
                f"{queue.name}.{lane.name.lower()}"
                for lane, standing in stands.items()
                if served and (standing is None or not standing.consumers)
            ]
        dead = await broker.dead()
    except BrokerUnavailable as error:
        return [
            Finding(
                check="lanes",
                severity=Severity.WARNING,
                what=f"could not be looked at: {error}",
                means="jobs are drawn from the table, more slowly",
                advice="see what is said of the broker above",
            )
        ]
    found = []
    if unserved:
        found.append(
            Finding(
                check="lanes",
                severity=Severity.PROBLEM,
                what=f"nobody consumes, though workers serve them: {named(unserved)}",
                means="their jobs are drawn from the table, more slowly",
                advice="look for `queue … exists with other arguments` and for a lost link in the workers' logs"
                if there
                else await _elsewhere(deployment),
                ids=unserved,
                lasting=True,
            )
        )
    if dead:
        found.append(
            Finding(
                check="lanes",
                severity=Severity.WARNING,
                what=f"{dead:,} messages lie in the broker's dead-letter queue",
                means="they could not be read, or were given up on; no job is lost by that: its row is drawn",
                advice="look at them, find who published them, and purge the queue; they go by themselves after 7 days",
            )
        )
    more = f"; more tickets than rows, which is harmless: {named(spare)}" if spare else ""
    return found or [fine("lanes", f"{waiting:,} messages wait, and each lane that is served has a consumer{more}")]


async def _elsewhere(deployment: Deployment) -> str:
    """What to do where the broker has no queue of this namespace at all. Names of objects begin with that of who stored them."""
    theirs = {key.partition("/")[0] for key in await deployment.store.log_objects(1)} - {deployment.namespace}
    logs = f"; logs of this store lie below {theirs.pop()!r}" if theirs else ""
    return (
        f"the broker has no queue of the namespace {deployment.namespace!r}: compare `namespace` and broker.url with the "
        f"settings of the workers, and examine it by theirs{logs}"
    )
