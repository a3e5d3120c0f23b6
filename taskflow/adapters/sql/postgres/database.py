"""Connections to PostgreSQL: a pool with a deadline on every call, and none kept that leads to the wrong server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final, TypeAlias, TypeVar, cast

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from taskflow.adapters.sql.postgres.errors import FAILURES, spoiled, sqlstate, translated
from taskflow.adapters.sql.postgres.url import Target
from taskflow.core.errors import StoreUnavailable

# As texts: the driver's classes take a parameter in its stubs only.
Raw: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Lent: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"
Connection: TypeAlias = "Raw | Lent"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

T = TypeVar("T")
CONNECT_SECONDS: Final = 3.0
ACQUIRE_SECONDS: Final = 1.0
CALL_SECONDS: Final = 6.0
ASKED_SECONDS: Final = 2.5
"""For what somebody at the API waits for; what workers and upkeep do in batches may take longer."""
IDLE_SECONDS: Final = 300.0
SETTINGS: Final = {
    # A plan made for an empty table must not outlive the empty table.
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
    # Every statement here finds its few rows by an index. Statistics that lag behind a burst must not talk the planner
    # into reading the whole backlog instead.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "statement_timeout": "5000",
    "lock_timeout": "2000",
    "idle_in_transaction_session_timeout": "10000",
    "timezone": "UTC",
}
KEPT: Final = {"plan_cache_mode": "force_generic_plan", "enable_sort": "off"}
"""For statements that can have one plan only, by ids or in the order of an index: it costs as much to make as 20 of their rows
to write, and one that sorts instead reads the whole backlog."""
PLAIN: Final = {"plan_cache_mode": SETTINGS["plan_cache_mode"], "enable_sort": "on"}
CONFLICTS: Final = ("40001", "40P01")
"""Two transactions stood in each other's way: this one was undone and may simply go again."""
TRIES: Final = 3
SILENCES: Final = 2
"""So many calls in a row without an answer: idle connections may be dead, too. A single one may just have been slow, and
must not make everybody else connect anew."""


def settings_of(target: Target) -> dict[str, str]:
    """What a session or, behind a transaction pooler, each transaction is set to."""
    return SETTINGS | ({"search_path": f'"{target.schema}"'} if target.schema else {})


class Session(asyncpg.Connection):
    """A connection that knows whether plans are kept on it; `None` where a change of that was not answered."""

    kept: bool | None = False

    async def keep_plans(self, *, kept: bool) -> None:
        """Set the session so, where it is not."""
        if kept is not self.kept:
            self.kept = None
            await self.execute("; ".join(f"SET {name} = {value}" for name, value in (KEPT if kept else PLAIN).items()))
            self.kept = kept


async def connect(target: Target, name: str, **settings: str) -> Raw:
    """A connection of one's own.

    Args:
        target: where to.
        name: what the server calls this client.
        settings: changes of the session's settings.
    """
    found: Raw = await asyncpg.connect(**_arguments(target, name, **settings), timeout=CONNECT_SECONDS)
    return found


