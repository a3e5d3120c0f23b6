"""What object stores behind HTTP have in common: the form of their URLs, patience, and who is told to be at fault."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore

from taskflow.adapters.obstore.objects import DEADLINE, ObjectArtifacts
from taskflow.core.errors import ArtifactsUnavailable
from taskflow.ports.artifacts import ObjectInfo

if TYPE_CHECKING:
    # They exist for type checkers only.
    from obstore.store import ClientConfig, RetryConfig

# obstore's own retry goes on for 180 s, which nobody here waits for: the log spool and a handler's retry do it better.
RETRY: Final[RetryConfig] = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=5),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1), "base": 2},
}
CONNECT: Final = timedelta(seconds=2)
SILENCE: Final = timedelta(seconds=15)
WHOLE: Final = timedelta(hours=1)
"""A large object may be read slowly: each chunk has a deadline, and the whole of it has this one."""
IDLE: Final = timedelta(seconds=10)
KEPT: Final = 8
"""Connections that are kept for later, of as many as a burst opened."""

_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")


@dataclass(frozen=True, slots=True)
class Place:
    """Where objects lie, and what else the URL says."""

    bucket: str
    prefix: str | None
    options: Mapping[str, str]

    @classmethod
    def of(cls, url: str, known: tuple[str, ...]) -> Self:
        """The place that `scheme://bucket[/prefix][?option=value]` names.

        Raises:
            ValueError: it names none, or has options that are not known.
        """
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise ValueError(
                f"a URL of {parts.scheme}:// holds no credentials: set artifacts.access_key and artifacts.secret_key"
            )
        if not _BUCKET.fullmatch(parts.netloc) or parts.fragment:
            raise ValueError(f"{url!r} names no bucket: use {parts.scheme}://bucket[/prefix][?option=value]")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if wrong := sorted(options.keys() - set(known)):
            raise ValueError(
                f"a URL of {parts.scheme}:// has no option {', '.join(wrong)}; it may have {', '.join(known) or 'none'}"
            )
        return cls(parts.netloc, unquote(parts.path).strip("/") or None, options)


def client(*, allow_http: bool = False, authority: str | None = None) -> ClientConfig:
    """How requests are made.

    Args:
        allow_http: also without TLS.
        authority: a PEM file of certificates that are trusted beside the system's.

    Raises:
        ArtifactsUnavailable: the file cannot be read.
    """
    config: ClientConfig = {
        "allow_http": allow_http,
        "connect_timeout": CONNECT,
        "read_timeout": SILENCE,
        "timeout": WHOLE,
        "pool_idle_timeout": IDLE,
        "pool_max_idle_per_host": str(KEPT),
    }
    if authority:
        try:
            with open(authority, "rb") as file:  # noqa: PTH123 - its name is all that is wanted of it
                config["root_certificate"] = file.read()
        except OSError as error:
            raise ArtifactsUnavailable(f"the certificates {authority} cannot be read: {error.strerror}") from None
    return config


class RemoteArtifacts(ObjectArtifacts):
    """The objects of a bucket.

    Args:
        place: the bucket and the options of its URL.
        access_key: who this is; empty: what the environment or the machine says.
        secret_key: and the proof.
        deadline: seconds that one call may take.
    """

    def __init__(self, place: Place, *, access_key: str = "", secret_key: str = "", deadline: float = DEADLINE) -> None:
        if bool(access_key) != bool(secret_key):
            raise ValueError("artifacts.access_key and artifacts.secret_key go together: set both, or none")
        super().__init__(deadline)
        self._place = place
        self._access_key = access_key
        self._secret_key = secret_key
        self._seen = False

    @abstractmethod
    def _made(self) -> ObjectStore:
        """The store, as its driver makes it."""

    def _open(self) -> ObjectStore:
        try:
            return self._made()
        except (BaseError, ValueError) as error:
            why = self._reason(error)
            raise ArtifactsUnavailable(f"the bucket {self._place.bucket} cannot be opened: {why}") from None

    async def stat(self, key: str) -> ObjectInfo | None:
        """Key, size and when it was stored, or `None`."""
        found = await super().stat(key)
        if found is None and not self._seen:
            # An answer without a body does not tell a missing object from a missing bucket.
            async with self._mapped(key, "looked up") as store:
                await obstore.list_with_delimiter_async(store, key)
            self._seen = True
        return found

    async def sign(self, key: str, seconds: float) -> str | None:
        """A URL that reads the object; made here, without asking the store."""
        async with self._mapped(key, "signed"):
            return await obstore.sign_async(self._signer(), "GET", key, timedelta(seconds=seconds))

    def _signer(self) -> Any:
        return self._opened

    def _unusable(self, error: Exception) -> str | None:
        text = str(error)
        code = _CODE.search(text)
        if "NoSuchBucket" in text or "ContainerNotFound" in text:
            return f"there is no bucket {self._place.bucket}: make it, or correct artifacts.url"
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            return (
                f"the bucket {self._place.bucket} refuses access ({code[1] if code else 'no reason given'}): check "
                "artifacts.access_key, artifacts.secret_key and what they may do"
            )
        return None

    def _reason(self, error: Exception) -> str:
        code = _CODE.search(str(error))
        line = super()._reason(error).partition(": <?xml")[0] + (f" ({code[1]})" if code else "")
        for secret in (self._secret_key, self._access_key):
            line = line.replace(secret, "***") if len(secret) > 2 else line
        return line
