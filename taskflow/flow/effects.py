"""What a run may do to the outside: lines, progress, files. One object for all runs of a worker."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final, Protocol

from taskflow.core.errors import NotFound
from taskflow.core.job import Claim
from taskflow.core.limits import is_name
from taskflow.flow import capture
from taskflow.flow.progress import ProgressWriter
from taskflow.ports.artifacts import Artifacts
from taskflow.ports.store import ArtifactInfo, Files
from taskflow.tasks import jsontext

NAME_LENGTH: Final = 512


class Lines(Protocol):
    """Takes log lines of runs, from any thread."""

    def append(self, job_id: str, epoch: int, line: bytes) -> None:
        """Keep one NDJSON line."""
        ...


class RunEffects:
    """Writes for runs, each by its claim."""

    def __init__(
        self, lines: Lines, progress: ProgressWriter, files: Files, artifacts: Artifacts, namespace: str
    ) -> None:
        self._lines = lines
        self._progress = progress
        self._files = files
        self._artifacts = artifacts
        self._namespace = namespace

    def log(self, claim: Claim, level: str, message: str, fields: Mapping[str, Any], source: str) -> None:
        """Keep one line; from any thread."""
        self._lines.append(claim.id, claim.epoch, capture.line(claim.epoch, level, message, fields, source))

    def raw_line(self, claim: Claim, line: bytes) -> None:
        """Keep a line that a child process made."""
        self._lines.append(claim.id, claim.epoch, line)

    def progress(self, claim: Claim, fraction: float, message: str | None) -> None:
        """Remember how far a run is; from any thread."""
        text = jsontext.dumps(
            {"fraction": fraction, "message": None if message is None else jsontext.escaped(str(message))[:1_000]}
        )
        self._progress.note(claim.id, claim.epoch, claim.worker, text)

    async def put(self, claim: Claim, name: str, data: bytes, content_type: str) -> None:
        """Keep a file of the job.

        Raises:
            ValueError: the name is none.
            ArtifactsUnavailable: the object store does not take it.
        """
        parts = name.split("/")
        if len(name) > NAME_LENGTH or not all(is_name(part) and set(part) != {"."} for part in parts):
            raise ValueError(
                f"the artifact name {name[:100]!r} must be parts of letters, digits, '.', '_', ':' or '-' with '/' between"
            )
        digest = hashlib.sha256(data).hexdigest()
        key = f"{self._namespace}/artifacts/{claim.id}/{claim.epoch}-{digest[:16]}/{name}"
        await self._artifacts.put(key, data)
        kind = jsontext.escaped(content_type)[:200]
        await self._files.put_artifact(
            ArtifactInfo(job_id=claim.id, name=name, object=key, content_type=kind, size=len(data), sha256=digest)
        )

    async def get(self, claim: Claim, name: str) -> bytes:
        """Read a file of the job.

        Raises:
            NotFound: it has none of this name.
        """
        for artifact in await self._files.artifacts(claim.id):
            if artifact.name == name:
                return await self._artifacts.read(artifact.object)
        raise NotFound(f"job {claim.id} has no artifact {name!r}")
