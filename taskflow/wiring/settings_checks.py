"""What settings cannot mean together. Each check is made on what could be read, so that all problems are told at once."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any, Final

from taskflow.wiring.options import ROLES
from taskflow.wiring.plugins import PORTS, NoSuchAdapter, adapter, scheme_of

KEY_LENGTH: Final = 16
SHARED: Final = ("broker", "cache", "events")


def contradictions(values: Mapping[str, Any]) -> Iterator[str]:
    """A line for each thing that cannot work.

    Args:
        values: settings by key; those that could not be read are missing.
    """
    yield from _adapters(values)
    yield from _credentials(values)
    yield from _split(values)
    yield from _several(values)
    yield from _keys(values)


def _adapters(values: Mapping[str, Any]) -> Iterator[str]:
    for port in PORTS:
        url = values.get(f"{port}.url")
        if url is None:
            continue
        try:
            adapter(port, url)
        except NoSuchAdapter as error:
            yield f"{port}.url: {error}"


def _credentials(values: Mapping[str, Any]) -> Iterator[str]:
    pair = ("artifacts.access_key", "artifacts.secret_key")
    if all(key in values for key in pair) and bool(values[pair[0]]) != bool(values[pair[1]]):
        yield f"{' and '.join(pair)} go together: set both, or none"


def _split(values: Mapping[str, Any]) -> Iterator[str]:
    missing = [role for role in ROLES if role not in values.get("roles", ROLES)]
    if not missing:
        return
    for port in SHARED:
        if scheme_of(values.get(f"{port}.url", "")) == "memory":
            yield (
                f"{port}.url is memory://, which other processes cannot see, and this one runs without the "
                f"{' and the '.join(missing)}: run all roles here, or choose another {port}"
            )


def _several(values: Mapping[str, Any]) -> Iterator[str]:
    count = values.get("processes", 1)
    if count == 1:
        return
    limited = "api" in values.get("roles", ROLES) and values.get("api.rate_limit") is not None
    ports = (*SHARED, "limiter") if limited else SHARED
    alone = [port for port in ports if scheme_of(values.get(f"{port}.url", "")) == "memory"]
    if scheme_of(values.get("store.url", "")) == "sqlite":
        alone.insert(0, "store")
    if alone:
        urls = ", ".join(f"{port}.url {scheme_of(values[f'{port}.url'])}:" for port in alone)
        yield f"processes is {count}, and one process alone can use {urls} choose others, or run one process"


def _keys(values: Mapping[str, Any]) -> Iterator[str]:
    keys, auth, host = values.get("api.keys"), values.get("api.auth"), values.get("api.host")
    if keys is None or auth is None:
        return
    if any(len(key) < KEY_LENGTH for key in keys):
        yield f"api.keys: a key must have at least {KEY_LENGTH} characters"
    if any(not key.isascii() or not key.isprintable() or " " in key for key in keys):
        yield "api.keys: a key must be printable ASCII without blanks, since it travels in a header"
    if keys and auth == "off":
        yield 'api.keys are set, and api.auth = "off" lets anybody in: drop one of them'
    if "api" in values.get("roles", ROLES) and host is not None and not _loopback(host) and not keys and auth != "off":
        yield (
            f"api.host {host!r} can be reached from other machines, and no api.keys are set: set some, or say "
            'api.auth = "off"'
        )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
