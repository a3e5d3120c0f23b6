"""What hangs on a job in other tables, and goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from taskflow.adapters.sql.postgres.database import Connection

SIDES: Final = """
WITH asked AS MATERIALIZED (SELECT unnest($1::text[]) AS id),
closed AS (DELETE FROM attempts USING asked WHERE job_id = asked.id),
keys AS (DELETE FROM idempotency USING asked WHERE job_id = asked.id),
lines AS (DELETE FROM log_segments USING asked WHERE job_id = asked.id RETURNING object),
files AS (DELETE FROM artifacts USING asked WHERE job_id = asked.id RETURNING object)
SELECT object FROM lines UNION SELECT object FROM files"""
STILL_NAMED: Final = "SELECT DISTINCT object FROM log_segments WHERE object = ANY($1::text[])"


async def delete_sides(connection: Connection, job_ids: Sequence[str]) -> list[str]:
    """Delete what hangs on jobs, inside the caller's transaction; returns the objects that no row names any more."""
    if not job_ids:
        return []
    objects = [row["object"] for row in await connection.fetch(SIDES, sorted(job_ids))]
    if not objects:
        return []
    still = {row["object"] for row in await connection.fetch(STILL_NAMED, objects)}
    return [name for name in objects if name not in still]
