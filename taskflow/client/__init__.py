"""A small HTTP client, for the command line and for programs."""

from taskflow.client.documents import (
    AttemptDocument,
    ErrorDocument,
    HealthDocument,
    JobDocument,
    OutcomeDocument,
    Page,
    QueueDocument,
    TaskDocument,
    WorkerDocument,
)
from taskflow.client.errors import PartlySubmitted, ProblemError, Unreachable, WaitRanOut
from taskflow.client.http import Client

__all__ = [
    "AttemptDocument",
    "Client",
    "ErrorDocument",
    "HealthDocument",
    "JobDocument",
    "OutcomeDocument",
    "Page",
    "PartlySubmitted",
    "ProblemError",
    "QueueDocument",
    "TaskDocument",
    "Unreachable",
    "WaitRanOut",
    "WorkerDocument",
]
