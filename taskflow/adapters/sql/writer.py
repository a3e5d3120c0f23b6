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

from taskflow.core.errors import DataRejected, StoreUnavailable, TaskFlowError

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]
GROUP: Final = 256
WAITING: Final = 50_000
_REFUSED: Final = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, OverflowError, UnicodeEncodeError)


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
        if self._thread.is_alive():
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join, 10)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run work inside a transaction; returns when it is on disk. May be called on any loop.

        Raises:
            DataRejected: the database refuses a value for good.
            StoreUnavailable: it could not be written now.
        """
        loop = asyncio.get_running_loop()
        item = _Item(work, loop.create_future(), loop)
        if not self._thread.is_alive():
            raise StoreUnavailable("the store is closed")
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            raise StoreUnavailable(f"{WAITING} writes are waiting for the disk; try again later") from None
        result: T = await item.future
        return result

    def _run(self) -> None:
        try:
            connection = self._connect()
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
                self._commit(connection, items)
                _answer(items)
        connection.close()

    def _commit(self, connection: sqlite3.Connection, items: list[_Item]) -> None:
        try:
            connection.execute("BEGIN IMMEDIATE")
            for item in items:
                _attempt(connection, item)
            connection.execute("COMMIT")
            self.commits += 1
        except Exception as error:
            if connection.in_transaction:
                connection.rollback()
            for item in items:
                item.error = item.error or unavailable(error)


def _attempt(connection: sqlite3.Connection, item: _Item) -> None:
    connection.execute("SAVEPOINT work")
    try:
        item.result = item.work(connection)
    except _REFUSED as error:
        item.error = DataRejected(str(error))
    except TaskFlowError as error:
        item.error = error
    except sqlite3.Error as error:
        item.error = DataRejected(str(error)) if "too big" in str(error) else unavailable(error)
        if not connection.in_transaction:
            # Some errors (a full disk) end the transaction by themselves: nothing in it is stored.
            raise
    except Exception as error:
        item.error = error
    if item.error is not None:
        connection.execute("ROLLBACK TO work")
    connection.execute("RELEASE work")


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
