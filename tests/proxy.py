"""A TCP proxy that fails on demand: between a client and a real server, it cuts, freezes or swallows."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from types import TracebackType
from typing import Self


class Proxy:
    """Forwards to `host:port` from a port of its own, which speaks TLS where it is given a context.

    `cut` drops every connection, `refuse` turns new ones away, `freeze` keeps them open and passes nothing on (what was
    read meanwhile is passed on by `thaw`), `swallow` reads and throws away what the client says.
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._target = host, port
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._swallowing = False
        self._refusing = False
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.accepted = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for pump in self._pumps:
            pump.cancel()
        if self._pumps:
            await asyncio.wait(self._pumps, timeout=5)

    @property
    def connections(self) -> int:
        """Client connections that are open now."""
        return len(self._writers) // 2

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
            asyncio.create_task(self._pump(reader, server_writer, said_by_client=True)),
            asyncio.create_task(self._pump(server_reader, writer, said_by_client=False)),
        ]
        self._pumps.update(pumps)
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        for each in both:
            each.transport.abort()
        self._writers -= both
        self._pumps.difference_update(pumps)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, said_by_client: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._open.wait()
                if not (self._swallowing and said_by_client):
                    writer.write(data)
                    await writer.drain()
