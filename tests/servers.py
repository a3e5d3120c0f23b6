"""Where the real servers are: `TASKFLOW_TEST_*` names them, else they answer on their standard local ports, else they are
started here, for this run of the tests only. `POSTGRES`, `AMQP` and `REDIS` are URLs, found when first asked for."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import pytest

from tests.throwaway import (
    CannotStart,
    ThrowawayPostgres,
    ThrowawayRabbitMQ,
    ThrowawayRedis,
    ThrowawayServer,
    ThrowawayWeed,
)

LOCAL: Final = "127.0.0.1"
PATIENCE: Final = 2.0


@dataclass(frozen=True, slots=True)
class Service:
    """A server that tests need.

    Attributes:
        variable: names its URL in the environment.
        standard: its URL on this machine, or `None`.
        answers: whether that one can be used.
        throwaway: makes one of our own.
    """

    variable: str
    standard: str | None
    answers: Callable[[], bool]
    throwaway: Callable[[], ThrowawayServer]


@dataclass(frozen=True, slots=True)
class S3:
    """A bucket, and who may use it."""

    url: str
    access_key: str
    secret_key: str


def _postgres_answers() -> bool:
    """Whether `root` gets into the database `test` without a password."""
    with socket.create_connection((LOCAL, 5432), timeout=PATIENCE) as connection:
        start = b"\0\3\0\0user\0root\0database\0test\0\0"
        connection.sendall((len(start) + 4).to_bytes(4, "big") + start)
        welcome = connection.recv(9)
        if welcome != b"R" + (8).to_bytes(4, "big") + bytes(4):
            return False
        return connection.recv(1) != b"E"


def _rabbitmq_answers() -> bool:
    with socket.create_connection((LOCAL, 5672), timeout=PATIENCE) as connection:
        connection.sendall(b"AMQP\0\0\x09\x01")
        return connection.recv(1) == b"\x01"


def _redis_answers() -> bool:
    with socket.create_connection((LOCAL, 6379), timeout=PATIENCE) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(5) == b"+PONG"


SERVICES: Final = {
    "postgresql": Service(
        "TASKFLOW_TEST_POSTGRES_URL", f"postgresql://root@{LOCAL}:5432/test", _postgres_answers, ThrowawayPostgres
    ),
    "rabbitmq": Service(
        "TASKFLOW_TEST_AMQP_URL", f"amqp://guest:guest@{LOCAL}:5672/", _rabbitmq_answers, ThrowawayRabbitMQ
    ),
    "redis": Service("TASKFLOW_TEST_REDIS_URL", f"redis://{LOCAL}:6379/0", _redis_answers, ThrowawayRedis),
    "s3": Service("TASKFLOW_TEST_S3_URL", None, lambda: False, ThrowawayWeed),
}
_NAMES: Final = {"POSTGRES": "postgresql", "AMQP": "rabbitmq", "REDIS": "redis"}

_running = ExitStack()
_found: dict[str, str | CannotStart] = {}
_started: dict[str, ThrowawayServer] = {}


def url_of(name: str) -> str:
    """The URL of a service; the test is skipped where there is none."""
    found = _find(name)
    if isinstance(found, CannotStart):
        pytest.skip(f"no {name}: {found}", allow_module_level=True)
    return found


def s3() -> S3:
    """A bucket; the test is skipped where there is none."""
    url = url_of("s3")
    weed = _started.get("s3")
    if isinstance(weed, ThrowawayWeed):
        return S3(url, weed.access_key, weed.secret_key)
    variable = SERVICES["s3"].variable.removesuffix("_URL")
    return S3(url, os.environ.get(f"{variable}_ACCESS_KEY", ""), os.environ.get(f"{variable}_SECRET_KEY", ""))


def close() -> None:
    """End what was started here."""
    _running.close()
    _found.clear()
    _started.clear()


def __getattr__(name: str) -> str:
    if name not in _NAMES:
        raise AttributeError(name)
    return url_of(_NAMES[name])


def _find(name: str) -> str | CannotStart:
    if name not in _found:
        try:
            _found[name] = _look(name)
        except CannotStart as error:
            _found[name] = error
    return _found[name]


def _look(name: str) -> str:
    service = SERVICES[name]
    if told := os.environ.get(service.variable):
        return told
    try:
        if service.standard and service.answers():
            return service.standard
    except OSError:
        pass
    _started[name] = _running.enter_context(service.throwaway())
    return _started[name].url
