"""A line to a server that can be cut, so that the server itself need not be touched."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

CHUNK: Final = 1 << 16


class Line:
    """Listens on this machine and leads on to a server, in a thread of its own.

    Args:
        host: the server's.
        port: the server's.

    Attributes:
        port: where it listens.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = host, port
        self._whole = True
        self._ends: set[asyncio.StreamWriter] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def cut(self) -> None:
        """End every connection, and let no new one through."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result()

    def mend(self) -> None:
        """Let connections through again."""
        self._whole = True

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        listener = await asyncio.start_server(self._joined, "127.0.0.1", 0)
        self.port = int(listener.sockets[0].getsockname()[1])
        self._ready.set()
        await self._over.wait()
        listener.close()

    async def _cut(self) -> None:
        self._whole = False
        for end in self._ends:
            end.transport.abort()

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.add(writer)
        there: asyncio.StreamWriter | None = None
        try:
            if self._whole:
                back, there = await asyncio.open_connection(*self._server)
                self._ends.add(there)
                await asyncio.gather(_pass_on(reader, there), _pass_on(back, writer))
        except OSError:
            pass  # one of the two is gone, and so will be the other
        finally:
            for end in filter(None, (writer, there)):
                self._ends.discard(end)
                end.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    with suppress(OSError):
        writer.write_eof()
