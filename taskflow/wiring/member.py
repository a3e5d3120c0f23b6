"""A member of a crew: told by its parent what to be, over a socket that also says when one of the two is gone.

`python -m taskflow.wiring.member DESCRIPTOR`; only `taskflow.wiring.crew` starts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import pickle
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from taskflow.roles.stop import Stop
from taskflow.wiring.settings import Settings
from taskflow.wiring.signals import leave_when_told

STARTED: Final = b"started\n"
HURRY: Final = b"now\n"
ASKED: Final = b"ready?\n"
READY: Final = b"ready "
SIZE: Final = 4


@dataclass(frozen=True, slots=True)
class Order:
    """What a member is told.

    Attributes:
        settings: what is in force.
        listeners: descriptors of its listening sockets.
    """

    settings: Settings
    listeners: tuple[int, ...]

    def packed(self) -> bytes:
        """As it goes over the socket."""
        body = pickle.dumps(self)
        return len(body).to_bytes(SIZE, "big") + body


class Seat:
    """A member's place: its sockets, and its parent."""

    def __init__(self, channel: socket.socket, listeners: list[socket.socket]) -> None:
        self.listeners = listeners
        self._channel = channel

    def started(self) -> None:
        """Tell the parent."""
        self._say(STARTED)

    def watch(self, stop: Stop, ready: Callable[[], Mapping[str, str | None]]) -> None:
        """Hear the parent: it may be in a hurry, or gone, and then nobody would end this process or start it anew.

        Args:
            ready: what to answer where it asks how the roles are.
        """
        loop = asyncio.get_running_loop()
        heard = bytearray()

        def readable() -> None:
            data = b""
            # A parent that dies before it has read all is a reset.
            with contextlib.suppress(OSError):
                data = self._channel.recv(4096)
            if not data:
                loop.remove_reader(self._channel)
                stop.asked.set()
            heard.extend(data)
            while (end := heard.find(b"\n") + 1) > 0:
                word, heard[:end] = bytes(heard[:end]), b""
                if word == ASKED:
                    self._say(READY + json.dumps(dict(ready())).encode() + b"\n")
                elif word == HURRY:
                    stop.now.set()
                    stop.asked.set()

        loop.add_reader(self._channel, readable)

    def _say(self, line: bytes) -> None:
        # The parent may have gone, and one that does not listen must hold up nobody.
        with contextlib.suppress(OSError):
            self._channel.send(line, socket.MSG_DONTWAIT)


def _adopted(descriptor: int) -> socket.socket:
    """A socket of the parent's, which is none of those that this process starts."""
    taken = socket.socket(fileno=descriptor)
    taken.set_inheritable(False)
    return taken


def _exactly(channel: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = channel.recv(size - len(parts))
        if not part:
            sys.exit(0)  # the parent has changed its mind
        parts += part
    return bytes(parts)


def main() -> int:
    """Be a member until told to stop."""
    leave_when_told()
    channel = _adopted(int(sys.argv[1]))
    order = pickle.loads(_exactly(channel, int.from_bytes(_exactly(channel, SIZE), "big")))  # noqa: S301 - from our parent
    from taskflow.wiring import runtime  # noqa: PLC0415 - costs a second, in which the parent may have gone

    return runtime.main(order.settings, Seat(channel, [_adopted(each) for each in order.listeners]))


if __name__ == "__main__":
    sys.exit(main())
