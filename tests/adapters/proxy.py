"""A TCP proxy that can stand between a client and a server, and fail as networks do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

Fault = Literal["none", "silent", "deaf"]


class Proxy:
    """Forwards bytes, until told otherwise.

    Attributes:
        fault: `silent` forwards nothing either way; `deaf` forwards what the client says, and cuts the client off when
            the server has answered.
        faults: how often it did.
    """

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._open: set[asyncio.StreamWriter] = set()
        self.fault: Fault = "none"
        self.faults = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._to)
        self._open |= {writer, back}
        try:
            await asyncio.gather(self._pump(reader, back), self._answer(there, writer))
        finally:
            for end in (writer, back):
                end.close()
                self._open.discard(end)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                if self.fault == "silent":
                    self.faults += 1
                    continue
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                if self.fault == "silent":
                    continue
                if self.fault == "deaf" and b"INSERT 0 " in data:
                    self.faults, self.fault = self.faults + 1, "none"
                    break
                writer.write(data)
                await writer.drain()
        writer.close()

    def cut(self) -> None:
        """End every connection."""
        for writer in self._open:
            writer.close()


@asynccontextmanager
async def proxied(host: str, port: int) -> AsyncIterator[tuple[Proxy, int]]:
    """A proxy to a server, and the port it listens on."""
    proxy = Proxy(host, port)
    server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
    try:
        yield proxy, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        proxy.cut()
