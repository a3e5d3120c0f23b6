"""Objects by obstore. Stores differ in how they are opened and in what their errors mean."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Self

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from taskflow.core.errors import ArtifactsUnavailable, NotFound
from taskflow.ports.artifacts import Listed, ObjectInfo

DEADLINE: Final = 30.0
"""Seconds that one call, or one chunk, may take: a store may hang, and so may a directory on a network."""
CHUNK: Final = 1 << 20
PAGE: Final = 1_000
"""Objects of a listing that are asked for at a time."""


class ObjectArtifacts(ABC):
    """The objects of one store.

    Args:
        deadline: seconds that one call may take.
    """

    def __init__(self, deadline: float = DEADLINE) -> None:
        self._deadline = deadline
        self._opened: ObjectStore | None = None

    @abstractmethod
    def _open(self) -> ObjectStore:
        """The store; raises `ArtifactsUnavailable` where it can never work."""

    async def __aenter__(self) -> Self:
        self._opened = self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened = None

    async def put(self, key: str, data: bytes) -> ObjectInfo:
        """Store bytes; a reader sees the old object or the new one, never half of one."""
        async with self._mapped(key, "stored") as store:
            await obstore.put_async(store, key, data, use_multipart=False)
        return ObjectInfo(key, len(data))

    async def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of an object, or what there is of a range of it."""
        if offset == 0 and length is None:
            async with self._mapped(key, "read") as store:
                return bytes(await (await obstore.get_async(store, key)).bytes_async())
        if length == 0:
            return b""
        async with self._mapped(key, "read") as store:
            try:
                if length is None:
                    got = await obstore.get_async(store, key, options={"range": {"offset": offset}})
                    return bytes(await got.bytes_async())
                return bytes(await obstore.get_range_async(store, key, start=offset, length=length))
            except BaseError:
                # A range that begins behind the end is an error of the store, and an empty answer here.
                if offset >= (await obstore.head_async(store, key))["size"]:
                    return b""
                raise

    async def open(self, key: str) -> AsyncIterator[bytes]:
        """The object in chunks."""
        async with self._mapped(key, "read") as store:
            chunks = aiter((await obstore.get_async(store, key)).stream(min_chunk_size=CHUNK))
        while True:
            async with self._mapped(key, "read"):
                try:
                    chunk = bytes(await anext(chunks))
                except StopAsyncIteration:
                    return
            yield chunk

    async def stat(self, key: str) -> ObjectInfo | None:
        """Key, size and when it was stored, or `None`."""
        try:
            async with self._mapped(key, "looked up") as store:
                head = await obstore.head_async(store, key)
                return ObjectInfo(key, head["size"], head["last_modified"])
        except NotFound:
            return None

    async def delete(self, *keys: str) -> None:
        """Delete each; a missing one is no error."""
        for key in keys:
            try:
                async with self._mapped(key, "deleted") as store:
                    await obstore.delete_async(store, key)
            except NotFound:
                continue

    async def listed(self, prefix: str) -> AsyncIterator[Listed]:
        """What lies below a prefix, page by page."""
        async with self._mapped(prefix, "listed") as store:
            pages = obstore.list(store, prefix, chunk_size=PAGE)
        while True:
            async with self._mapped(prefix, "listed"):
                try:
                    page = await anext(pages)
                except StopAsyncIteration:
                    return
            for found in page:
                yield Listed(found["path"], found["size"], found["last_modified"])

    async def sign(self, key: str, seconds: float) -> str | None:
        """Not every store has URLs."""
        return None

    async def ping(self) -> None:
        """Write and delete a small object."""
        await self.put(".ping", b"")
        await self.delete(".ping")

    def _unusable(self, error: Exception) -> str | None:
        """Why the whole store cannot be used, where an error tells that."""
        return None

    def _reason(self, error: Exception) -> str:
        """An error in one line."""
        return str(error).partition("\n")[0]

    @asynccontextmanager
    async def _mapped(self, key: str, done: str) -> AsyncIterator[ObjectStore]:
        """The store within a deadline; its errors become ours."""
        if self._opened is None:
            raise ArtifactsUnavailable("the object store is not open")
        try:
            async with asyncio.timeout(self._deadline):
                yield self._opened
        except TimeoutError:
            raise ArtifactsUnavailable(f"object {key} was not {done} within {self._deadline:g} s") from None
        except (BaseError, OSError) as error:
            if why := self._unusable(error):
                raise ArtifactsUnavailable(why) from None
            if isinstance(error, FileNotFoundError):
                raise NotFound(f"there is no object {key}") from None
            raise ArtifactsUnavailable(f"object {key} was not {done}: {self._reason(error)}") from None
