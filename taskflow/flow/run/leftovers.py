"""What a handler leaves behind in its child process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

ENDING: Final = 0.1
"""Seconds that a run's threads get to end behind it."""


class Leftovers:
    """Threads and processes that a run leaves behind: they could write into the next one."""

    def __init__(self) -> None:
        self._threads: set[threading.Thread] = set()
        self._processes = False
        self._executor = ThreadPoolExecutor()
        asyncio.get_running_loop().set_default_executor(self._executor)

    def begin(self) -> None:
        """Note what is there before a run."""
        self._threads = set(threading.enumerate())
        self._processes = _has_processes()

    def are_there(self) -> bool:
        """Whether something has come since and stays; threads that are about to end get a moment."""
        # Those of `asyncio.to_thread` would wait for more work.
        old, self._executor = self._executor, ThreadPoolExecutor()
        asyncio.get_running_loop().set_default_executor(self._executor)
        old.shutdown(wait=False)
        end = time.monotonic() + ENDING
        threads = set(threading.enumerate()) - self._threads
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        return any(thread.is_alive() for thread in threads) or (_has_processes() and not self._processes)


def _has_processes() -> bool:
    """Whether this process has any of its own, be they dead and not asked for yet."""
    with contextlib.suppress(ChildProcessError, AttributeError):  # not every system has it
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return True
    return False
