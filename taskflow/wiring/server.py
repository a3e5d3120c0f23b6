"""uvicorn as a guest: it serves on our loop, and leaves signals and exits to us."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import uvicorn

from taskflow.roles.stop import Stop
from taskflow.wiring.connection import Connection, Shared
from taskflow.wiring.listeners import BACKLOG, CannotBind

UNWINDING: Final = 2.0
"""Seconds that handlers get which were cancelled at the end of the graceful time."""


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.server_state = self._shared = Shared()
        self._over = asyncio.Event()

    def end(self) -> None:
        """Stop serving."""
        self.should_exit = True
        self._over.set()

    async def main_loop(self) -> None:
        # The original looks ten times a second whether it is over: most of what an idle process would do.
        await self.on_tick(0)
        await self._over.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._shared.leaving = True
        # A listener that is closed resets whom the system has let in and nobody has accepted yet.
        for server in self.servers:
            waiting = [socket.socket(fileno=os.dup(listener.fileno())) for listener in server.sockets]
            server.close()
            for given in sockets or ():
                given.close()
            for listener in waiting:
                await self._accept_the_rest(listener)
        await super().shutdown(sockets)

    async def _accept_the_rest(self, listener: socket.socket) -> None:
        accepted = []
        with listener, contextlib.suppress(OSError):
            listener.setblocking(False)
            while True:
                accepted.append(listener.accept()[0])
        for connection in accepted:
            with contextlib.suppress(OSError):
                await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> Connection:
        return Connection(self.config, self.server_state, self.lifespan.state)


class ApiServer:
    """Serves an ASGI app until told to stop.

    Args:
        listeners: to serve on instead of listening to host and port.
    """

    def __init__(
        self, app: Any, host: str, port: int, *, graceful: float, listeners: Sequence[socket.socket] = ()
    ) -> None:
        self._host = host
        self._port = port
        self._graceful = graceful
        self._listeners = list(listeners)
        self._server = _Server(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=max(1, round(graceful)),
                timeout_keep_alive=15,
                h11_max_incomplete_event_size=16 << 10,
                backlog=BACKLOG,
                http=Connection,
                ws="none",
                proxy_headers=False,
            )
        )

    def ready(self) -> str | None:
        """Why nobody is served, or `None` where they are."""
        return None if self._server.started and not self._server.should_exit else "not serving"

    @property
    def port(self) -> int:
        """The port that is bound (of use where 0 was asked for)."""
        for server in self._server.servers:
            for listener in server.sockets:
                return int(listener.getsockname()[1])
        return self._port

    async def run(self, stop: Stop, started: Callable[[], None]) -> None:
        """Serve until asked to stop and requests in flight are answered.

        Raises:
            CannotBind: the address cannot be bound; nothing was served.
        """
        serving = asyncio.create_task(self._serve())
        try:
            while not self._server.started:
                if serving.done():
                    await serving
                    raise CannotBind(self._host, self._port)
                await asyncio.wait([serving], timeout=0.01)
            started()
            asked = asyncio.create_task(stop.asked.wait())
            await asyncio.wait([serving, asked], return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
        finally:
            # Cancelling serve() would leave the port accepting: it ends by its own flag, within its graceful limit.
            self._server.end()
            await asyncio.wait([serving], timeout=self._graceful + 2)
            # uvicorn cancels what takes too long and waits no longer; what it uses must not be closed under it.
            if handlers := self._server.server_state.tasks:
                await asyncio.wait(handlers, timeout=UNWINDING)
        if serving.done():
            await serving

    async def _serve(self) -> None:
        try:
            await self._server.serve(self._listeners or None)
        except SystemExit:
            raise CannotBind(self._host, self._port) from None
