"""An HTTP connection that ends without costing anybody a request: uvicorn's, but it takes its leave, and saves packets."""

from __future__ import annotations

import array
import asyncio
import fcntl
import socket
import termios
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

HEAD: Final = 2.0
"""Seconds that the rest of a request's head gets at a stop."""
LINGER: Final = 0.5
"""Seconds that an idle connection is kept at a stop, and that a closed one is still read from."""
PACKET: Final = 16 << 10
"""Bytes that are worth a write of their own."""

TCP_INFO: Final[int | None] = getattr(socket, "TCP_INFO", None)
TCP_CLOSE: Final = b"\7"
"""The first byte of what Linux tells: the state."""


class Shared(ServerState):
    """What a server's connections have in common.

    Attributes:
        leaving: whether the server was told to stop.
    """

    leaving = False


class Connection(HttpToolsProtocol):
    """Once told to stop, the next answer says `Connection: close`, and an idle connection waits for that a moment.

    uvicorn closes idle connections at once, which resets a request that is on its way, and closes busy ones without
    reading them to their end, which makes the client's system throw the answer away.
    """

    server_state: Shared

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._leaving = False
        self._head_is_coming = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if _was_reset(transport):
            # It gave up before it was accepted. What it wanted can still be read, and would only keep others waiting.
            self.transport = transport
            transport.abort()
            return
        super().connection_made(_Saving(transport, self.loop))
        # Accepted before the stop and made after it: the server has told all that it knew, and would wait for this one.
        if self.server_state.leaving:
            self.shutdown()

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            super().data_received(data)

    def on_message_begin(self) -> None:
        self._head_is_coming = True
        super().on_message_begin()
        if self._leaving:
            self.loop.call_later(HEAD, self._give_up)

    def on_headers_complete(self) -> None:
        self._head_is_coming = False
        super().on_headers_complete()
        if self._leaving:
            self._say_close()

    def shutdown(self) -> None:
        """Answer what has begun to come in, and whatever comes within `LINGER`."""
        if self._leaving:
            return
        self._leaving = True
        self.timeout_keep_alive = LINGER  # type: ignore[assignment]
        if self.cycle is not None and not self.cycle.response_complete:
            self._say_close()
        elif self._head_is_coming:
            self.loop.call_later(HEAD, self._give_up)
        else:
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(LINGER, self.timeout_keep_alive_handler)

    def _give_up(self) -> None:
        if self._head_is_coming:
            self.transport.close()

    def _say_close(self) -> None:
        """What was pipelined behind a request is answered too: the last of them says it."""
        last = self.pipeline[0][0] if self.pipeline else self.cycle
        last.keep_alive = False

    def timeout_keep_alive_handler(self) -> None:
        """A request that came in while this loop was busy is a request."""
        if not self.transport.is_closing() and not _unread(self.transport):
            self.transport.close()


class _Saving(asyncio.Transport):
    """A transport that writes once in a turn of the loop, and is closed after the other side has seen that it will be.

    A server writes an answer's head and its body apart: a call of the system and a packet for each. And a socket that is
    closed while something unread lies in it resets its connection, and a reset overtakes the answer.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._parts: list[Any] = []
        self._size = 0
        self._closed = False
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]

    def write(self, data: Any) -> None:
        # As a transport does: what comes after the end goes nowhere.
        if self._closed:
            return
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)
        self._size += len(data)
        # Nor is much kept: who writes it must hear at once that the other side does not keep up.
        if self._size >= PACKET:
            self._flush()

    def _flush(self) -> None:
        if self._parts:
            whole = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
            # The other side may have left in this very turn.
            if not self._transport.is_closing():
                self._transport.write(whole)

    def is_closing(self) -> bool:
        return self._closed or self._transport.is_closing()

    def close(self) -> None:
        self._flush()
        if self.is_closing():
            self._transport.close()
            return
        self._closed = True
        if not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        self._transport.resume_reading()
        self._loop.call_later(LINGER, self._transport.close)


def _was_reset(transport: asyncio.BaseTransport) -> bool:
    """Whether the other side has reset the connection, as far as the system knows."""
    if TCP_INFO is None:
        return False
    state: bytes = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, TCP_INFO, 1)
    return state == TCP_CLOSE


def _unread(transport: asyncio.BaseTransport) -> int:
    """Bytes that have arrived and were not read."""
    size = array.array("i", [0])
    fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.FIONREAD, size)
    return size[0]
