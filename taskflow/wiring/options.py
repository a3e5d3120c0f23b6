"""Every setting: its name, its default, what it means, and how its text is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Final

from taskflow.core.durations import seconds
from taskflow.core.limits import LEASE_SECONDS_MAX, LEASE_SECONDS_MIN, is_name
from taskflow.ports.limiter import Rate

ROLES: Final = ("api", "consumer", "scheduler")
PERIODS: Final = {"second": 1.0, "minute": 60.0, "hour": 3_600.0}


@dataclass(frozen=True, slots=True)
class Option:
    """One setting.

    Attributes:
        key: `section.name`, or a plain name.
        default: the value in `run` mode, as written in the file.
        meaning: one line for people.
        read: from a text or a TOML value to what the program uses; raises ValueError.
        dev: the default of `taskflow dev` where it differs.
        secret: shown masked, and settable by file.
        placed: a URL, in which `{data}` stands for the data directory.
    """

    key: str
    default: Any
    meaning: str
    read: Callable[[Any], Any]
    dev: Any = None
    secret: bool = False
    placed: bool = False

    @property
    def env(self) -> str:
        """Name of its environment variable."""
        return "TASKFLOW_" + self.key.replace(".", "_").upper()


def text(value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def name(value: Any) -> str:
    """A name."""
    if not is_name(text(value)):
        raise ValueError(f"{value!r} must be 1 to 128 letters, digits, '.', '_', ':' or '-'")
    return str(value)


def namespace(value: Any) -> str:
    """A name that begins a key, a queue's name and a path in every adapter."""
    prefix = name(value)
    if prefix.startswith("."):
        raise ValueError(f"{value!r} begins with a dot, and an object store would take it for a path: use a letter")
    if prefix.partition(".")[0] == "amq":
        raise ValueError(f"{value!r}: RabbitMQ keeps names with 'amq.' for itself; use another")
    return prefix


def words(value: Any) -> tuple[str, ...]:
    """A list, or a text with commas or line ends in between."""
    items = value.replace("\n", ",").split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        raise ValueError(f"{value!r} is no list of texts")
    return tuple(item.strip() for item in items if item.strip())


def names(value: Any) -> tuple[str, ...]:
    """A list of names."""
    return tuple(name(item) for item in words(value))


def roles(value: Any) -> tuple[str, ...]:
    """Roles of this process."""
    wanted = words(value)
    wrong = [role for role in wanted if role not in ROLES]
    if wrong or not wanted:
        raise ValueError(f"{value!r}: use some of {', '.join(ROLES)}")
    return tuple(role for role in ROLES if role in wanted)


def networks(value: Any) -> tuple[str, ...]:
    """Addresses or networks."""
    found = words(value)
    for item in found:
        ip_network(item, strict=False)
    return found


def whole(low: int, high: int) -> Callable[[Any], int]:
    """A whole number within bounds."""

    def read(value: Any) -> int:
        number = int(value) if isinstance(value, str) and value.strip().lstrip("-").isdecimal() else value
        if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
            raise ValueError(f"{value!r} must be a whole number from {low:,} to {high:,}")
        return number

    return read


def duration(low: float, high: float) -> Callable[[Any], float]:
    """Seconds, or a text such as `1h30m`, within bounds."""

    def read(value: Any) -> float:
        number = seconds(value)
        if not low <= number <= high:
            raise ValueError(f"{value!r} must be from {low:g} to {high:g} seconds")
        return number

    return read


def cores(value: Any) -> int:
    """A number of processes; 0 is one a core."""
    return whole(0, 1_000)(value) or os.cpu_count() or 1


def choice(*allowed: str) -> Callable[[Any], str]:
    """One of a few texts."""

    def read(value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"{value!r}: use one of {', '.join(allowed)}")
        return str(value)

    return read


