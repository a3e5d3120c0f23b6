"""The URL: what is wrong with one is said before anything is opened."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import parse_qsl, unquote, urlsplit

PORT: Final = 4222
OPTIONS: Final = frozenset({"cafile", "certfile", "domain", "keyfile", "replicas", "tls"})
_EXAMPLE: Final = (
    "use nats://user:password@host:4222, with more servers after commas, and reserved characters percent-encoded"
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where NATS is, and how to enter.

    Attributes:
        servers: `nats://host:port` each, tried in turn.
        user: a name or, without a password, a token.
        password: of the user.
        options: of the query.
    """

    servers: tuple[str, ...]
    user: str | None
    password: str | None
    options: dict[str, str]

    @classmethod
    def of(cls, url: str) -> Self:
        """Read a URL.

        Raises:
            ValueError: it is none of NATS; the message says what to write.
        """
        wrong = f"{url!r} is no NATS URL: {_EXAMPLE}"
        parts = urlsplit(url)
        if parts.scheme != "nats" or parts.path.strip("/") or parts.fragment:
            raise ValueError(wrong)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := sorted(options.keys() - OPTIONS):
            raise ValueError(f"{url!r}: unknown option {unknown[0]!r}; known are {', '.join(sorted(OPTIONS))}")
        if options.get("replicas", "1") not in {"1", "2", "3", "4", "5"}:
            raise ValueError(f"{url!r}: replicas={options['replicas']} is no whole number from 1 to 5")
        if options.get("tls", "false") not in {"true", "false"}:
            raise ValueError(f"{url!r}: tls={options['tls']} is neither true nor false")
        if ("keyfile" in options) > ("certfile" in options):
            raise ValueError(f"{url!r}: a keyfile is nothing without its certfile")
        who, _, hosts = parts.netloc.rpartition("@")
        if "@" in who:
            raise ValueError(wrong)
        user, _, password = who.partition(":")
        servers = []
        for host in hosts.split(","):
            try:
                one = urlsplit(f"nats://{host}")
                port = one.port or PORT
            except ValueError as error:
                raise ValueError(f"{url!r} is no NATS URL ({error}): {_EXAMPLE}") from None
            if not one.hostname or "@" in host:
                raise ValueError(wrong)
            name = f"[{one.hostname}]" if ":" in one.hostname else one.hostname
            servers.append(f"nats://{name}:{port}")
        return cls(tuple(servers), unquote(user) or None, unquote(password) or None, options)

    @property
    def replicas(self) -> int:
        """Servers that keep the stream."""
        return int(self.options.get("replicas", "1"))

    @property
    def domain(self) -> str | None:
        """The JetStream domain."""
        return self.options.get("domain")

    def credentials(self) -> dict[str, Any]:
        """What the client is told to enter with. Reads the files that the URL names.

        Raises:
            OSError: one cannot be read.
        """
        told: dict[str, Any] = {"servers": list(self.servers)}
        if self.password is None:
            told["token"] = self.user
        else:
            told["user"], told["password"] = self.user, self.password
        if self.options.get("tls") == "true" or self.options.keys() & {"cafile", "certfile"}:
            context = ssl.create_default_context(cafile=self.options.get("cafile"))
            if "certfile" in self.options:
                context.load_cert_chain(self.options["certfile"], self.options.get("keyfile"))
            told["tls"] = context
        return {name: value for name, value in told.items() if value is not None}
