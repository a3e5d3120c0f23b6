"""A page of jobs: the one statement that is put together from what is asked, by SQLAlchemy."""

from __future__ import annotations

from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql.asyncpg import dialect

from taskflow.adapters.sql.postgres.rows import SHARED
from taskflow.adapters.sql.tables import finished, jobs
from taskflow.core.job import State
from taskflow.ports.store import JobQuery

DONE_STATES: Final = frozenset({State.SUCCEEDED, State.CANCELLED, State.EXPIRED})
LIVE_STATES: Final = frozenset(State) - DONE_STATES
_DIALECT: Final = dialect()  # type: ignore[no-untyped-call]
_SHOWN: Final = [name for name in SHARED if name not in {"lane", "runs_in"}]


def page(query: JobQuery) -> tuple[str, list[Any]]:
    """The statement of a page and its values."""
    # Each side is cut before they are merged, so that a page costs two index ranges.
    sides = [
        _side(query, table, query.states & held)
        for table, held in ((jobs, LIVE_STATES), (finished, DONE_STATES))
        if not query.states or query.states & held
    ]
    merged = sa.union_all(*sides).subquery("merged")
    statement = sa.select(merged).order_by(*_order(query, merged)).limit(query.limit)
    return compiled(statement)


def compiled(statement: sa.sql.ClauseElement) -> tuple[str, list[Any]]:
    """A statement as the driver takes it, and its values in order."""
    made = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    return str(made), [made.params[name] for name in getattr(made, "positiontup", None) or ()]


def _side(query: JobQuery, table: sa.Table, states: frozenset[State]) -> sa.Select[Any]:
    columns = [table.c[name].label("worker" if name == "worker_id" else name) for name in _SHOWN]
    result = table.c.result if table is finished else sa.cast(sa.null(), sa.Text).label("result")
    statement = sa.select(*columns, result).where(table.c.tenant == query.tenant, *_conditions(query, table))
    if states:
        # As literals, or no partial index fits.
        names: list[sa.ColumnElement[str]] = [sa.literal_column(f"'{state}'") for state in sorted(states)]
        statement = statement.where(table.c.state == names[0] if len(names) == 1 else table.c.state.in_(names))
    cut = statement.order_by(*_order(query, table)).limit(query.limit).subquery()
    return sa.select(cut)


def _conditions(query: JobQuery, table: sa.Table) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if query.task is not None:
        conditions.append(table.c.task == query.task)
    if query.queue is not None:
        conditions.append(table.c.queue == query.queue)
    if query.tag is not None:
        wanted = sa.bindparam("tag", orjson.dumps([query.tag]).decode(), sa.Text, unique=True)
        conditions.append(table.c.tags != sa.literal_column("'[]'"))
        conditions.append(_jsonb(table.c.tags).op("@>", is_comparison=True)(_jsonb(wanted)))
    if query.error_type is not None:
        # An error is an array that begins with its type; its text may hold what jsonb refuses.
        head = orjson.dumps([query.error_type]).decode()[:-1] + ","
        conditions.append(sa.func.starts_with(table.c.error, sa.bindparam("head", head, sa.Text, unique=True)))
    if query.created_after is not None:
        conditions.append(table.c.created_at >= query.created_after)
    if query.created_before is not None:
        conditions.append(table.c.created_at < query.created_before)
    if query.after is not None:
        place = sa.tuple_(table.c.created_at, table.c.id)
        edge = sa.tuple_(*query.after, types=[table.c.created_at.type, table.c.id.type])
        conditions.append(place > edge if query.ascending else place < edge)
    return conditions


def _jsonb(text: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.cast(text, JSONB)


def _order(query: JobQuery, of: sa.FromClause) -> list[sa.ColumnElement[Any]]:
    columns = (of.c.created_at, of.c.id)
    return [column.asc() if query.ascending else column.desc() for column in columns]
