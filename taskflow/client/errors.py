"""What can go wrong between a client and the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        retry_after: seconds after which to come back, where it says so.
    """

    def __init__(self, document: Mapping[str, Any], retry_after: float | None = None) -> None:
        lines = [str(document.get("detail", document))]
        lines += [f"  {error.get('pointer') or 'body'}: {error.get('detail')}" for error in document.get("errors", ())]
        super().__init__("\n".join(lines))
        self.document = document
        self.status = int(document.get("status", 0))
        self.retry_after = retry_after

    @property
    def temporary(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in {429, 503}


class PartlySubmitted(TaskFlowError):
    """One of several requests failed (its error is the `__cause__`), and those before it have done their part.

    Attributes:
        items: what became of the jobs before those of that request.
    """

    def __init__(self, items: Sequence[Mapping[str, Any]], error: TaskFlowError) -> None:
        super().__init__(
            f"the jobs from index {len(items)} on were not accepted, or nobody knows; those before were answered "
            f"(`items`): {error}"
        )
        self.items = list(items)
