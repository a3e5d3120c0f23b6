"""The monitor's server: beside whatever roles a process has, or beside none in the parent of a crew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from taskflow.roles.stop import Stop
from taskflow.wiring.listeners import CannotBind
from taskflow.wiring.settings import Settings

GRACEFUL: Final = 1.0


@asynccontextmanager
async def monitored(settings: Settings, ask: Callable[[], Awaitable[dict[str, str | None]]]) -> AsyncIterator[None]:
    """Answer who asks how this process is, where the settings name an address for it.

    Args:
        ask: why each role does not work, `None` where it does.

    Raises:
        CannotBind: the address cannot be bound.
    """
    if settings["monitor.address"] is None:
        yield
        return
    # The parent of a crew has no other use for them, and they are large.
    from taskflow.roles.api.monitor import create_monitor  # noqa: PLC0415
    from taskflow.wiring.server import ApiServer  # noqa: PLC0415

    host, port = settings["monitor.address"]
    server = ApiServer(create_monitor(ask), host, port, graceful=GRACEFUL)
    stop, started = Stop(), asyncio.Event()
    serving = asyncio.create_task(server.run(stop, started.set))
    starting = asyncio.create_task(started.wait())
    await asyncio.wait([serving, starting], return_when=asyncio.FIRST_COMPLETED)
    starting.cancel()
    if serving.done():
        try:
            await serving
        except CannotBind as error:
            raise CannotBind(host, port, "monitor.address") from error
    try:
        yield
    finally:
        stop.ask()
        await serving
