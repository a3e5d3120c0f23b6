"""A TCP proxy that does to a connection what networks do."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from types import TracebackType
from typing import Self


class Proxy:
    """Stands before a server.

    Args:
        port: the server's.
        host: the server's.
        tls: speak TLS with clients, as the server does not.

    Attributes:
        port: where it listens.
        accepted: how many connections clients made.
        swallowed: how many pieces of what clients said were thrown away.
        losing: so many answers will be lost yet.
    """

    def __init__(self, port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self._target = host, port
        self._tls = tls
        self._open = asyncio.Event()
        self._open.set()
        self._swallowing = False
        self._refusing = False
        self._lost_with = b""
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.accepted = 0
        self.swallowed = 0
        self.losing = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.cut()
        for pump in self._pumps:
            pump.cancel()
        if self._pumps:
            await asyncio.wait(self._pumps, timeout=5)

    def cut(self) -> None:
        """Reset every connection that is open now."""
        for writer in self._writers:
            writer.transport.abort()

    def refuse(self, refusing: bool = True) -> None:
        """Turn new connections away, or take them again."""
        self._refusing = refusing

    def freeze(self) -> None:
        """Pass nothing on, in either direction; nobody is told."""
        self._open.clear()

    def thaw(self) -> None:
        """Pass on what waited and what comes."""
        self._open.set()

    def swallow(self, swallowing: bool = True) -> None:
        """Throw away what clients say, as a network that drops packets one way."""
        self._swallowing = swallowing

    def lose(self, count: int = 1, containing: bytes = b"") -> None:
        """Lose so many answers, each with its connection; the requests have passed."""
        self.losing, self._lost_with = count, containing

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._refusing:
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, server_writer}
        self._writers |= both
        pumps = [
            asyncio.create_task(self._requests(reader, server_writer)),
            asyncio.create_task(self._answers(server_reader, writer)),
        ]
        self._pumps.update(pumps)
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        for each in both:
            each.transport.abort()
        self._writers -= both
        self._pumps.difference_update(pumps)

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._open.wait()
                if self._swallowing:
                    self.swallowed += 1
                    continue
                writer.write(data)
                await writer.drain()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._open.wait()
                if self.losing and self._lost_with in data:
                    self.losing -= 1
                    return
                writer.write(data)
                await writer.drain()
