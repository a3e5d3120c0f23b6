"""An HTTP client that costs little: fixed requests over keep-alive connections, one at a time on each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Final, cast

import uvloop

CONNECTIONS: Final = 256
SILENCE: Final = 60.0
END_OF_HEAD: Final = b"\r\n\r\n"
LENGTH: Final = b"content-length:"


def post(path: str, body: bytes) -> bytes:
    """The bytes of a request."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + END_OF_HEAD + body


def send(port: int, request: bytes, times: int, *, accept: int, connections: int = CONNECTIONS) -> float:
    """Send a request so often, and wait for every answer.

    Args:
        accept: the only status that counts as an answer.

    Returns:
        Seconds from the first byte to the last answer.

    Raises:
        RuntimeError: another status, a closed connection, or silence.
    """
    return uvloop.run(_send(port, request, times, accept, connections))


async def _send(port: int, request: bytes, times: int, accept: int, connections: int) -> float:
    loop, left = asyncio.get_running_loop(), iter(range(times))
    clients = []
    for _ in range(min(connections, times)):
        _, client = await loop.create_connection(lambda: _Client(request, left, accept), "127.0.0.1", port)
        clients.append(client)
    begun = time.perf_counter()
    for client in clients:
        client.next()
    done, silent = await asyncio.wait([client.done for client in clients], timeout=SILENCE + times / 100)
    took = time.perf_counter() - begun
    for client in clients:
        client.close()
    if silent:
        raise RuntimeError(f"{len(silent)} of {len(clients)} connections were never answered")
    for error in [each.exception() for each in done]:
        if error is not None:
            raise error
    return took


def pace(port: int, make: Callable[[], bytes], rate: float, seconds: float, *, accept: int) -> None:
    """Send so many requests a second, each on time whether earlier ones are answered or not, and wait for every answer.

    Args:
        make: makes a request just before it leaves.
        accept: the only status that counts as an answer.

    Raises:
        RuntimeError: another status, a closed connection, or silence.
    """
    uvloop.run(_pace(port, make, rate, round(rate * seconds), accept))


async def _pace(port: int, make: Callable[[], bytes], rate: float, times: int, accept: int) -> None:
    loop = asyncio.get_running_loop()
    clients: list[_Paced] = []
    idle: list[_Paced] = []
    answers: list[asyncio.Future[None]] = []
    begun = loop.time()
    try:
        for number in range(times):
            await asyncio.sleep(begun + number / rate - loop.time())
            if not idle:
                _, client = await loop.create_connection(lambda: _Paced(idle, accept), "127.0.0.1", port)
                clients.append(client)
            answers.append(idle.pop().ask(make()))
        async with asyncio.timeout(SILENCE):
            await asyncio.gather(*answers)
    finally:
        for client in clients:
            client.close()


class _Client(asyncio.Protocol):
    """One connection: the next request leaves when the last answer is whole."""

    def __init__(self, request: bytes, left: Iterator[int], accept: int) -> None:
        self._request = request
        self._left = left
        self._accept = b"HTTP/1.1 %d" % accept
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(END_OF_HEAD)
        if not found:
            return
        length = head.lower().partition(LENGTH)[2].partition(b"\r")[0]
        if len(body) < int(length):
            return
        self._buffer = b""
        if not head.startswith(self._accept):
            self._end(RuntimeError(f"{head.splitlines()[0].decode()}: {body[:500].decode(errors='replace')}"))
            return
        self.next()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(RuntimeError(f"the server closed a connection ({error!r})"))

    def next(self) -> None:
        """Send the request once more, if it is still wanted."""
        assert self._transport is not None
        if next(self._left, None) is None:
            self._end(None)
        else:
            self._transport.write(self._request)

    def close(self) -> None:
        """Hang up."""
        assert self._transport is not None
        self._transport.close()

    def _end(self, error: Exception | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class _Paced(_Client):
    """One connection that waits to be told what to ask; the server may end it while it does."""

    def __init__(self, idle: list[_Paced], accept: int) -> None:
        super().__init__(b"", iter(()), accept)
        self._idle = idle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._idle.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self in self._idle:
            self._idle.remove(self)
        else:
            super().connection_lost(error)

    def ask(self, request: bytes) -> asyncio.Future[None]:
        """Send it; the future ends with its answer."""
        assert self._transport is not None
        self.done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self.done

    def next(self) -> None:
        self._end(None)
        self._idle.append(self)
