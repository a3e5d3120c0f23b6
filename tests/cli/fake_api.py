"""An API made up here, for commands that run in this process."""

from __future__ import annotations

import json
from typing import Any

import httpx2

JOB: dict[str, Any] = {
    "id": "01a", "task": "t", "queue": "default", "state": "succeeded", "reason": None, "payload": {"a": 1},
    "result": None, "attempt": 1, "error": None, "tags": [], "created_at": "2026-11-25T07:00:00.000000Z",
    "attempts": [],
}  # fmt: skip


class Api:
    """Answers by path, and remembers what was asked."""

    def __init__(self) -> None:
        self.served: dict[str, Any] = {}
        self.asked: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """One request."""
        self.asked.append(request)
        answer = self.served.get(request.url.path.removeprefix("/api/v1"))
        if answer is None:
            return httpx2.Response(404, json={"status": 404, "detail": f"there is no path {request.url.path}"})
        return answer if isinstance(answer, httpx2.Response) else httpx2.Response(200, json=answer)

    @property
    def body(self) -> Any:
        """What was posted last."""
        return json.loads(self.asked[-1].content)
