"""Objects: log segments and the files that handlers keep."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """Key and size in bytes of a stored object; `modified` is by the store's clock, `None` where it was not asked."""

    key: str
    size: int
    modified: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Listed:
    """A stored object as a listing shows it; `modified` is by the store's clock."""

    key: str
    size: int
    modified: datetime


class Artifacts(Protocol):
    """An object store. Keys are made by TaskFlow: `/`-separated, never from user text alone."""

    async def put(self, key: str, data: bytes) -> ObjectInfo:
        """Store bytes whole or not at all, replacing what was there.

        Raises:
            ArtifactsUnavailable: the store does not take it now.
        """
        ...

    async def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of an object, or of a range of it.

        Raises:
            NotFound: no such object.
            ArtifactsUnavailable: the store does not answer.
        """
        ...

    def open(self, key: str) -> AsyncIterator[bytes]:
        """The object in chunks; raises as `read` does, on the first step."""
        ...

    async def stat(self, key: str) -> ObjectInfo | None:
        """Key, size and when it was stored, or `None` where there is no such object."""
        ...

    async def delete(self, *keys: str) -> None:
        """Delete; a missing object is no error."""
        ...

    async def sign(self, key: str, seconds: float) -> str | None:
        """A URL that reads the object for a while, or `None` where the store cannot make one."""
        ...

    async def ping(self) -> None:
        """Raise `ArtifactsUnavailable` if the store does not answer."""
        ...


@runtime_checkable
class Listing(Protocol):
    """What an object store may have beside `Artifacts`. Only housekeeping asks for it."""

    def listed(self, prefix: str) -> AsyncIterator[Listed]:
        """Objects whose keys begin with `prefix`, which ends with `/`; raises `ArtifactsUnavailable`."""
        ...
