"""The API's server takes its leave: no request that reached it is lost, no connection is reset under an answer."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from taskflow.roles.stop import Stop
from taskflow.testing.facts import until
from taskflow.wiring.connection import HEAD
from taskflow.wiring.listeners import CannotBind
from taskflow.wiring.server import ApiServer

LARGE = 4 << 20


class App:
    """Answers `GET /`; `/held` when told, `/endless` never, and a `POST` without reading it."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked = 0
        self.held = 0
        self.ended = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        self.asked += 1
        if scope["path"] == "/held":
            self.held += 1
            await self.go.wait()
        if scope["path"] == "/endless":
            self.held += 1
            try:
                await asyncio.Event().wait()
            finally:
                # As a handler that gives a connection back to its pool.
                asyncio.get_running_loop().call_later(0.3, self.go.set)
                await self.go.wait()
                self.ended += 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})


class House:
    """A running server."""

    def __init__(self, graceful: float) -> None:
        self.app, self.stop = App(), Stop()
        self.connections: list[socket.socket] = []
        self.server = ApiServer(self.app, "127.0.0.1", 0, graceful=graceful)

    def connect(self) -> socket.socket:
        """At once, whatever the loop does."""
        made = socket.create_connection(("127.0.0.1", self.server.port), timeout=10)
        made.setblocking(False)
        self.connections.append(made)
        return made


@asynccontextmanager
async def serving(graceful: float = 5.0) -> AsyncIterator[House]:
    """Stopped at the end."""
    house, started = House(graceful), asyncio.Event()
    running = asyncio.create_task(house.server.run(house.stop, started.set))
    await started.wait()
    try:
        yield house
    finally:
        house.stop.asked.set()
        await running
        for connection in house.connections:
            connection.close()


def request(path: str = "/", more: str = "", method: str = "GET") -> bytes:
    """Its bytes."""
    return f"{method} {path} HTTP/1.1\r\nHost: here\r\n{more}\r\n".encode()


async def say(connection: socket.socket, data: bytes) -> None:
    """Send all of it."""
    await asyncio.get_running_loop().sock_sendall(connection, data)


async def hear(connection: socket.socket, ending: bytes = b"hello") -> bytes:
    """Up to the end of an answer."""
    data = b""
    while not data.endswith(ending):
        piece = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(connection, 65_536), 10)
        assert piece, data
        data += piece
    return data


async def rest(connection: socket.socket) -> bytes:
    """Up to the end of the connection; a reset is an error."""
    data = b""
    while piece := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(connection, 65_536), 10):
        data += piece
    return data


async def stopped(house: House) -> None:
    """Ask for a stop, and wait until nobody is let in any more."""
    address = ("127.0.0.1", house.server.port)

    def refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(address) != 0

    house.stop.asked.set()
    await until(refused)


async def test_a_request_on_an_idle_connection_is_answered_after_the_stop() -> None:
    """It was on its way; the answer says that it is the last."""
    async with serving() as house:
        connection = house.connect()
        await say(connection, request())
        assert b"close" not in await hear(connection)
        await stopped(house)
        await say(connection, request())
        answer = await rest(connection)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer


async def test_a_request_in_flight_is_answered() -> None:
    """Also the one whose head was not whole at the stop."""
    async with serving() as house:
        held, half, idle = house.connect(), house.connect(), house.connect()
        whole = request()
        await say(held, request("/held"))
        await say(half, whole[:9])
        await until(lambda: house.app.held)
        await stopped(house)
        assert await rest(idle) == b""  # by now all are closed that have nothing to do
        house.app.go.set()
        await say(half, whole[9:])
        for connection in (held, half):
            answer = await rest(connection)
            assert answer.endswith(b"hello")
            assert b"connection: close" in answer


async def test_requests_behind_one_in_flight_are_answered_too() -> None:
    """In their order, and only the last answer says close."""
    async with serving() as house:
        connection = house.connect()
        await say(connection, request("/held") + request() * 3)
        await until(lambda: house.app.held)
        await stopped(house)
        house.app.go.set()
        answers = (await rest(connection)).split(b"HTTP/1.1 200")[1:]
        assert [answer.endswith(b"hello") for answer in answers] == [True] * 4
        assert [b"connection: close" in answer for answer in answers] == [False] * 3 + [True]


async def test_an_idle_connection_does_not_hold_up_the_stop() -> None:
    """It ends without a reset after a moment."""
    async with serving(graceful=9) as house:
        fresh, used = house.connect(), house.connect()
        await say(used, request())
        await hear(used)
        house.stop.asked.set()
        async with asyncio.timeout(4):
            assert await rest(fresh) == b""
            assert await rest(used) == b""


