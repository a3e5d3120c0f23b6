"""The index of what lies in the object store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from taskflow.adapters.sql.postgres.database import ASKED_SECONDS, Database
from taskflow.adapters.sql.postgres.rows import CLOCK
from taskflow.ports.store import ArtifactInfo, Segment

ADD_SEGMENTS: Final = f"""
WITH {CLOCK}
INSERT INTO log_segments (job_id, epoch, seq, object, start, length, truncated, created_at)
SELECT asked.*, now FROM clock, unnest($2::text[], $3::int[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[],
    $8::bool[]) AS asked (job_id, epoch, seq, object, start, length, truncated)
ORDER BY job_id, epoch, seq ON CONFLICT DO NOTHING"""
SEGMENTS: Final = """
SELECT job_id, epoch, seq, object, start AS "offset", length, truncated FROM log_segments
WHERE job_id = $1 AND ($2::int IS NULL OR log_segments.epoch = $2) ORDER BY epoch, seq"""
PUT_ARTIFACT: Final = """
INSERT INTO artifacts (created_at, job_id, name, object, content_type, size, sha256)
VALUES (coalesce($1::timestamptz, clock_timestamp()), $2, $3, $4, $5, $6, $7)
ON CONFLICT (job_id, name) DO UPDATE SET object = excluded.object, content_type = excluded.content_type,
    size = excluded.size, sha256 = excluded.sha256, created_at = excluded.created_at"""
ARTIFACTS: Final = """
SELECT job_id, name, object, content_type, size, sha256, created_at FROM artifacts WHERE job_id = $1 ORDER BY name"""


class FilesPart:
    """The part of the store that finds objects."""

    _db: Database

    async def add_segments(self, segments: Sequence[Segment], *, now: datetime | None = None) -> None:
        """Index log segments."""
        rows = [(s.job_id, s.epoch, s.seq, s.object, s.offset, s.length, s.truncated) for s in segments]
        if rows:
            await self._db.fetch(ADD_SEGMENTS, now, *(list(column) for column in zip(*rows, strict=True)))

    async def segments(self, job_id: str, epoch: int | None = None) -> list[Segment]:
        """Segments of a job in order."""
        rows = await self._db.fetch(SEGMENTS, job_id, epoch, within=ASKED_SECONDS)
        return [Segment(**row) for row in rows]

    async def put_artifact(self, artifact: ArtifactInfo, *, now: datetime | None = None) -> None:
        """Index a file."""
        a = artifact
        await self._db.fetch(PUT_ARTIFACT, now, a.job_id, a.name, a.object, a.content_type, a.size, a.sha256)

    async def artifacts(self, job_id: str) -> list[ArtifactInfo]:
        """Files of a job."""
        return [ArtifactInfo(**row) for row in await self._db.fetch(ARTIFACTS, job_id, within=ASKED_SECONDS)]
