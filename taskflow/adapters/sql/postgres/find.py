"""A page of jobs: the one statement that is put together from what is asked, by SQLAlchemy."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

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


class Shape(NamedTuple):
    """What a statement depends on; all else are values."""

    states: frozenset[State]
    asked: frozenset[str]
    ascending: bool


def page(query: JobQuery) -> tuple[str, list[Any]]:
    """The statement of a page and its values."""
    values = {name: value for name, value in _values(query).items() if value is not None}
    statement, names = _statement(Shape(query.states, frozenset(values), query.ascending))
    return statement, [values[name] for name in names]


def _values(query: JobQuery) -> dict[str, Any]:
    at, job = query.after or (None, None)
    return {
        "tenant": query.tenant,
        "limit": query.limit,
        "task": query.task,
        "queue": query.queue,
        "tag": None if query.tag is None else orjson.dumps([query.tag]).decode(),
        # An error is an array that begins with its type; its text may hold what jsonb refuses.
        "error": None if query.error_type is None else orjson.dumps([query.error_type]).decode()[:-1] + ",",
        "created_after": query.created_after,
        "created_before": query.created_before,
        "after_at": at,
        "after_id": job,
    }


@lru_cache(maxsize=1_024)
def _statement(shape: Shape) -> tuple[str, tuple[str, ...]]:
    """Text as the driver takes it, and the names of its values in their order. Making one costs some milliseconds."""
    # Each side is cut before they are merged, so that a page costs two index ranges.
    sides = [
        _side(shape, table, shape.states & held)
        for table, held in ((jobs, LIVE_STATES), (finished, DONE_STATES))
        if not shape.states or shape.states & held
    ]
    merged = sa.union_all(*sides).subquery("merged")
    statement = sa.select(merged).order_by(*_order(shape, merged)).limit(_value("limit", sa.BigInteger))
    made = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    return str(made), tuple(made.positiontup or ())


def _side(shape: Shape, table: sa.Table, states: frozenset[State]) -> sa.Select[Any]:
    columns = [table.c[name].label("worker" if name == "worker_id" else name) for name in _SHOWN]
    result = table.c.result if table is finished else sa.cast(sa.null(), sa.Text).label("result")
    statement = sa.select(*columns, result).where(*_conditions(shape, table))
    if states:
        # As literals, or no partial index fits.
        names: list[sa.ColumnElement[str]] = [sa.literal_column(f"'{state}'") for state in sorted(states)]
        statement = statement.where(table.c.state == names[0] if len(names) == 1 else table.c.state.in_(names))
    cut = statement.order_by(*_order(shape, table)).limit(_value("limit", sa.BigInteger)).subquery()
    return sa.select(cut)


def _conditions(shape: Shape, table: sa.Table) -> list[sa.ColumnElement[bool]]:
    at, job = _value("after_at", table.c.created_at.type), _value("after_id", table.c.id.type)
    place, edge = sa.tuple_(table.c.created_at, table.c.id), sa.tuple_(at, job)
    every: dict[str, list[sa.ColumnElement[bool]]] = {
        "tenant": [table.c.tenant == _value("tenant", sa.Text)],
        "task": [table.c.task == _value("task", sa.Text)],
        "queue": [table.c.queue == _value("queue", sa.Text)],
        "tag": [
            table.c.tags != sa.literal_column("'[]'"),
            _jsonb(table.c.tags).op("@>", is_comparison=True)(_jsonb(_value("tag", sa.Text))),
        ],
        "error": [sa.func.starts_with(table.c.error, _value("error", sa.Text))],
        "created_after": [table.c.created_at >= _value("created_after", table.c.created_at.type)],
        "created_before": [table.c.created_at < _value("created_before", table.c.created_at.type)],
        "after_id": [place > edge if shape.ascending else place < edge],
    }
    return [condition for name, conditions in every.items() if name in shape.asked for condition in conditions]


def _value(name: str, kind: Any) -> sa.BindParameter[Any]:
    return sa.bindparam(name, type_=kind)


def _jsonb(text: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.cast(text, JSONB)


def _order(shape: Shape, of: sa.FromClause) -> list[sa.ColumnElement[Any]]:
    columns = (of.c.created_at, of.c.id)
    return [column.asc() if shape.ascending else column.desc() for column in columns]
