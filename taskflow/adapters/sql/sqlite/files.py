"""The index of what lies in the object store."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from taskflow.adapters.sql.sqlite.database import Database
from taskflow.adapters.sql.sqlite.rows import instant
from taskflow.ports.store import ArtifactInfo, Segment

ADD_SEGMENT: Final = """
INSERT INTO log_segments (job_id, epoch, seq, object, start, length, truncated, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"""
PUT_ARTIFACT: Final = """
INSERT INTO artifacts (job_id, name, object, content_type, size, sha256, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (job_id, name) DO UPDATE SET object = excluded.object, content_type = excluded.content_type,
    size = excluded.size, sha256 = excluded.sha256, created_at = excluded.created_at"""


class FilesPart:
    """The part of the store that finds objects."""

    _db: Database

    async def add_segments(self, segments: Sequence[Segment], *, now: datetime | None = None) -> None:
        """Index log segments."""

        def work(connection: sqlite3.Connection) -> None:
            moment = self._db.now(now)
            connection.executemany(
                ADD_SEGMENT,
                [(s.job_id, s.epoch, s.seq, s.object, s.offset, s.length, s.truncated, moment) for s in segments],
            )

        await self._db.write(work)

    async def segments(self, job_id: str, epoch: int | None = None) -> list[Segment]:
        """Segments of a job in order."""

        def work(connection: sqlite3.Connection) -> list[Segment]:
            found = connection.execute(
                "SELECT * FROM log_segments WHERE job_id = ?1 AND (?2 IS NULL OR epoch = ?2) ORDER BY epoch, seq",
                (job_id, epoch),
            ).fetchall()
            return [
                Segment(
                    job_id=row["job_id"],
                    epoch=row["epoch"],
                    seq=row["seq"],
                    object=row["object"],
                    offset=row["start"],
                    length=row["length"],
                    truncated=bool(row["truncated"]),
                )
                for row in found
            ]

        return await self._db.read(work)

    async def put_artifact(self, artifact: ArtifactInfo, *, now: datetime | None = None) -> None:
        """Index a file."""
        a = artifact
        await self._db.write(
            lambda connection: (
                connection.execute(
                    PUT_ARTIFACT, (a.job_id, a.name, a.object, a.content_type, a.size, a.sha256, self._db.now(now))
                ).rowcount
            )
        )

    async def artifacts(self, job_id: str) -> list[ArtifactInfo]:
        """Files of a job."""

        def work(connection: sqlite3.Connection) -> list[ArtifactInfo]:
            found = connection.execute("SELECT * FROM artifacts WHERE job_id = ? ORDER BY name", (job_id,)).fetchall()
            return [
                ArtifactInfo(
                    job_id=row["job_id"],
                    name=row["name"],
                    object=row["object"],
                    content_type=row["content_type"],
                    size=row["size"],
                    sha256=row["sha256"],
                    created_at=instant(row["created_at"]),
                )
                for row in found
            ]

        return await self._db.read(work)
