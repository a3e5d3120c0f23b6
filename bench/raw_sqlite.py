"""A raw SQLite loop that writes the same durable rows (WAL, synchronous=FULL): the least that any design on one file must do.

It inserts, claims and finishes in batches, in this process, without HTTP; it runs nothing and remembers nothing.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.systems import PAYLOAD
from taskflow.core.ids import new_id

NAME: Final = "raw SQLite loop"
BATCH: Final = 100
INSERT: Final = f"INSERT INTO jobs VALUES (?, 'queued', '{json.dumps(PAYLOAD)}', 0)"
CLAIM: Final = "UPDATE jobs SET state = 'running', epoch = epoch + 1 WHERE id = ?"
FINISH: Final = "INSERT INTO finished SELECT id, payload, 'null' FROM jobs WHERE id = ?"
FORGET: Final = "DELETE FROM jobs WHERE id = ?"


def raw_sqlite(directory: Path, jobs: int) -> dict[str, float]:
    """Rows a second: inserted; inserted, claimed and finished."""
    connection = sqlite3.connect(directory / "raw.db", isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE jobs (id TEXT PRIMARY KEY, state TEXT, payload TEXT, epoch INT)")
    connection.execute("CREATE TABLE finished (id TEXT PRIMARY KEY, payload TEXT, result TEXT)")
    ids = [(new_id(),) for _ in range(jobs)]

    def took(work: Callable[[list[tuple[str]]], object]) -> float:
        begun = time.perf_counter()
        for first in range(0, jobs, BATCH):
            connection.execute("BEGIN IMMEDIATE")
            work(ids[first : first + BATCH])
            connection.execute("COMMIT")
        return time.perf_counter() - begun

    def finish(keys: list[tuple[str]]) -> None:
        connection.executemany(FINISH, keys)
        connection.executemany(FORGET, keys)

    inserted = took(lambda keys: connection.executemany(INSERT, keys))
    claimed = took(lambda keys: connection.executemany(CLAIM, keys))
    finished = took(finish)
    connection.close()
    return {"submit": jobs / inserted, "end to end": jobs / (inserted + claimed + finished)}
