"""Listening sockets that several processes share."""

from __future__ import annotations

import socket
from typing import Final

from taskflow.core.errors import TaskFlowError

BACKLOG: Final = 2048


class CannotBind(TaskFlowError):
    """The address is taken or not ours."""

    def __init__(self, host: str, port: int, setting: str = "--port or --host") -> None:
        super().__init__(
            f"cannot listen on {host}:{port}: it is in use or not an address of this machine; use another {setting}"
        )


def listening(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of a host. Whoever has them takes what comes: one queue for all, so that nobody waits for a
    process that is about to end while another one is idle.

    Args:
        host: a name or address.
        port: 0 is any free one, the same for all addresses.

    Raises:
        CannotBind: an address cannot be bound; no socket is left open.
    """
    opened: list[socket.socket] = []
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(addresses):
            opened.append(listener := socket.socket(family, socket.SOCK_STREAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address[0], port, *address[2:]))
            listener.listen(BACKLOG)
            port = port or int(listener.getsockname()[1])
    except OSError as error:
        for listener in opened:
            listener.close()
        raise CannotBind(host, port) from error
    return opened
