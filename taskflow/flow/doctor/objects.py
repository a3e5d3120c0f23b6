"""Whether rows and objects fit together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from taskflow.core.errors import ArtifactsUnavailable
from taskflow.flow.doctor.deployment import Deployment
from taskflow.flow.doctor.findings import Finding, Severity, fine, named
from taskflow.flow.doctor.unnamed import AT_ONCE, LISTED, PAGE, jobs_of, look
from taskflow.ports.artifacts import Listing

NEWEST: Final = 1_000


async def objects(deployment: Deployment) -> list[Finding]:
    """Every object that a row names is there, and every old one is named."""
    try:
        missing, looked = await _missing(deployment)
        found = [] if not missing else [_gone(missing)]
        said = [f"all {looked:,} that rows name are there{'' if deployment.everything else ' (the newest)'}"]
        if isinstance(deployment.artifacts, Listing):
            seen = await look(deployment, deployment.artifacts)
            found += [] if not seen.unnamed else [seen.told(deployment, deployment.artifacts)]
            said.append(
                f"none of {seen.listed:,} is unnamed and old{'' if seen.listed < 2 * LISTED else ' (the first)'}"
            )
    except ArtifactsUnavailable as error:
        return [
            Finding(
                check="objects",
                severity=Severity.WARNING,
                what=f"could not be looked at: {error}",
                means="log lines wait in spools",
                advice="see what is said of the artifacts above",
            )
        ]
    return found or [fine("objects", "; ".join(said))]


def _gone(missing: Sequence[str]) -> Finding:
    return Finding(
        check="objects",
        severity=Severity.PROBLEM,
        what=f"named by rows and not there: {named(missing)}",
        means="these log lines and files are lost; the logs say `truncated`, the jobs are as they were",
        advice="restore them from a backup, and find out who deletes objects: a life-cycle rule of the bucket, maybe",
        ids=missing,
    )


async def _missing(deployment: Deployment) -> tuple[list[str], int]:
    """Objects that are not there though rows name them, and how many were looked at."""
    gate = asyncio.Semaphore(AT_ONCE)
    missing: list[str] = []
    looked = 0

    async def gone(key: str) -> bool:
        async with gate:
            return await deployment.artifacts.stat(key) is None

    async for page in _indexed(deployment):
        looked += len(page)
        lost = [key for key, is_gone in zip(page, await asyncio.gather(*map(gone, page)), strict=True) if is_gone]
        # Retention deletes the rows first.
        still = await deployment.store.named(lost, jobs_of(deployment, lost)) if lost else set()
        missing += [key for key in lost if key in still]
    return missing, looked


async def _indexed(deployment: Deployment) -> AsyncIterator[list[str]]:
    limit = PAGE if deployment.everything else NEWEST
    last: str | None = None
    while logs := await deployment.store.log_objects(limit, last):
        yield logs
        last = logs[-1]
        if not deployment.everything:
            break
    at: tuple[str, str] | None = None
    while files := await deployment.store.file_objects(limit, at):
        yield [key for _, key in files]
        at = files[-1][0]
        if not deployment.everything:
            break
