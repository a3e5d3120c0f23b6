"""Objects that no row names, and their deletion: what is lost by it does not come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from taskflow.core.errors import ArtifactsUnavailable
from taskflow.core.ids import new_id
from taskflow.flow.doctor.deployment import LIMIT, Deployment
from taskflow.flow.doctor.findings import Finding, Repair, Severity, named
from taskflow.ports.artifacts import Listing

LISTED: Final = 10_000
PAGE: Final = 500
AT_ONCE: Final = 16
YOUNG: Final = timedelta(hours=1)
"""An object is stored before it is indexed; a store that is away may come between."""
FEW: Final = 10
SHARE: Final = 10
"""More unnamed objects than a few, and than one for so many named ones, look like somebody else's: none is deleted."""


@dataclass(slots=True)
class Seen:
    """What a listing showed. Objects that are too young to judge are listed, and neither named nor unnamed.

    Attributes:
        first: the first that no row names.
    """

    listed: int = 0
    named: int = 0
    unnamed: int = 0
    first: list[str] = field(default_factory=list)

    def told(self, deployment: Deployment, listing: Listing) -> Finding:
        """That some are unnamed; with their deletion, if they can only be ours."""
        foreign = self.unnamed > max(FEW, self.named / SHARE)
        return Finding(
            check="objects",
            severity=Severity.WARNING,
            what=f"older than an hour and named by no row: {named(self.first, self.unnamed)}",
            means="they cost room only: a file that was replaced, a process that died between a row's end and its object's",
            advice=f"{self.unnamed:,} are too many beside {self.named:,} old ones that rows name, and none is deleted "
            "here: another deployment may use this namespace and bucket, or the database may be a restored one; find out "
            "whose they are, and delete them by the store's own tools if they are nobody's"
            if foreign
            else "",
            ids=self.first,
            repair=None
            if foreign
            else Repair(
                "objects",
                f"delete {self.unnamed:,} objects that no row names",
                lambda: _delete(deployment, listing, self.unnamed),
            ),
        )


async def look(deployment: Deployment, listing: Listing) -> Seen:
    """List objects, and ask the store for those that are old."""
    seen = Seen()
    async for listed, old, unnamed in _pages(deployment, listing, await _old_since(deployment)):
        seen.listed += listed
        seen.named += old - len(unnamed)
        seen.unnamed += len(unnamed)
        seen.first += unnamed[: LIMIT - len(seen.first)]
    return seen


async def _delete(deployment: Deployment, listing: Listing, most: int) -> str:
    """Look anew, as whoever named one since is right, and delete no more than were told of."""
    since = await _old_since(deployment)
    gate = asyncio.Semaphore(AT_ONCE)

    async def deleted(key: str) -> bool:
        async with gate:
            now = await deployment.artifacts.stat(key)
            # Somebody may have stored it again, and name it in a moment.
            if now is None or now.modified is None or now.modified >= since:
                return False
            await deployment.artifacts.delete(key)
            return True

    gone = 0
    async for _, _, unnamed in _pages(deployment, listing, since):
        gone += sum(await asyncio.gather(*map(deleted, unnamed[: most - gone])))
    return f"deleted {gone:,} objects"


async def _pages(
    deployment: Deployment, listing: Listing, since: datetime
) -> AsyncIterator[tuple[int, int, Sequence[str]]]:
    """Page by page: how many objects were listed, how many of them are old, and which of these no row names."""
    for kind in ("logs", "artifacts"):
        seen, page, old = 0, 0, list[str]()
        async for found in listing.listed(f"{deployment.namespace}/{kind}/"):
            seen, page = seen + 1, page + 1
            if found.modified < since:
                old.append(found.key)
            if page == PAGE:
                yield page, len(old), await _unnamed(deployment, old)
                page, old = 0, []
            if seen == LISTED and not deployment.everything:
                break
        yield page, len(old), await _unnamed(deployment, old)


async def _unnamed(deployment: Deployment, keys: Sequence[str]) -> list[str]:
    known = await deployment.store.named(keys, jobs_of(deployment, keys)) if keys else set()
    return [key for key in keys if key not in known]


async def _old_since(deployment: Deployment) -> datetime:
    """What was stored before this is old. Only the store's own clock tells, by an object that it is given now."""
    key = f"{deployment.namespace}/.clock/{new_id()}"
    await deployment.artifacts.put(key, b"")
    try:
        now = await deployment.artifacts.stat(key)
    finally:
        await deployment.artifacts.delete(key)
    if now is None or now.modified is None:
        raise ArtifactsUnavailable("the object store does not tell when an object was stored")
    return now.modified - YOUNG


def jobs_of(deployment: Deployment, keys: Sequence[str]) -> list[str]:
    """The jobs of files by their keys `{namespace}/artifacts/{job}/…`; a log's key tells none."""
    files = f"{deployment.namespace}/artifacts/"
    return [key.removeprefix(files).partition("/")[0] for key in keys if key.startswith(files)]
