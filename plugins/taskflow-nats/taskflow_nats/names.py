"""Names of streams, subjects and consumers."""

from __future__ import annotations

from typing import Final

from taskflow.core.job import LaneKey

VERSION: Final = "v1"
"""Part of each name: another layout needs other streams."""


class Names:
    """The names of a namespace. NATS reads a dot as a level, so a dot of a name is written `=`, which no name has.

    Attributes:
        stream: holds the tickets of every lane.
        subjects: what it listens to.
        dead: holds what could not be read, for looking only.
    """

    def __init__(self, namespace: str) -> None:
        base = f"{_token(namespace)}-{VERSION}"
        self._prefix = f"taskflow.{base}"
        self.stream = f"taskflow-{base}"
        self.subjects = f"{self._prefix}.lanes.>"
        self.dead = f"{self.stream}-dead"
        self.dead_subject = f"{self._prefix}.dead"

    def subject(self, lane: LaneKey) -> str:
        """Where a lane's tickets are published."""
        return f"{self._prefix}.lanes.{_token(lane.queue)}.{lane.lane.name.lower()}"

    def consumer(self, lane: LaneKey) -> str:
        """The durable consumer that all workers pull a lane's tickets from."""
        return f"{_token(lane.queue)}-{lane.lane.name.lower()}"


def _token(name: str) -> str:
    return name.replace(".", "=")
