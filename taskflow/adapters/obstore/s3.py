"""Objects in S3: Amazon's, MinIO, or anything that speaks like it."""

from __future__ import annotations

from typing import Any, Final, Self
from urllib.parse import urlsplit

from obstore.store import S3Store

from taskflow.adapters.obstore.remote import RETRY, Place, RemoteArtifacts, client

REGION: Final = "us-east-1"
"""What a store of one's own calls itself, unless told otherwise."""
KNOWN: Final = ("endpoint", "region", "public_endpoint", "virtual_hosted", "ca")


class S3Artifacts(RemoteArtifacts):
    """The objects of `s3://bucket[/prefix]`.

    Options of the URL: `endpoint` (`http://…` or `https://…`; none: Amazon), `region`, `public_endpoint` (what clients
    reach, for signed URLs), `virtual_hosted=true` (the bucket is part of the host name), `ca` (a PEM file of
    certificates to trust beside the system's).
    """

    @classmethod
    def from_url(cls, url: str, *, access_key: str = "", secret_key: str = "", **_: Any) -> Self:
        """The store of an `s3://` URL.

        Raises:
            ValueError: the URL cannot be used, or half of the credentials is missing.
        """
        place = Place.of(url, KNOWN)
        for name in ("endpoint", "public_endpoint"):
            value = place.options.get(name)
            if value is not None and not _is_endpoint(value):
                raise ValueError(f"the option {name} of an s3:// URL reads http://host[:port] or https://host[:port]")
        if place.options.get("virtual_hosted", "false") not in {"true", "false"}:
            raise ValueError("the option virtual_hosted of an s3:// URL is true or false")
        return cls(place, access_key=access_key, secret_key=secret_key)

    def _made(self) -> S3Store:
        options = self._place.options
        store = self._store(options.get("endpoint"))
        public = options.get("public_endpoint")
        self._public = self._store(public) if public else store
        return store

    def _store(self, endpoint: str | None) -> S3Store:
        options = self._place.options
        settings: dict[str, Any] = {"virtual_hosted_style_request": options.get("virtual_hosted") == "true"}
        if endpoint:
            settings["endpoint"] = endpoint.rstrip("/")
        if region := options.get("region") or (REGION if endpoint else None):
            settings["region"] = region
        if self._access_key:
            settings |= {"access_key_id": self._access_key, "secret_access_key": self._secret_key}
        http = (endpoint or "").startswith("http:")
        config = client(allow_http=http, authority=options.get("ca"))
        return S3Store(
            self._place.bucket, prefix=self._place.prefix, client_options=config, retry_config=RETRY, **settings
        )

    def _signer(self) -> S3Store:
        return self._public


def _is_endpoint(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return (
            parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc and not parts.query
        )
    except ValueError:
        return False
