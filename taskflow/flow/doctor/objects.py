"""Whether rows and objects fit together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from taskflow.core.errors import ArtifactsUnavailable
from taskflow.flow.doctor.deployment import Deployment
from taskflow.flow.doctor.findings import Finding, Repair, Severity, fine, named
from taskflow.ports.artifacts import Listing

NEWEST: Final = 1_000
LISTED: Final = 10_000
PAGE: Final = 500
AT_ONCE: Final = 16
YOUNG: Final = timedelta(hours=1)
"""An object is stored before it is indexed; a store that is away may come between."""
STRANGE: Final = 100
"""More unnamed objects than this, and than named ones, look like somebody else's: none is deleted."""


async def objects(deployment: Deployment) -> list[Finding]:
    """Every object that a row names is there, and every old one is named."""
    try:
        missing, looked = await _missing(deployment)
        found = [] if not missing else [_gone(missing)]
        said = [f"all {looked:,} that rows name are there{'' if deployment.everything else ' (the newest)'}"]
        if isinstance(deployment.artifacts, Listing):
            unnamed, listed = await _unnamed(deployment, deployment.artifacts)
            found += [] if not unnamed else [_spare(deployment, unnamed, listed)]
            said.append(f"none of {listed:,} is unnamed and old{'' if listed < 2 * LISTED else ' (the first)'}")
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


def _spare(deployment: Deployment, unnamed: Sequence[str], listed: int) -> Finding:
    foreign = len(unnamed) > max(STRANGE, listed - len(unnamed))

    async def delete() -> str:
        gone = 0
        for page in _pages(unnamed):
            # Somebody may have named one since.
            kept = await deployment.store.named(page, _jobs(deployment, page))
            await deployment.artifacts.delete(*(key for key in page if key not in kept))
            gone += len(page) - len(kept)
        return f"deleted {gone:,} objects"

    return Finding(
        check="objects",
        severity=Severity.WARNING,
        what=f"older than an hour and named by no row: {named(unnamed)}",
        means="they cost room only: a file that was replaced, a process that died between a row's end and its object's",
        advice="these are most of what is there: another deployment may use this namespace and bucket, or the database "
        "may be a restored one; none is deleted here"
        if foreign
        else "",
        ids=unnamed,
        repair=None if foreign else Repair("objects", "delete them", delete),
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
        still = await deployment.store.named(lost, _jobs(deployment, lost)) if lost else set()
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


async def _unnamed(deployment: Deployment, listing: Listing) -> tuple[list[str], int]:
    """Old objects that no row names, and how many were listed."""
    old_since = datetime.now(UTC) - YOUNG
    unnamed: list[str] = []
    listed = 0
    for kind in ("logs", "artifacts"):
        seen, old = 0, []
        async for found in listing.listed(f"{deployment.namespace}/{kind}/"):
            seen += 1
            if found.modified < old_since:
                old.append(found.key)
            if seen == LISTED and not deployment.everything:
                break
        listed += seen
        for page in _pages(old):
            known = await deployment.store.named(page, _jobs(deployment, page))
            unnamed += [key for key in page if key not in known]
    return unnamed, listed


def _pages(keys: Sequence[str]) -> list[Sequence[str]]:
    return [keys[start : start + PAGE] for start in range(0, len(keys), PAGE)]


def _jobs(deployment: Deployment, keys: Sequence[str]) -> list[str]:
    """The jobs of files by their keys `{namespace}/artifacts/{job}/…`; a log's key tells none."""
    files = f"{deployment.namespace}/artifacts/"
    return [key.removeprefix(files).partition("/")[0] for key in keys if key.startswith(files)]
