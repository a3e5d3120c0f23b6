"""Procrastinate: every row, change of state and event is committed; no value is stored.

As a script it makes its tables and submits COUNT jobs.
"""

import asyncio
import os
import sys

from mark import PAYLOAD, mark
from procrastinate import App, PsycopgConnector

app = App(connector=PsycopgConnector(conninfo=os.environ["PEER_POSTGRES"], min_size=4, max_size=20))


@app.task(name="noop", queue="bench")
async def noop(payload: dict) -> int:
    """The task."""
    return mark()


async def main(count: int) -> None:
    """Submit so many, 500 a statement."""
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for start in range(0, count, 500):
            jobs = min(500, count - start)
            await noop.batch_defer_async(*({"payload": PAYLOAD} for _ in range(jobs)))


if __name__ == "__main__":
    # A worker imports this module by its name.
    from procrastinate_app import main as imported

    asyncio.run(imported(int(sys.argv[1])))
