"""Errors that cross rooms. Each says what was wrong, with which value, and what to do."""

from __future__ import annotations

from dataclasses import dataclass


class TaskFlowError(Exception):
    """Base of every error that TaskFlow raises on purpose."""


class StoreUnavailable(TaskFlowError):
    """The store cannot be reached or cannot write now; the same call may succeed later."""


class BrokerUnavailable(TaskFlowError):
    """The broker cannot be reached now; the table still holds every job."""


class ArtifactsUnavailable(TaskFlowError):
    """The object store cannot be reached now."""


class DataRejected(TaskFlowError):
    """The store refuses a value in the batch for good; halving the batch finds the guilty row."""


class NotFound(TaskFlowError):
    """There is no such thing (a job, a queue, an object)."""


class Conflict(TaskFlowError):
    """The thing is not in a state that allows this (replay of a job that has not failed, say)."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field of a document.

    Attributes:
        pointer: JSON pointer to the field (RFC 6901), `""` for the whole document.
        detail: what is wrong with it and what would be right.
    """

    pointer: str
    detail: str


class Invalid(TaskFlowError):
    """A document breaks the rules; `errors` names every field that does."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(f"{e.pointer or 'document'}: {e.detail}" for e in errors))
        self.errors = errors