def address(value: Any) -> tuple[str, int] | None:
    """A host and a port, or nothing."""
    host, colon, port = text(value).strip().rpartition(":")
    if not (host or colon or port):
        return None
    if not host or not port.isdecimal() or not 0 <= int(port) <= 65_535:
        raise ValueError(f"{value!r}: use such as '127.0.0.1:9100', '[::1]:9100', or nothing")
    return host.removeprefix("[").removesuffix("]"), int(port)


def rate(value: Any) -> Rate | None:
    """`100/second`, with `burst` twice that unless said (`100/second burst 300`), or `none`."""
    if value == "none":
        return None
    amount, _, rest = text(value).partition("/")
    period, _, burst = rest.partition(" burst ")
    if not amount.strip().isdecimal() or period.strip() not in PERIODS or not (burst.strip() or "1").isdecimal():
        raise ValueError(f"{value!r}: use such as '100/second', '600/minute burst 50', or 'none'")
    limit = int(amount)
    most = int(burst) if burst else 2 * limit
    if limit < 1 or most < 1:
        raise ValueError(f"{value!r}: a rate must let something through; 'none' switches it off")
    return Rate(limit, PERIODS[period.strip()], most)


def _url(key: str, default: str, meaning: str) -> Option:
    return Option(key, default, meaning, text, secret=True, placed=True)


OPTIONS: Final[Mapping[str, Option]] = {
    option.key: option
    for option in (
        Option("roles", ",".join(ROLES), "what this process does", roles),
        Option("processes", 1, "processes of this kind, which share the port; 0: one a core", cores),
        Option("namespace", "taskflow", "prefix of queues, keys and objects", namespace),
        Option("data_dir", ".taskflow", "embedded data, and log lines on their way; {data} in URLs", text),
        _url("store.url", "sqlite:///{data}/taskflow.db", "where jobs are kept"),
        _url("broker.url", "memory://", "what carries tickets"),
        _url("cache.url", "memory://", "where documents of finished jobs are cached"),
        _url("events.url", "memory://", "what carries events"),
        _url("limiter.url", "memory://", "what counts requests"),
        _url("artifacts.url", "file://{data}/objects", "where logs and files are kept"),
        Option("artifacts.access_key", "", "who this is to an object store that asks", text, secret=True),
        Option("artifacts.secret_key", "", "and the key that proves it", text, secret=True),
        Option("tasks.modules", "", "modules whose tasks this process runs", words, dev="taskflow.demo"),
        Option("consumer.slots", 100, "async handlers at a time", whole(1, 100_000)),
        Option("consumer.threads", 16, "handlers in threads at a time", whole(1, 10_000)),
        Option("consumer.processes", 0, "handlers in child processes at a time; 0: one a core", cores),
        Option("consumer.queues", "", "queues that this worker serves; empty: all", names),
        Option(
            "consumer.lease",
            30,
            "seconds of silence after which this worker is dead",
            duration(LEASE_SECONDS_MIN, LEASE_SECONDS_MAX),
        ),
        Option("consumer.graceful", 25, "seconds that running jobs get at a stop", duration(0, 3_600), dev=2),
        Option("api.host", "127.0.0.1", "address to listen on", text),
        Option("api.port", 8000, "port to listen on; 0: any free one", whole(0, 65_535)),
        Option("api.rate_limit", "100/second burst 200", "jobs that one client may post, or none", rate, dev="none"),
        Option("api.keys", "", "bearer keys that may use the API", words, secret=True),
        Option("api.keys_file", "", "a file with more of them, one a line", text),
        Option("api.auth", "keys", "'off' lets anybody in, whatever the address", choice("keys", "off")),
        Option("api.trusted_proxies", "", "proxies whose X-Forwarded-For counts", networks),
        Option(
            "monitor.address",
            "",
            "where each process answers GET /health/live and /health/ready; empty: nowhere",
            address,
        ),
        Option("retention.finished", "30d", "how long finished jobs are kept", duration(60, 10 * 365 * 86_400.0)),
        Option("log.format", "auto", "auto: JSON unless on a terminal", choice("auto", "json", "console")),
        Option("log.level", "info", "lowest level to write", choice("debug", "info", "warning", "error")),
    )
}
