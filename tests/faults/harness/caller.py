"""Makes one call of one port, as programs do that use an adapter by itself: `python -m … store.revision`."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from pathlib import Path
from typing import Any, Final

from taskflow.core.job import Lane, LaneKey
from taskflow.ports.audit import Odd
from taskflow.wiring import database
from taskflow.wiring.container import container_of
from taskflow.wiring.settings import load

LANE: Final = LaneKey("default", Lane.NORMAL)
ARGUMENTS: Final[dict[str, tuple[Any, ...]]] = {
    "artifacts.sign": ("some/key", 60.0),
    "artifacts.listed": ("some/",),
    "broker.dead": (),
    "broker.depth": (LANE,),
    "broker.standing": (LANE,),
    "cache.delete": ("some key",),
    "store.adopt": (),
    "store.file_objects": (10,),
    "store.fronts": (10,),
    "store.log_objects": (10,),
    "store.named": (["some/key"], []),
    "store.newest": (10,),
    "store.odd": (Odd.ORPHAN_RUN, 10),
    "store.revision": (),
    "store.standing": (),
}
"""What no process calls by itself: offered to programs, to the embedded mode, or to the doctor."""


async def call(port: str, method: str) -> None:
    """Open the adapter and call it."""
    environment = dict(os.environ)
    if method == "adopt":
        # Only who holds the lock of an embedded store may ask for it.
        environment["TASKFLOW_STORE_URL"] = f"sqlite:///{Path.cwd()}/adopted.db"
        await asyncio.to_thread(database.upgrade, environment["TASKFLOW_STORE_URL"])
    container = container_of(load("run", {}, environment, None).values)
    async with getattr(container, port)() as adapter:
        made = getattr(adapter, method)(*ARGUMENTS[f"{port}.{method}"])
        if inspect.isawaitable(made):
            await made
        else:
            async for _ in made:
                pass


if __name__ == "__main__":
    asyncio.run(call(*sys.argv[1].split(".")))
