"""The API on a port, in a process of its own: for tools that speak HTTP. `python -m tests.api.server <directory>`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvicorn

from tests.api.house import opened
from tests.api.test_things import keep, write


async def serve(directory: Path) -> None:
    """Serve until killed; the port is printed."""
    async with opened(directory, wait_max=0.2, logs_wait=0.1) as house:
        for _ in range(5):
            done = await house.finished(tags=["red"])
            await write(house, done, 1, "a line")
            await keep(house, done, "default", b"a file")
            await house.failed()
            await house.submit()
        server = uvicorn.Server(uvicorn.Config(house.app, port=0, log_level="warning", lifespan="off"))
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.wait([serving], timeout=0.01)
        sys.stdout.write(f"{server.servers[0].sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()
        await serving


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
