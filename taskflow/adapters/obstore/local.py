"""Objects in a directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from obstore.store import LocalStore

from taskflow.adapters.obstore.objects import DEADLINE, ObjectArtifacts
from taskflow.core.errors import ArtifactsUnavailable


class LocalArtifacts(ObjectArtifacts):
    """The objects below a `file:///` directory.

    Args:
        root: the directory; made when opened, readable by its owner only.
        deadline: seconds that one call may take.
    """

    def __init__(self, root: Path, deadline: float = DEADLINE) -> None:
        super().__init__(deadline)
        self._root = root

    @classmethod
    def from_url(cls, url: str, **_: Any) -> Self:
        """The store of a `file:///absolute/directory` URL.

        Raises:
            ValueError: the URL names a host or no directory.
        """
        parts = urlsplit(url)
        path = unquote(parts.path)
        if parts.scheme != "file" or parts.netloc not in {"", "localhost"} or not path.strip("/"):
            raise ValueError(f"{url!r} is no directory's URL: use file:///absolute/directory")
        return cls(Path(path))

    def _open(self) -> LocalStore:
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ArtifactsUnavailable(f"the directory {self._root} cannot be made: {error.strerror}") from error
        return LocalStore(self._root)