def _arguments(target: Target, name: str, **settings: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {"dsn": target.dsn}
    tls = target.tls()
    if tls is not None:
        arguments["ssl"] = tls
    if target.several:
        arguments["target_session_attrs"] = "primary"
    session = {"application_name": name}
    if target.pgbouncer:
        # The pooler hands a session to somebody else after each transaction: nothing may be left in it.
        arguments["statement_cache_size"] = 0
    else:
        session |= settings_of(target) | settings
    return arguments | {"server_settings": session}


class Database:
    """A pool of connections, for one loop.

    Args:
        target: where to.
        name: what the server calls this client.
        size: most connections; else what the URL says.
    """

    def __init__(self, target: Target, name: str, size: int | None = None) -> None:
        self.target = target
        self.name = name
        self._size = size or target.pool_size
        self._pool: Pool | None = None
        self._silences = 0

    async def open(self) -> None:
        """Make the pool and prove that the database answers.

        Raises:
            StoreUnavailable: it does not.
        """
        try:
            self._pool = asyncpg.create_pool(
                **_arguments(self.target, self.name),
                connection_class=Session,
                min_size=0,
                max_size=self._size,
                max_inactive_connection_lifetime=IDLE_SECONDS,
                timeout=CONNECT_SECONDS,
                # Nothing is ever left in a session: there is nothing to reset.
                reset=_nothing,
            )
            await self._pool
        except (ValueError, OSError) as error:
            raise StoreUnavailable(str(error)) from error
        await self.fetch("SELECT 1", acquire=CONNECT_SECONDS)

    async def close(self) -> None:
        """End every connection; those in use after a moment, too."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await pool.close()
        except FAILURES:
            pool.terminate()

    async def fetch(
        self,
        statement: str,
        *values: Any,
        kept: bool = False,
        within: float = CALL_SECONDS,
        acquire: float = ACQUIRE_SECONDS,
    ) -> list[asyncpg.Record]:
        """The rows of one statement, a transaction of its own."""
        return await self.run(
            lambda connection: connection.fetch(statement, *values), kept=kept, within=within, acquire=acquire
        )

    async def run(
        self,
        work: Callable[[Connection], Awaitable[T]],
        *,
        transaction: bool = False,
        kept: bool = False,
        within: float = CALL_SECONDS,
        acquire: float = ACQUIRE_SECONDS,
    ) -> T:
        """Do work on a connection.

        Args:
            work: what to do; done again from the start where the database undid it for a conflict with another.
            transaction: whether its statements are one transaction.
            kept: whether the plans of its statements are made once, whatever the statistics say; see `KEPT`.
            within: seconds for all of it.
            acquire: seconds to wait for a connection, of them.

        Raises:
            DataRejected: the database refuses a value for good.
            StoreUnavailable: it cannot do this now. `Lost`, where it may have done it.
        """
        pool = self._pool
        if pool is None:
            raise StoreUnavailable("the store is closed")
        for left in reversed(range(TRIES)):
            connection: Lent | None = None
            sent = False
            try:
                async with asyncio.timeout(within):
                    connection = await pool.acquire(timeout=acquire)
                    sent = True
                    if not self.target.pgbouncer:
                        await cast("Session", connection).keep_plans(kept=kept)
                    answer = await self._work(connection, work, transaction=transaction, kept=kept)
                self._silences = 0
                return answer
            except FAILURES as error:
                if left and sqlstate(error) in CONFLICTS:
                    continue
                silent = connection is not None and isinstance(error, TimeoutError)
                self._silences += silent
                if connection is not None and (silent or spoiled(error)):
                    # Nobody waits for the good-bye of a server that has just not answered.
                    _end(connection)
                # Where these are dead, those that lie idle may be: each would cost somebody as long a wait.
                if spoiled(error) or self._silences >= SILENCES:
                    self._silences = 0
                    await pool.expire_connections()
                raise translated(error, sent=sent) from error
            except (OverflowError, UnicodeEncodeError) as error:
                raise translated(error, sent=sent) from error
            finally:
                if connection is not None:
                    await _give_back(pool, connection)
        raise AssertionError("a last try returns or raises")

    async def expire(self) -> None:
        """Let go of every connection: they lead to the wrong server."""
        if self._pool is not None:
            await self._pool.expire_connections()

    async def _work(
        self, connection: Lent, work: Callable[[Connection], Awaitable[T]], *, transaction: bool, kept: bool
    ) -> T:
        if not transaction and not self.target.pgbouncer:
            return await work(connection)
        async with connection.transaction():
            if self.target.pgbouncer:
                # Nothing is kept there, but what must not be sorted must not be sorted.
                await connection.execute(_set_local(settings_of(self.target) | (KEPT if kept else {})))
            return await work(connection)

    async def now(self, connection: Connection, given: datetime | None) -> datetime:
        """The given instant, else the database's."""
        if given is not None:
            return given
        moment: datetime = await connection.fetchval("SELECT clock_timestamp()")
        return moment


def _set_local(settings: dict[str, str]) -> str:
    return ";".join(
        f"SET LOCAL {name} = {value if name == 'search_path' else _quoted(value)}" for name, value in settings.items()
    )


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _end(connection: Lent) -> None:
    """End a connection of the pool, which may have noticed its end already."""
    try:
        connection.terminate()
    except asyncpg.InterfaceError:
        pass  # it is the pool's again, and closed


async def _nothing(_: object) -> None:
    """Leave a session as it is."""


async def _give_back(pool: Pool, connection: Lent) -> None:
    try:
        await pool.release(connection, timeout=ACQUIRE_SECONDS)
    except FAILURES:
        pass  # the pool has ended it; the answer that came over it stands
