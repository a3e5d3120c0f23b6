"""PgQueuer: all tables logged, done rows written in batches within 0.1 s; no value is stored.

`python pgqueuer_app.py fill COUNT` makes its tables and submits; `work` runs them, with uvloop, as its own command line does.
"""

import asyncio
import json
import logging
import os
import signal
import sys

import asyncpg
import uvloop
from mark import PAYLOAD, mark
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

DATABASE = os.environ["PEER_POSTGRES"]
BYTES = json.dumps(PAYLOAD).encode()


async def fill(count: int) -> None:
    """Submit so many, 500 a statement."""
    connection = await asyncpg.connect(DATABASE)
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    for start in range(0, count, 500):
        jobs = min(500, count - start)
        await queries.enqueue(["noop"] * jobs, [BYTES] * jobs, [0] * jobs)
    await connection.close()


async def work() -> None:
    """Run them."""
    logging.getLogger("pgqueuer").setLevel(logging.WARNING)
    queuer = PgQueuer(AsyncpgDriver(await asyncpg.connect(DATABASE)))

    @queuer.entrypoint("noop")
    async def noop(job: Job) -> None:
        mark()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queuer.shutdown.set)
    await queuer.run(batch_size=100)


if sys.argv[1] == "fill":
    uvloop.run(fill(int(sys.argv[2])))
else:
    uvloop.run(work())
