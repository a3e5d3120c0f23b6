"""Objects in a directory, by obstore; other stores of obstore differ in how they are opened only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore

from taskflow.core.errors import ArtifactsUnavailable, NotFound
from taskflow.ports.artifacts import ObjectInfo

DEADLINE: Final = 30.0
"""Seconds that one call, or one chunk, may take: a directory may lie on a network that hangs."""
CHUNK: Final = 1 << 20


class ObjectArtifacts:
    """The objects below a `file:///` directory.

    Args:
        root: the directory; made when opened, readable by its owner only.
        deadline: seconds that one call may take.
    """

    def __init__(self, root: Path, deadline: float = DEADLINE) -> None:
        self._root = root
        self._deadline = deadline
        self._opened: LocalStore | None = None

    @classmethod
    def from_url(cls, url: str, **_: Any) -> Self:
        """The store of a `file:///absolute/directory` URL.

        Raises:
            ValueError: the URL names a host or no directory.
        """
        parts = urlsplit(url)
        path = unquote(parts.path)
        if parts.scheme != "file" or parts.netloc not in {"", "localhost"} or not path.strip("/"):
            raise ValueError(f"{url!r} is no directory's URL: use file:///absolute/directory")
        return cls(Path(path))

    async def __aenter__(self) -> Self:
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ArtifactsUnavailable(f"the directory {self._root} cannot be made: {error.strerror}") from error
        self._opened = LocalStore(self._root)
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
        """Key and size, or `None`."""
        try:
            async with self._mapped(key, "looked up") as store:
                return ObjectInfo(key, (await obstore.head_async(store, key))["size"])
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

    async def sign(self, key: str, seconds: float) -> str | None:
        """A directory has no URLs."""
        return None

    async def ping(self) -> None:
        """Write and delete a small object."""
        await self.put(".ping", b"")
        await self.delete(".ping")

    @asynccontextmanager
    async def _mapped(self, key: str, done: str) -> AsyncIterator[LocalStore]:
        """The store within a deadline; its errors become ours."""
        if self._opened is None:
            raise ArtifactsUnavailable("the object store is not open")
        try:
            async with asyncio.timeout(self._deadline):
                yield self._opened
        except FileNotFoundError:
            raise NotFound(f"there is no object {key}") from None
        except TimeoutError:
            raise ArtifactsUnavailable(f"object {key} was not {done} within {self._deadline:g} s") from None
        except (BaseError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise ArtifactsUnavailable(f"object {key} was not {done}: {reason}") from error
