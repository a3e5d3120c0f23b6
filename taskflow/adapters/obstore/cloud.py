"""Objects in Google Cloud Storage and in Azure Blob Storage. Credentials come from where their own tools look for them."""

from __future__ import annotations

from typing import Any, Self

from obstore.store import AzureStore, GCSStore

from taskflow.adapters.obstore.remote import RETRY, Place, RemoteArtifacts, client


class GoogleArtifacts(RemoteArtifacts):
    """The objects of `gs://bucket[/prefix]`; credentials as `GOOGLE_APPLICATION_CREDENTIALS` or the machine has them."""

    @classmethod
    def from_url(cls, url: str, **_: Any) -> Self:
        """The store of a `gs://` URL.

        Raises:
            ValueError: the URL cannot be used.
        """
        return cls(Place.of(url, ()))

    def _made(self) -> GCSStore:
        return GCSStore(self._place.bucket, prefix=self._place.prefix, client_options=client(), retry_config=RETRY)


class AzureArtifacts(RemoteArtifacts):
    """The objects of `az://container[/prefix]`; the access key is the account's name, the secret key its key."""

    @classmethod
    def from_url(cls, url: str, *, access_key: str = "", secret_key: str = "", **_: Any) -> Self:
        """The store of an `az://` URL.

        Raises:
            ValueError: the URL cannot be used, or half of the credentials is missing.
        """
        return cls(Place.of(url, ()), access_key=access_key, secret_key=secret_key)

    def _made(self) -> AzureStore:
        settings: dict[str, Any] = {}
        if self._access_key:
            settings = {"account_name": self._access_key, "account_key": self._secret_key}
        return AzureStore(
            self._place.bucket, prefix=self._place.prefix, client_options=client(), retry_config=RETRY, **settings
        )
