"""Every table, declared once for both databases; the migrations are compared with it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from taskflow.core.limits import LEASE_SECONDS_MAX, LEASE_SECONDS_MIN, TIMEOUT_SECONDS_MAX

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)

metadata: Final = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Instant(sa.types.TypeDecorator[datetime]):
    """An aware instant: `timestamptz` on PostgreSQL, whole microseconds since 1970 on SQLite, which has no such type."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """The column type of a dialect."""
        return dialect.type_descriptor(sa.BigInteger() if dialect.name == "sqlite" else sa.DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        """What is stored."""
        return to_micros(value) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        """What is read."""
        return from_micros(value) if dialect.name == "sqlite" else value


def to_micros(value: datetime | None) -> int | None:
    """Whole microseconds since 1970 of an aware instant."""
    return None if value is None else (value - EPOCH) // MICROSECOND


def from_micros(value: int | None) -> datetime | None:
    """The instant of whole microseconds since 1970."""
    return None if value is None else EPOCH + timedelta(microseconds=value)


Json: Final = sa.Text().with_variant(JSONB(), "postgresql")
LIVE: Final = "'scheduled','waiting','queued','running','retrying','failed'"
COUNTED: Final = 2_000_000_000
DONE: Final = "'succeeded','cancelled','expired'"


def _document() -> list[sa.Column[Any]]:
    """The columns that a job keeps from submit to retention."""
    return [
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("lane", sa.SmallInteger, nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("runs_in", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("crashes", sa.Integer, nullable=False),
        sa.Column("interruptions", sa.Integer, nullable=False),
        sa.Column("timeout", sa.Double, nullable=False),
        sa.Column("run_at", Instant),
        sa.Column("expires_at", Instant),
        # Texts as they came, to the byte: jsonb would reorder members and change numbers.
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("progress", sa.Text),
        sa.Column("worker_id", sa.Text),
        sa.Column("cancel_requested_at", Instant),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("started_at", Instant),
    ]


def _partial(name: str, where: str, *columns: str) -> sa.Index:
    """An index over some rows. Its predicate is a literal: a planner does not match a parameter with it."""
    return sa.Index(name, *columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


jobs: Final = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    *_document(),
    sa.Column("finished_at", Instant),
    sa.Column("attempt_base", sa.Integer, nullable=False),
    sa.Column("snoozes", sa.Integer, nullable=False),
    sa.Column("queued_at", Instant),
    sa.Column("deadline_at", Instant),
    sa.CheckConstraint(f"state IN ({LIVE})", name="state"),
    sa.CheckConstraint("priority BETWEEN 0 AND 9 AND lane BETWEEN 0 AND 2", name="priority"),
    sa.CheckConstraint("attempt >= 0 AND epoch >= 0 AND max_attempts BETWEEN 1 AND 1000", name="counts"),
    sa.CheckConstraint("runs_in IN ('async','thread','process')", name="runs_in"),
    sa.Index("ix_jobs_list", "tenant", "created_at", "id"),
    _partial("ix_jobs_due", "state IN ('scheduled','retrying')", "run_at"),
    _partial("ix_jobs_queued", "state = 'queued'", "queue", "lane", "queued_at", "id"),
    _partial("ix_jobs_suspect", "state = 'queued' AND crashes >= 2", "queue", "lane", "queued_at", "id"),
    _partial("ix_jobs_running", "state = 'running'", "worker_id"),
    _partial("ix_jobs_waiting", "state = 'waiting'", "task"),
    _partial("ix_jobs_failed", "state = 'failed'", "tenant", "created_at", "id"),
    _partial("ix_jobs_expires", "expires_at IS NOT NULL", "expires_at"),
)

SOUND: Final = (
    " AND ".join(
        f"({check.sqltext})"
        for check in sorted(jobs.constraints, key=lambda constraint: str(constraint.name))
        if isinstance(check, sa.CheckConstraint) and "state" not in str(check.sqltext)
    )
    # Not every database keeps fractions out of a whole number.
    + f" AND lane IN (0,1,2) AND attempt < {COUNTED} AND epoch < {COUNTED}"
)
"""What the table itself demands of a row, as a condition: a statement over many rows leaves alone what it could not
change, such as a row that was spoilt by hand while the checks were off. Otherwise one of them would stop all others."""


def runnable(first: str, last: str) -> str:
    """What a claim demands of a row beside that: it is read as a whole, and must be sound, dated and counted to be read.

    Args:
        first: the earliest instant that a `datetime` can be, as a literal of the database.
        last: the latest one.
    """
    counters = ("attempt_base", "run", "crashes", "interruptions", "snoozes")
    counted = " AND ".join(f"{name} BETWEEN 0 AND {COUNTED}" for name in counters)
    # Neither a text nor what is no number lies between two numbers.
    return f"{SOUND} AND created_at BETWEEN {first} AND {last} AND timeout BETWEEN 0 AND {TIMEOUT_SECONDS_MAX} AND {counted}"


finished: Final = sa.Table(
    "finished",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    *_document(),
    sa.Column("finished_at", Instant, primary_key=True),
    sa.Column("result", sa.Text),
    sa.CheckConstraint(f"state IN ({DONE})", name="state"),
    sa.Index("ix_finished_list", "tenant", "created_at", "id"),
    sa.Index("ix_finished_finished_at", "finished_at"),
    postgresql_partition_by="RANGE (finished_at)",
)

attempts: Final = sa.Table(
    "attempts",
    metadata,
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("finished_at", Instant, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("worker", sa.Text, nullable=False),
)

idempotency: Final = sa.Table(
    "idempotency",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("route", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("job_id", sa.Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Index("ix_idempotency_expires_at", "expires_at"),
    sa.Index("ix_idempotency_job_id", "job_id"),
)

workers: Final = sa.Table(
    "workers",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("queues", Json, nullable=False),
    sa.Column("tasks", Json, nullable=False),
    sa.Column("slots", Json, nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("heartbeat_at", Instant, nullable=False),
    sa.Column("lease", sa.Double, nullable=False, server_default=sa.text("30")),
    sa.CheckConstraint("state IN ('alive','stopped','dead')", name="state"),
)

LEASE: Final = (
    f"CASE WHEN lease BETWEEN {LEASE_SECONDS_MIN} AND {LEASE_SECONDS_MAX} THEN lease ELSE {LEASE_SECONDS_MAX} END"
)
"""Seconds of silence after which a row's worker is dead. A lease that no worker can have was spoilt by hand: nobody knows
how long that worker goes on, but none goes on for longer than the longest one."""

tasks: Final = sa.Table(
    "tasks",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("queue", sa.Text, nullable=False),
    sa.Column("runs_in", sa.Text, nullable=False),
    sa.Column("schema", sa.Text, nullable=False),
    sa.Column("timeout", sa.Double, nullable=False),
    sa.Column("max_attempts", sa.Integer, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
)

queues: Final = sa.Table(
    "queues",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("pause_reason", sa.Text),
)

log_segments: Final = sa.Table(
    "log_segments",
    metadata,
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("object", sa.Text, nullable=False),
    sa.Column("start", sa.BigInteger, nullable=False),
    sa.Column("length", sa.BigInteger, nullable=False),
    sa.Column("truncated", sa.Boolean, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Index("ix_log_segments_object", "object"),
)

artifacts: Final = sa.Table(
    "artifacts",
    metadata,
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("object", sa.Text, nullable=False),
    sa.Column("content_type", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
)

upkeep: Final = sa.Table(
    "upkeep",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("last_sweep_at", Instant, nullable=False),
    sa.Column("watched_since", Instant, nullable=False),
)
