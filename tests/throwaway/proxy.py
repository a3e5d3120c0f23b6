"""A TCP proxy that does to a connection what networks do."""

from __future__ import annotations

import asyncio
import ssl
from types import TracebackType
from typing import Self


class Proxy:
    """Stands before a server on the loopback.

    Args:
        port: the server's.
        tls: speak TLS with clients, as the server does not.

    Attributes:
        port: where it listens.
        connections: how many were made through it.
        losing: so many answers are lost, each with its connection; the requests pass.
        silent: requests do not pass either; connections stay.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._target = port
        self._tls = tls
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.losing = 0
        self.silent = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.cut()
        if self._pumps:
            await asyncio.wait(self._pumps)

    def cut(self) -> None:
        """End every connection, as a reset does."""
        for writer in self._writers:
            writer.transport.abort()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        pump = asyncio.create_task(self._both(reader, writer))
        self._pumps.add(pump)
        pump.add_done_callback(self._pumps.discard)

    async def _both(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        there: asyncio.StreamWriter | None = None
        try:
            back, there = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(there)
            pumps = [
                asyncio.create_task(self._pump(reader, there, True)),
                asyncio.create_task(self._pump(back, writer)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)
        except OSError:
            pass
        finally:
            for end in {writer, there} - {None}:
                assert end is not None
                self._writers.discard(end)
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bool = False) -> None:
        try:
            while data := await reader.read(65_536):
                if self.silent:
                    continue
                if self.losing and not request:
                    self.losing -= 1
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
