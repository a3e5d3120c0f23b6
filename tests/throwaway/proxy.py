"""A TCP proxy that does to a connection what networks do."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import parse_qs, urlsplit

T = TypeVar("T")
PORTS: Final = {"postgresql": 5432, "amqp": 5672, "redis": 6379, "http": 80}
"""Where a server listens whose URL names no port."""


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
        faults: how often each of its tricks met a connection: a test that met none proves nothing.
    """

    def __init__(self, port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self._target = host, port
        self._tls = tls
        self._open = asyncio.Event()
        self._open.set()
        self._swallowing = False
        self._refusing = False
        self._lost_with = b""
        self._stopping = 0
        self._stopped_at = b""
        self._allowance: int | None = None
        self._delay = 0.0
        self._rate = 0.0
        self.faults: Counter[str] = Counter()
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._pairs: dict[asyncio.StreamWriter, asyncio.StreamWriter] = {}
        self._abandoned: set[asyncio.StreamWriter] = set()
        self.accepted = 0
        self.swallowed = 0
        self.losing = 0

    @classmethod
    def before(cls, url: str, tls: ssl.SSLContext | None = None) -> Self:
        """One that stands before the server of a URL."""
        host, port = address_of(url)
        return cls(port, host, tls)

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
            self.faults["cut"] += 1
            writer.transport.abort()

    def cut_after(self, size: int | None) -> None:
        """Reset each connection when it has brought so many bytes more of answers; `None`: no more."""
        self._allowance = size

    def abandon(self) -> None:
        """Half-open: the server sees every connection end, the clients see nothing and hear nothing ever."""
        for client, server in self._pairs.items():
            self.faults["abandoned"] += 1
            self._abandoned.add(client)
            server.transport.abort()

    def delay(self, seconds: float) -> None:
        """Hold back whatever passes, in either direction, for so long."""
        self._delay = seconds

    def trickle(self, rate: float) -> None:
        """Hold back what passes as a line of so many bytes a second does; 0: as fast as it comes."""
        self._rate = rate

    def refuse(self, refusing: bool = True) -> None:
        """Turn new connections away, or take them again."""
        self._refusing = refusing

    def part(self) -> None:
        """Reset every connection, and let no new one be made."""
        self.refuse()
        self.cut()

    def lead(self, port: int) -> None:
        """Bring connections that are made from now on to another port."""
        self._target = self._target[0], port

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

    def stop_at(self, containing: bytes, count: int = 1) -> None:
        """Reset connections that are about to say something, so often; the server never hears it."""
        self._stopping, self._stopped_at = count, containing

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            if self._refusing:
                self.faults["refused"] += 1
                return
            with contextlib.suppress(OSError):
                server_reader, server_writer = await asyncio.open_connection(*self._target)
                await self._join(reader, writer, server_reader, server_writer)
        finally:
            writer.transport.abort()

    async def _join(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        both = {writer, server_writer}
        self._writers |= both
        self._pairs[writer] = server_writer
        pumps = [
            asyncio.create_task(self._requests(reader, server_writer)),
            asyncio.create_task(self._answers(server_reader, writer)),
        ]
        self._pumps.update(pumps)
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            if writer in self._abandoned:
                await asyncio.wait(pumps)
                while await reader.read(65_536):
                    pass
        finally:
            server_writer.transport.abort()
            self._writers -= both
            self._abandoned.discard(writer)
            del self._pairs[writer]
            self._pumps.difference_update(pumps)

    async def _hold(self, what: str, size: int) -> None:
        """As long as the network does."""
        delay = self._delay + (size / self._rate if self._rate else 0.0)
        if delay:
            self.faults["delayed"] += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), delay)
        if not self._open.is_set():
            self.faults[f"frozen {what}"] += 1
            await self._open.wait()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._hold("requests", len(data))
                if self._swallowing:
                    self.swallowed += 1
                    self.faults["swallowed"] += 1
                    continue
                if self._stopping and self._stopped_at in data:
                    self._stopping -= 1
                    self.faults["stopped"] += 1
                    return
                writer.write(data)
                await writer.drain()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = 0
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._hold("answers", len(data))
                if self.losing and self._lost_with in data:
                    self.losing -= 1
                    self.faults["lost"] += 1
                    return
                if self._allowance is not None and (sent := sent + len(data)) > self._allowance:
                    self.faults["cut after"] += 1
                    writer.write(data[: len(data) - (sent - self._allowance)])
                    await writer.drain()
                    return
                writer.write(data)
                await writer.drain()


class ProxyThread:
    """A `Proxy` with a loop of its own, for tests that drive processes and have none.

    Attributes:
        port: where it listens.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._target = port, host
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="proxy")

    @classmethod
    def before(cls, url: str) -> Self:
        """One that stands before the server of a URL."""
        host, port = address_of(url)
        return cls(port, host)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    def do(self, act: Callable[[Proxy], T]) -> T:
        """Do something with the proxy, in its thread: `proxy.do(Proxy.cut)`."""

        async def acting() -> T:
            return act(self._proxy)

        return asyncio.run_coroutine_threadsafe(acting(), self._loop).result(10)

    @property
    def faults(self) -> Counter[str]:
        """How often each trick has met a connection so far."""
        return self.do(lambda proxy: proxy.faults.copy())

    async def _run(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with Proxy(*self._target) as self._proxy:
            self.port = self._proxy.port
            self._ready.set()
            await self._over.wait()


def address_of(url: str) -> tuple[str, int]:
    """Host and port of the server of a URL; for a bucket, of its endpoint."""
    parts = urlsplit(_server_of(url))
    return parts.hostname or "127.0.0.1", parts.port or PORTS[parts.scheme]


def through(url: str, proxy: Proxy | ProxyThread) -> str:
    """The same URL by way of a proxy, for the same user."""
    there = urlsplit(_server_of(url)).netloc
    user = "".join(there.rpartition("@")[:2])
    assert f"//{there}" in url
    return url.replace(f"//{there}", f"//{user}127.0.0.1:{proxy.port}")


def _server_of(url: str) -> str:
    return parse_qs(urlsplit(url).query).get("endpoint", [url])[0]
