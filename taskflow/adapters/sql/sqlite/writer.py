"""One writer, group commit: whatever waits becomes one transaction, one fsync.

Each piece of work runs in a savepoint of its own, so that one that fails rolls back alone.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import orjson

from taskflow.core.errors import DataRejected, StoreUnavailable, TaskFlowError

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]
GROUP: Final = 256
WAITING: Final = 50_000
_REFUSED: Final = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    orjson.JSONEncodeError,
    OverflowError,
    UnicodeEncodeError,
)


@dataclass(slots=True)
class _Item:
    work: Work
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: BaseException | None = None


class Writer:
    """A thread that owns the database's only writing connection.

    Args:
        connect: opens that connection, on the thread.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._queue: queue.Queue[_Item | None] = queue.Queue(WAITING)
        self._opened: ThreadFuture[None] = ThreadFuture()
        self._thread = threading.Thread(target=self._run, name="taskflow-writer", daemon=True)
        self._gate = threading.Lock()
        self._closed = False
        self.commits = 0

    async def open(self) -> None:
        """Start the thread.

        Raises:
            StoreUnavailable: the database cannot be opened.
        """
        self._thread.start()
        await asyncio.wrap_future(self._opened)

    async def close(self) -> None:
        """Finish what waits, then end."""
        with self._gate:
            self._closed = True
        if self._thread.is_alive():
            await asyncio.to_thread(self._end)

    def _end(self) -> None:
        self._queue.put(None)
        self._thread.join(10)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run work inside a transaction; returns when it is on disk. May be called on any loop.

        Raises:
            DataRejected: the database refuses a value for good.
            StoreUnavailable: it could not be written now.
        """
        loop = asyncio.get_running_loop()
        item = _Item(work, loop.create_future(), loop)
        # Nothing may come behind the sentinel that ends the thread: nobody would answer it.
        with self._gate:
            if self._closed or not self._thread.is_alive():
                raise StoreUnavailable("the store is closed")
            try:
                self._queue.put_nowait(item)
            except queue.Full:
                raise StoreUnavailable(f"{WAITING} writes are waiting for the disk; try again later") from None
        result: T = await item.future
        return result

    def _run(self) -> None:
        try:
            connection: sqlite3.Connection | None = self._connect()
        except Exception as error:
            self._opened.set_exception(unavailable(error))
            return
        self._opened.set_result(None)
        ended = False
        while not ended:
            group = [self._queue.get()]
            while len(group) < GROUP:
                try:
                    group.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            ended = None in group
            items = [item for item in group if item is not None]
            if items:
                connection = self._commit(connection, items)
                _answer(items)
        if connection is not None:
            connection.close()

    def _commit(self, connection: sqlite3.Connection | None, items: list[_Item]) -> sqlite3.Connection | None:
        """Write a group; returns the connection for the next one, `None` where this one is of no use any more."""
        try:
            connection = connection or self._connect()
            connection.execute("BEGIN IMMEDIATE")
            for item in items:
                _attempt(connection, item)
            connection.execute("COMMIT")
            self.commits += 1
        except Exception as error:
            for item in items:
                item.error = item.error or unavailable(error)
            return connection if connection is not None and _rolled_back(connection) else None
        return connection


def _rolled_back(connection: sqlite3.Connection) -> bool:
    """Whether nothing of a failed transaction is left; a connection that cannot even do that is closed."""
    try:
        connection.rollback()
    except sqlite3.Error:
        connection.close()
        return False
    return True


def _attempt(connection: sqlite3.Connection, item: _Item) -> None:
    connection.execute("SAVEPOINT work")
    try:
        item.result = item.work(connection)
    except _REFUSED as error:
        item.error = DataRejected(str(error))
    except TaskFlowError as error:
        item.error = error
    except sqlite3.Error as error:
        item.error = DataRejected(str(error)) if _is_about_a_value(error) else unavailable(error)
        if not connection.in_transaction:
            # Some errors (a full disk) end the transaction by themselves: nothing in it is stored.
            raise
    except Exception as error:
        item.error = error
    if item.error is not None:
        connection.execute("ROLLBACK TO work")
    connection.execute("RELEASE work")


def _is_about_a_value(error: sqlite3.Error) -> bool:
    return "too big" in str(error) or (isinstance(error, sqlite3.ProgrammingError) and "binding" in str(error))


def unavailable(error: BaseException) -> StoreUnavailable:
    """The port's error for a driver's."""
    return StoreUnavailable(f"the database cannot do this now: {error}")


def _answer(items: list[_Item]) -> None:
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[_Item]] = defaultdict(list)
    for item in items:
        by_loop[item.loop].append(item)
    for loop, answered in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, answered)
        except RuntimeError:
            continue  # the loop is closed: nobody waits there any more


def _resolve(items: list[_Item]) -> None:
    for item in items:
        if item.future.done():
            continue
        if item.error is not None:
            item.future.set_exception(item.error)
        else:
            item.future.set_result(item.result)