async def test_who_was_let_in_and_not_yet_accepted_is_served() -> None:
    """The system takes connections before the server does, and resets them when a listener is closed."""
    async with serving() as house:
        connections = [house.connect() for _ in range(50)]
        for connection in connections:
            connection.send(request())
        # The loop had no turn since.
        closing = asyncio.create_task(house.server._server.shutdown())
        answers = await asyncio.gather(*map(rest, connections))
        assert all(answer.endswith(b"hello") for answer in answers)
        await closing


@pytest.mark.parametrize("turns", range(12))
async def test_who_comes_in_the_midst_of_the_stop_is_told_too(turns: int) -> None:
    """In whichever turn of the loop: told nothing it would go on, be cut off in the end, and hold up the stop until then."""
    async with serving(graceful=9) as house:
        house.stop.asked.set()
        for _ in range(turns):
            await checkpoint()
        with suppress(ConnectionRefusedError):
            connection = house.connect()
            async with asyncio.timeout(4):
                assert await rest(connection) == b""


async def test_who_gave_up_before_being_accepted_keeps_nobody_waiting() -> None:
    """What a reset connection brought can still be read: thousands of such requests would be worked off for nobody."""
    async with serving() as house:
        for _ in range(50):
            gone = house.connect()
            gone.send(request())
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.close()
        connection = house.connect()
        connection.send(request())
        assert (await hear(connection)).endswith(b"hello")
        assert house.app.asked == 1


async def test_an_answer_to_a_request_that_was_not_read_arrives() -> None:
    """A reset because of its unread body would overtake it."""
    async with serving() as house:
        connection = house.connect()
        head = request("/", f"Content-Length: {LARGE}\r\nConnection: close\r\n", "POST")
        sending = asyncio.create_task(say(connection, head + bytes(LARGE)))
        await asyncio.wait([sending])
        assert (await rest(connection)).endswith(b"hello")


async def test_half_a_request_does_not_hold_up_the_stop() -> None:
    """Its client may have died; a whole one would have come within a moment."""
    async with serving(graceful=60) as house:
        await say(house.connect(), b"GET / HTTP/1.1\r\nHost: he")
        await until(lambda: len(house.server._server.server_state.connections) == 1)
        began = time.monotonic()
    assert time.monotonic() - began < HEAD + 5


async def test_nor_does_half_a_request_that_comes_after_it() -> None:
    """On a connection that is kept for a moment."""
    async with serving(graceful=60) as house:
        idle = house.connect()
        await until(lambda: len(house.server._server.server_state.connections) == 1)
        await stopped(house)
        await say(idle, b"GET / HTTP/1.1\r\nHost: he")
        began = time.monotonic()
    assert time.monotonic() - began < HEAD + 5


async def test_an_answer_to_a_client_that_talked_nonsense_goes_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """It was told 400 and hung up on while its first request was being answered; that is no error of ours."""
    async with serving() as house:
        connection = house.connect()
        await say(connection, request("/held"))
        await until(lambda: house.app.held == 1)
        await say(connection, b"\0 nonsense\r\n\r\n")
        assert b"400" in await rest(connection)
        house.app.go.set()
        await until(lambda: not house.server._server.server_state.tasks)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_handlers_have_ended_when_the_server_has() -> None:
    """Those too that were cancelled at the end of the graceful time: what they use is closed next."""
    async with serving(graceful=1) as house:
        connection = house.connect()
        await say(connection, request("/endless"))
        await until(lambda: house.app.held)
    assert house.app.ended == 1


def packets(connection: socket.socket) -> int:
    """How many with data have come, as Linux counts them (`tcpi_data_segs_in`)."""
    [count] = struct.unpack_from("I", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160), 152)
    return int(count)


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="asks Linux")
async def test_the_head_of_an_answer_and_its_body_share_a_packet() -> None:
    """Each costs the system as much as reading the request."""
    async with serving() as house:
        connection = house.connect()
        for count in (1, 2, 3):
            await say(connection, request())
            await hear(connection)
            assert packets(connection) == count


async def test_an_address_that_is_taken_is_told() -> None:
    """In words, and not by uvicorn's way out of the process."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = ApiServer(App(), "127.0.0.1", taken.getsockname()[1], graceful=1)
        with pytest.raises(CannotBind, match=r"in use or not an address of this machine; use another --port"):
            await asyncio.wait_for(server.run(Stop(), lambda: None), 10)
