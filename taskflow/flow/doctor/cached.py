"""Whether cached documents say what the store says."""

from __future__ import annotations

from typing import Final

import orjson

from taskflow.core.job import State
from taskflow.core.limits import DEFAULT_TENANT
from taskflow.flow.doctor.deployment import Deployment
from taskflow.flow.doctor.findings import Finding, Repair, Severity, fine, named
from taskflow.ports.cache import Cache

NEWEST: Final = 200
IMMUTABLE: Final = frozenset({State.SUCCEEDED, State.CANCELLED, State.EXPIRED})


async def cached(deployment: Deployment) -> list[Finding]:
    """The documents of the newest jobs, where they are cached."""
    cache = deployment.cache
    if cache is None:
        return [fine("cached", "documents lie in the memory of a process")]
    there, wrong = 0, []
    for job_id, state, epoch in await deployment.store.newest(NEWEST):
        document = await cache.get(deployment.cache_key(job_id))
        there += document is not None
        if document is not None and not _fits(document, job_id, state, epoch):
            # It may have ended between the two looks.
            job = await deployment.store.get(DEFAULT_TENANT, job_id)
            if job is not None and not _fits(document, job_id, job.state, job.epoch):
                wrong.append(job_id)
    if not wrong:
        return [fine("cached", f"{there} documents of the newest {2 * NEWEST} jobs, and none is wrong")]

    return [
        Finding(
            check="cached",
            severity=Severity.PROBLEM,
            what=f"cached documents that the store contradicts: {named(wrong)}",
            means="clients are told a wrong state, for up to 10 minutes",
            advice="find out who else writes to this Redis, and whether two deployments share a namespace",
            ids=wrong,
            repair=Repair(
                "cache",
                f"delete {len(wrong):,} entries of the cache that differ from their rows",
                lambda: _forget(deployment, cache, wrong),
            ),
        )
    ]


async def _forget(deployment: Deployment, cache: Cache, wrong: list[str]) -> str:
    await cache.delete(*map(deployment.cache_key, wrong))
    return f"deleted {len(wrong)} cached documents"


def _fits(document: bytes, job_id: str, state: State, epoch: int) -> bool:
    try:
        told = orjson.loads(document)
        return state in IMMUTABLE and (told["id"], told["state"], told["epoch"]) == (job_id, state.value, epoch)
    except (ValueError, TypeError, KeyError):
        return False
