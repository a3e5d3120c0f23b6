"""A PostgreSQL URL: where the database is, and how to talk to it."""

from __future__ import annotations

import difflib
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

PREFIX: Final = "postgresql://"
EXAMPLE: Final = "postgresql://user:password@host:5432/database"
MODES: Final = ("disable", "prefer", "require", "verify-ca", "verify-full")
POOL_SIZE: Final = 10
POOL_SIZE_MAX: Final = 1_000
_SCHEMA: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a URL says.

    Attributes:
        dsn: the URL without the options that are TaskFlow's own; secret.
        schema: the schema that holds the tables, `None` for the database's own search path.
        pool_size: most connections of one process.
        pgbouncer: whether a transaction pooler stands between, which keeps no session.
        sslmode, sslrootcert, sslcert, sslkey: as libpq has them; `None` where the URL says nothing.
        several: whether it names more than one host, of which one is the primary.
    """

    dsn: str = field(repr=False)
    schema: str | None = None
    pool_size: int = POOL_SIZE
    pgbouncer: bool = False
    sslmode: str | None = None
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None
    several: bool = False

    def tls(self) -> ssl.SSLContext | str | bool | None:
        """What the driver is told about TLS; reads the certificates.

        Raises:
            ValueError: a certificate or key cannot be read.
        """
        if self.sslmode is None or (self.sslmode == "prefer" and not self.sslcert):
            return self.sslmode
        if self.sslmode == "disable":
            return False
        try:
            # A root that is given is checked, whatever the mode says; none given is the machine's own for `verify-…`.
            context = ssl.create_default_context(cafile=self.sslrootcert)
            context.check_hostname = self.sslmode == "verify-full"
            if not self.sslmode.startswith("verify") and not self.sslrootcert:
                context.verify_mode = ssl.CERT_NONE
            if self.sslcert:
                context.load_cert_chain(self.sslcert, self.sslkey)
        except (OSError, ssl.SSLError) as error:
            named = ", ".join(filter(None, (self.sslrootcert, self.sslcert, self.sslkey)))
            raise ValueError(f"a certificate of the store ({named}) cannot be read: {error}") from error
        return context


def parse(url: str) -> Target:
    """Read a URL. No message shows the password.

    Raises:
        ValueError: it is no PostgreSQL URL, or an option is unknown or wrong.
    """
    if not url.startswith(PREFIX):
        raise ValueError(f"the store's URL does not begin with {PREFIX}: use {EXAMPLE}")
    parts = urlsplit(url)
    if not parts.path.strip("/"):
        raise ValueError(f"the store's URL names no database: use {EXAMPLE}")
    rest: list[tuple[str, str]] = []
    values: dict[str, Any] = {}
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name in _PASSED_ON:
            rest.append((name, text))
        elif name in _OPTIONS:
            values[name] = _OPTIONS[name](name, text)
        else:
            raise ValueError(f"the store's URL has no option {name!r}{_nearest(name)}; there are {', '.join(_KNOWN)}")
    if values.get("sslkey") and not values.get("sslcert"):
        raise ValueError("the store's URL has an sslkey without an sslcert: give both")
    several = "," in parts.netloc.rpartition("@")[2] or any("," in text for name, text in rest if name == "host")
    where = url.partition("?")[0]
    return Target(dsn=f"{where}?{urlencode(rest)}" if rest else where, several=several, **values)


def _mode(name: str, text: str) -> str:
    if text not in MODES:
        raise ValueError(f"the store's URL says {name}={text}: use one of {', '.join(MODES)}")
    return text


def _schema(name: str, text: str) -> str:
    if not _SCHEMA.fullmatch(text):
        raise ValueError(f"the store's URL says {name}={text}: use 1 to 63 letters, digits or '_', no digit first")
    return text


def _size(name: str, text: str) -> int:
    if not text.isdecimal() or not 2 <= int(text) <= POOL_SIZE_MAX:
        raise ValueError(f"the store's URL says {name}={text}: use a whole number from 2 to {POOL_SIZE_MAX:,}")
    return int(text)


def _switch(name: str, text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError(f"the store's URL says {name}={text}: use true or false")
    return text == "true"


def _path(name: str, text: str) -> str:
    if not text:
        raise ValueError(f"the store's URL says nothing for {name}: name a file")
    return str(Path(text).expanduser())


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


_OPTIONS: Final[Mapping[str, Callable[[str, str], Any]]] = {
    "sslmode": _mode,
    "sslrootcert": _path,
    "sslcert": _path,
    "sslkey": _path,
    "schema": _schema,
    "pool_size": _size,
    "pgbouncer": _switch,
}
_PASSED_ON: Final = ("host", "port", "user", "passfile")
_KNOWN: Final = sorted([*_OPTIONS, *_PASSED_ON])
