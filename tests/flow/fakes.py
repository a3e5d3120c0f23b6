"""An object store, an index, followers and deliveries in memory, some of which fail when told to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from taskflow.core.errors import ArtifactsUnavailable, DataRejected, NotFound
from taskflow.core.job import Ticket
from taskflow.ports.artifacts import ObjectInfo
from taskflow.ports.store import ArtifactInfo, Segment


class Objects:
    """Artifacts in a dict; `error` is raised by puts while it is set."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.puts = 0
        self.error: Exception | None = None

    async def put(self, key: str, data: bytes) -> ObjectInfo:
        self.puts += 1
        if self.error is not None:
            raise self.error
        self.kept[key] = data
        return ObjectInfo(key, len(data))

    async def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        if key not in self.kept:
            raise NotFound(key)
        return self.kept[key][offset : None if length is None else offset + length]

    async def open(self, key: str) -> AsyncIterator[bytes]:
        yield await self.read(key)

    async def stat(self, key: str) -> ObjectInfo | None:
        return ObjectInfo(key, len(self.kept[key])) if key in self.kept else None

    async def delete(self, *keys: str) -> None:
        for key in keys:
            self.kept.pop(key, None)

    async def sign(self, key: str, seconds: float) -> str | None:
        return None

    async def ping(self) -> None:
        if self.error is not None:
            raise ArtifactsUnavailable(str(self.error))


class Index:
    """Files in lists; a batch with a job in `refused` is rejected whole."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int, int], Segment] = {}
        self.files: dict[tuple[str, str], ArtifactInfo] = {}
        self.refused: set[str] = set()

    async def add_segments(self, segments: Sequence[Segment], *, now: datetime | None = None) -> None:
        if any(segment.job_id in self.refused for segment in segments):
            raise DataRejected("no such thing can be stored")
        for segment in segments:
            self.rows.setdefault((segment.job_id, segment.epoch, segment.seq), segment)

    async def segments(self, job_id: str, epoch: int | None = None) -> list[Segment]:
        rows = [self.rows[key] for key in sorted(self.rows)]
        return [row for row in rows if row.job_id == job_id and epoch in (None, row.epoch)]

    async def put_artifact(self, artifact: ArtifactInfo, *, now: datetime | None = None) -> None:
        self.files[artifact.job_id, artifact.name] = artifact

    async def artifacts(self, job_id: str) -> list[ArtifactInfo]:
        return [artifact for (owner, _), artifact in sorted(self.files.items()) if owner == job_id]


class Followers:
    """Events that are only counted."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bytes]] = []

    async def publish(self, topic: str, body: bytes) -> None:
        self.told.append((topic, body))

    async def publish_all(self, messages: Sequence[tuple[str, bytes]]) -> None:
        self.told += messages

    @asynccontextmanager
    async def subscribe(self, *topics: str) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
        async def nothing() -> AsyncIterator[tuple[str, bytes]]:
            nobody_says: list[tuple[str, bytes]] = []
            for pair in nobody_says:
                yield pair

        yield nothing()

    async def ping(self) -> None:
        """Always answers."""


class Message:
    """A delivery that counts its acks."""

    def __init__(self, *tickets: Ticket) -> None:
        self.tickets: Sequence[Ticket] = tickets
        self.acks = 0

    async def ack(self) -> None:
        self.acks += 1


async def text_of(index: Index, objects: Objects, job_id: str, epoch: int | None = None) -> bytes:
    """A job's log as a reader finds it."""
    parts = [await objects.read(s.object, s.offset, s.length) for s in await index.segments(job_id, epoch)]
    return b"".join(parts)
