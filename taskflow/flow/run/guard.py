"""The guard: outlives its worker by a moment, to kill what the worker's children started themselves.

The kernel ends a child with its worker, but nobody beyond it; and a process of the child's own that watched would be a
child that the handler does not know of.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Final

SCRIPT: Final = str(Path(__file__).with_name("guard_main.py"))
ENDING: Final = 2.0


class Guard:
    """Knows the process groups of this worker's children, in a process of its own."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._groups: set[int] = set()
        self._starting = asyncio.Lock()

    async def ready(self) -> None:
        """Have the guard there before a child is."""
        async with self._starting:
            if self._process is None or self._process.returncode is not None:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-I", "-S", SCRIPT, stdin=PIPE, stdout=DEVNULL, start_new_session=True
                )
                for group in self._groups:
                    self._tell("+", group)

    def watch(self, group: int) -> None:
        """From now on the group dies with the worker."""
        self._groups.add(group)
        self._tell("+", group)

    def forget(self, group: int) -> None:
        """The group is gone, and its number may soon be another's."""
        self._groups.discard(group)
        self._tell("-", group)

    async def close(self) -> None:
        """End the guard; whatever it still knows dies."""
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        try:
            async with asyncio.timeout(ENDING):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def _tell(self, sign: str, group: int) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(ConnectionError, RuntimeError):
                self._process.stdin.write(f"{sign}{group}\n".encode())
