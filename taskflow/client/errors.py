"""What can go wrong between a client and the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskflow.core.errors import TaskFlowError


class Unreachable(TaskFlowError):
    """No TaskFlow answers at the address."""


class WaitRanOut(TaskFlowError, TimeoutError):
    """The job was not over in time."""


class ProblemError(TaskFlowError):
    """The API refused.

    Attributes:
        status: the HTTP status.
        document: the problem document (RFC 9457).
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        lines = [str(document.get("detail", document))]
        lines += [f"  {error.get('pointer') or 'body'}: {error.get('detail')}" for error in document.get("errors", ())]
        super().__init__("\n".join(lines))
        self.document = document
        self.status = int(document.get("status", 0))

    @property
    def temporary(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in {429, 503}
