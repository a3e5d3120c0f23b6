"""uvicorn as a guest: it serves on our loop, and leaves signals and exits to us."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from taskflow.core.errors import TaskFlowError
from taskflow.roles.stop import Stop

STARTUP: float = 10.0


class CannotBind(TaskFlowError):
    """The address is taken or not ours."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class ApiServer:
    """Serves an ASGI app until told to stop."""

    def __init__(self, app: Any, host: str, port: int, *, graceful: float) -> None:
        self._host = host
        self._port = port
        self._graceful = graceful
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
                backlog=2048,
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
            for socket in server.sockets:
                return int(socket.getsockname()[1])
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
                    raise CannotBind(f"cannot listen on {self._host}:{self._port}")
                await asyncio.wait([serving], timeout=0.01)
            started()
            asked = asyncio.create_task(stop.asked.wait())
            await asyncio.wait([serving, asked], return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
        finally:
            # Cancelling serve() would leave the port accepting: it ends by its own flag, within its graceful limit.
            self._server.should_exit = True
            await asyncio.wait([serving], timeout=self._graceful + 2)
        if serving.done():
            await serving

    async def _serve(self) -> None:
        try:
            await self._server.serve()
        except SystemExit:
            raise CannotBind(
                f"cannot listen on {self._host}:{self._port}: it is in use or not an address of this machine; "
                "use another --port or --host"
            ) from None
