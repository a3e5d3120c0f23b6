"""The index of what lies in the object store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from taskflow.ports.store import ArtifactInfo, Segment
from taskflow.testing.memory.tables import Tables


class FilesPart:
    """The part of the store that finds objects."""

    _tables: Tables

    async def add_segments(self, segments: Sequence[Segment], *, now: datetime | None = None) -> None:  # noqa: ARG002 - the port's
        """Index log segments, each once."""
        for segment in segments:
            self._tables.segments.setdefault((segment.job_id, segment.epoch, segment.seq), segment)

    async def segments(self, job_id: str, epoch: int | None = None) -> list[Segment]:
        """Segments of a job in order."""
        return [
            segment
            for (owner, of, _), segment in sorted(self._tables.segments.items())
            if owner == job_id and epoch in (None, of)
        ]

    async def put_artifact(self, artifact: ArtifactInfo, *, now: datetime | None = None) -> None:
        """Index a file."""
        stamped = replace(artifact, created_at=self._tables.now(now))
        self._tables.artifacts[artifact.job_id, artifact.name] = stamped

    async def artifacts(self, job_id: str) -> list[ArtifactInfo]:
        """Files of a job by name."""
        return [found for (owner, _), found in sorted(self._tables.artifacts.items()) if owner == job_id]
