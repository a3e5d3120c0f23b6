"""Adapters by URL: the scheme is the plug-in's name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from taskflow.core.errors import TaskFlowError
from taskflow.ports import PORT_VERSION

PORTS: Final = ("broker", "store", "cache", "events", "artifacts", "limiter")
FIRST_VERSION: Final = 1
"""What an adapter that names no PORT_VERSION was made for."""
FAILPOINTS: Final = "TASKFLOW_TEST_FAILPOINTS"
"""Where a process finds out that it is to fail on purpose; see `taskflow.testing.failpoints`."""


class NoSuchAdapter(TaskFlowError):
    """No installed plug-in serves this URL."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """An adapter that could be chosen.

    Attributes:
        port: what it serves.
        scheme: of the URLs that choose it.
        distribution: the package that it was installed with.
        version: of that package.
        adapter: `module:class`.
        problem: why it cannot be used, as far as that was looked at.
    """

    port: str
    scheme: str
    distribution: str
    version: str
    adapter: str
    problem: str | None = None


def installed(*, check: bool = False) -> list[Plugin]:
    """Every adapter, by port and scheme.

    Args:
        check: import each, to see whether it can be used.
    """
    return [
        _plugin(port, point, check=check)
        for port in PORTS
        for point in sorted(entry_points(group=f"taskflow.{port}"), key=lambda point: point.name)
    ]


@lru_cache
def schemes(port: str) -> tuple[str, ...]:
    """Schemes that installed plug-ins serve for a port."""
    return tuple(sorted({point.name for point in entry_points(group=f"taskflow.{port}")}))


def scheme_of(url: str) -> str:
    """The scheme of a URL; `""` where it has none."""
    scheme, colon, _ = url.partition(":")
    return scheme if colon else ""


def load(port: str, scheme: str) -> Any:
    """The adapter class of a scheme; only its own package is imported.

    Raises:
        NoSuchAdapter: no plug-in has this scheme, it cannot be imported, or it was made for another version of the ports.
    """
    found = [point for point in entry_points(group=f"taskflow.{port}") if point.name == scheme]
    if not found:
        known = ", ".join(f"{name}:" for name in schemes(port))
        hint = f"installed: {known}" if known else "none is installed at all: install taskflow-orchestrator with pip"
        raise NoSuchAdapter(
            f"no plug-in serves {repr(scheme) if scheme else 'a URL without a scheme'} as {port}; {hint}"
        )
    try:
        factory = found[0].load()
    except Exception as error:
        raise NoSuchAdapter(f"the plug-in {found[0].value} of {scheme}: cannot be imported: {error}") from error
    version = getattr(factory, "PORT_VERSION", FIRST_VERSION)
    if version != PORT_VERSION:
        raise NoSuchAdapter(
            f"the plug-in {found[0].value} of {scheme}: was made for version {version} of the ports, and this is "
            f"{PORT_VERSION}: install a version of it that fits"
        )
    return factory


def adapter(port: str, url: str, **options: Any) -> Any:
    """The unopened adapter of a URL.

    Raises:
        NoSuchAdapter: no plug-in serves it, or its plug-in refuses the URL. The message shows no password.
    """
    factory = load(port, scheme_of(url))
    try:
        made = factory.from_url(url, **options)
    except ValueError as error:
        raise NoSuchAdapter(str(error).replace(url, masked(url))) from None
    if FAILPOINTS not in os.environ:
        return made
    from taskflow.testing import failpoints  # noqa: PLC0415 - for tests of recovery only

    return failpoints.arm(port, made)


def _plugin(port: str, point: EntryPoint, *, check: bool) -> Plugin:
    problem = None
    if check:
        try:
            load(port, point.name)
        except NoSuchAdapter as error:
            problem = str(error)
    name, version = (point.dist.name, point.dist.version) if point.dist else ("", "")
    return Plugin(port, point.name, name, version, point.value, problem)


def masked(url: str) -> str:
    """A URL without its user and password."""
    head, at, tail = url.rpartition("@")
    return f"{scheme_of(head)}://***@{tail}" if at else url
