"""Listening sockets that several processes share."""

from __future__ import annotations

import socket
from typing import Final

from taskflow.core.errors import TaskFlowError

BACKLOG: Final = 2048


class CannotBind(TaskFlowError):
    """The address is taken or not ours."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"cannot listen on {host}:{port}: it is in use or not an address of this machine; use another --port or --host"
        )


def shared(host: str, port: int, times: int) -> list[list[socket.socket]]:
    """Sockets for so many processes: the system spreads connections over those of one address.

    Args:
        host: a name or address; a name with several addresses is listened to on each.
        port: 0 is any free one, the same for all.

    Raises:
        CannotBind: the address cannot be bound; no socket is left open.
    """
    opened: list[socket.socket] = []
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(addresses):
            # Alone at first: whoever shares a port does not notice that strangers have it, too.
            port = port or _alone(family, address)
            _alone(family, (address[0], port, *address[2:]))
            for _ in range(times):
                opened.append(listener := socket.socket(family, socket.SOCK_STREAM))
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind((address[0], port, *address[2:]))
                listener.listen(BACKLOG)
    except OSError as error:
        for listener in opened:
            listener.close()
        raise CannotBind(host, port) from error
    return [opened[index::times] for index in range(times)]


def _alone(family: int, address: tuple[object, ...]) -> int:
    """Bind for a moment without sharing.

    Returns:
        The port.
    """
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(address)
        return int(probe.getsockname()[1])
