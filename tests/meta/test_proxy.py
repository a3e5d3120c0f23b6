"""The proxy does to connections what it says, and counts it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.throwaway.proxy import Proxy, ProxyThread


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """The port of a server that says again what it hears, until the client ends."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1_000):
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def proxy(echo: int) -> AsyncIterator[Proxy]:
    """One before it."""
    async with Proxy(echo) as opened:
        yield opened


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[int], Awaitable[Connection]]


@pytest.fixture
async def client() -> AsyncIterator[Connect]:
    """Makes connections, each used once already."""
    writers: list[asyncio.StreamWriter] = []

    async def connect(port: int) -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        assert await said(reader, writer, b"hello") == b"hello"
        return reader, writer

    yield connect
    for writer in writers:
        writer.close()


async def said(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, what: bytes) -> bytes:
    """What came back; `b""` where the connection ended."""
    writer.write(what)
    try:
        return await asyncio.wait_for(reader.read(1_000), 10)
    except ConnectionError:
        return b""


async def test_a_connection_is_cut(proxy: Proxy, client: Connect) -> None:
    """At once, or after so many bytes, the last ones included."""
    reader, writer = await client(proxy.port)
    proxy.cut()
    assert await said(reader, writer, b"again") == b""
    proxy.cut_after(5 + 3)
    reader, writer = await client(proxy.port)
    assert await said(reader, writer, b"again") == b"aga"
    assert await said(reader, writer, b"again") == b""
    assert proxy.faults == {"cut": 2, "cut after": 1}


async def test_a_word_is_stopped_or_its_answer_lost(proxy: Proxy, client: Connect) -> None:
    """Only where it stands."""
    proxy.stop_at(b"COMMIT")
    reader, writer = await client(proxy.port)
    assert await said(reader, writer, b"COMMIT") == b""
    proxy.lose(1, b"COMMIT")
    reader, writer = await client(proxy.port)
    assert await said(reader, writer, b"COMMIT") == b""
    reader, writer = await client(proxy.port)
    assert await said(reader, writer, b"COMMIT") == b"COMMIT"
    assert proxy.faults == {"stopped": 1, "lost": 1}


async def test_an_abandoned_client_hears_nothing_at_all(proxy: Proxy, client: Connect) -> None:
    """No answer and no end."""
    reader, writer = await client(proxy.port)
    proxy.abandon()
    writer.write(b"anybody?")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.2)
    assert proxy.faults["abandoned"] == 1
    assert (await client(proxy.port))[0]


async def test_what_passes_is_held_back(proxy: Proxy, client: Connect) -> None:
    """On the way there and on the way back."""
    reader, writer = await client(proxy.port)
    proxy.delay(0.1)
    asked = time.monotonic()
    assert await said(reader, writer, b"slowly") == b"slowly"
    assert time.monotonic() - asked >= 0.2
    assert proxy.faults["delayed"] == 2
    proxy.delay(0)
    proxy.trickle(60)
    asked = time.monotonic()
    assert await said(reader, writer, b"slowly") == b"slowly"
    assert time.monotonic() - asked >= 0.2


async def test_it_has_a_thread_of_its_own_for_tests_without_a_loop(echo: int, client: Connect) -> None:
    """And is driven from outside."""
    with ProxyThread(echo) as thread:
        reader, writer = await client(thread.port)
        await asyncio.to_thread(thread.do, Proxy.cut)
        assert await said(reader, writer, b"again") == b""
        assert thread.do(lambda proxy: proxy.faults["cut"]) == 2
