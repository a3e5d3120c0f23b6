"""What only PostgreSQL needs of the schema: room for rows that change, a vacuum that keeps up, more indexes, partitions."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

INDEXES: Final = frozenset({"ix_jobs_task", "ix_jobs_tags", "ix_finished_tags"})
"""Indexes that only PostgreSQL has; comparisons with the declared tables leave them out."""
STATEMENTS: Final = (
    # A row always finds a home, also where nobody has made the day's partition yet.
    "CREATE TABLE finished_default PARTITION OF finished DEFAULT",
    # Which tasks are queued is asked at every sweep, by one probe a task.
    "CREATE INDEX ix_jobs_task ON jobs (task) WHERE state = 'queued'",
    # Jobs without tags cost these indexes nothing.
    "CREATE INDEX ix_jobs_tags ON jobs USING gin ((tags::jsonb) jsonb_path_ops) WHERE tags <> '[]'",
    "CREATE INDEX ix_finished_tags ON finished USING gin ((tags::jsonb) jsonb_path_ops) WHERE tags <> '[]'",
    # A job's row is written three times and then leaves: vacuum by rows, not by a share of a table that may be huge.
    "ALTER TABLE jobs SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000)",
    "ALTER TABLE jobs SET (autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 1)",
    "ALTER TABLE workers SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200)",
    "ALTER TABLE upkeep SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200)",
)


def tune(connection: sa.Connection) -> None:
    """Make what only PostgreSQL has; it goes with its tables."""
    if connection.dialect.name == "postgresql":
        for statement in STATEMENTS:
            connection.execute(sa.text(statement.replace("::", "\\:\\:")))
