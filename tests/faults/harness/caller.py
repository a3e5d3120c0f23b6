"""Makes one call of one port, as programs do that use an adapter by itself: `python -m … store.revision`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, Final

from taskflow.core.job import Lane, LaneKey
from taskflow.wiring import database
from taskflow.wiring.container import container_of
from taskflow.wiring.settings import load

ARGUMENTS: Final[dict[str, tuple[Any, ...]]] = {
    "artifacts.sign": ("some/key", 60.0),
    "broker.depth": (LaneKey("default", Lane.NORMAL),),
    "cache.delete": ("some key",),
}


async def call(port: str, method: str) -> None:
    """Open the adapter and call it."""
    environment = dict(os.environ)
    if method == "adopt":
        # Only who holds the lock of an embedded store may ask for it.
        environment["TASKFLOW_STORE_URL"] = f"sqlite:///{Path.cwd()}/adopted.db"
        await asyncio.to_thread(database.upgrade, environment["TASKFLOW_STORE_URL"])
    container = container_of(load("run", {}, environment, None).values)
    async with getattr(container, port)() as adapter:
        await getattr(adapter, method)(*ARGUMENTS.get(f"{port}.{method}", ()))


if __name__ == "__main__":
    asyncio.run(call(*sys.argv[1].split(".")))
