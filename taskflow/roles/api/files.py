"""Artifacts: the files that a job's handler kept."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from starlette.requests import Request

from taskflow.core.limits import DEFAULT_TENANT
from taskflow.ports.store import ArtifactInfo
from taskflow.roles.api import schemas
from taskflow.roles.api.answer import NO_CACHE, Answer, json_answer, matches
from taskflow.roles.api.deps import ApiDeps
from taskflow.roles.api.documents import artifact_document, listed
from taskflow.roles.api.jobs import job_id_of
from taskflow.roles.api.operation import Media, Parameter, op
from taskflow.roles.api.problems import not_found

_TYPE: Final = re.compile(r"[\w.+-]+/[\w.+-]+(?:; ?[\w-]+=[\w.+-]+)*", re.ASCII)
OCTETS: Final = "application/octet-stream"


class FileRoutes:
    """Artifacts of jobs."""

    def __init__(self, deps: ApiDeps) -> None:
        self._deps = deps

    @op("List a job's artifacts", tag="artifacts", answers={200: schemas.ArtifactList}, problems=(404, 503))
    async def index(self, request: Request) -> Answer:
        """Files that the handler kept, by name."""
        found = await self._artifacts(job_id_of(request))
        return json_answer(listed([artifact_document(artifact) for artifact in found]))

    @op(
        "Download an artifact",
        tag="artifacts",
        answers={200: Media(("*/*",)), 304: None},
        parameters=[Parameter("If-None-Match", {"type": "string"}, "ETag of what the client has.", "header")],
        problems=(404, 503),
        headers={200: {"ETag": "SHA-256 of the content.", "Content-Disposition": "Always `attachment`."}},
    )
    async def download(self, request: Request) -> Answer:
        """The content as an attachment."""
        job_id, name = job_id_of(request), request.path_params["name"]
        wanted = [artifact for artifact in await self._artifacts(job_id) if artifact.name == name]
        if not wanted:
            raise not_found(f"artifact {name[:200]!r} of job {job_id}")
        artifact = wanted[0]
        etag = f'"{artifact.sha256}"'.encode()
        if matches(request.headers.get("if-none-match"), etag):
            return Answer(304, headers=(NO_CACHE, (b"etag", etag)))
        stream = self._deps.artifacts.open(artifact.object)
        # The first chunk is read before the answer begins, so that a missing object is a 404 and an outage a 503.
        first = await anext(stream, b"")
        headers = (
            (b"content-type", _content_type(artifact).encode()),
            (b"content-length", b"%d" % artifact.size),
            (b"content-disposition", _disposition(name).encode()),
            (b"content-security-policy", b"sandbox; default-src 'none'"),
            (b"etag", etag),
            NO_CACHE,
        )
        return Answer(200, first, headers, stream)

    async def _artifacts(self, job_id: str) -> list[ArtifactInfo]:
        found = await self._deps.store.artifacts(job_id)
        if not found and await self._deps.store.get(DEFAULT_TENANT, job_id) is None:
            raise not_found(f"job {job_id}")
        return found


def _content_type(artifact: ArtifactInfo) -> str:
    return artifact.content_type if _TYPE.fullmatch(artifact.content_type) else OCTETS


def _disposition(name: str) -> str:
    return f"attachment; filename*=UTF-8''{quote(name.rsplit('/', 1)[-1], safe='')}"
