"""A resource: one path, a handler for each of its methods, and the errors of all of them as problem documents."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from taskflow.roles.api.client import Gate
from taskflow.roles.api.deadline import Deadline
from taskflow.roles.api.edge import REQUEST_ID
from taskflow.roles.api.operation import Handler
from taskflow.roles.api.problems import LATE, Problem, problem_of, unavailable


class Resource:
    """An ASGI endpoint.

    Args:
        handlers: by method; GET answers HEAD, too.
        deadline: seconds that a handler may take.
        gate: counts POST requests, `None` where the handlers do that themselves.
    """

    def __init__(self, handlers: Mapping[str, Handler], *, deadline: float, gate: Gate | None) -> None:
        self.handlers = dict(handlers)
        self._deadline = Deadline(deadline)
        self._gate = gate
        methods = sorted({*handlers, *({"HEAD"} if "GET" in handlers else ())})
        self._allow = ", ".join(methods).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        method = scope["method"]
        head = method == "HEAD"
        handler = self.handlers.get("GET" if head else method)
        try:
            if handler is None:
                detail = f"{method} is not allowed here: use {self._allow.decode()}"
                raise Problem(405, "method-not-allowed", detail, headers=[(b"allow", self._allow)])
            if self._gate is not None and method == "POST":
                await self._gate.enter(scope)
            answer = await self._deadline.within(handler(Request(scope, receive)))
        except ClientDisconnect:
            return
        except TimeoutError:
            late = scope.get(LATE)
            answer = (late() if late else unavailable("no answer in time; send the request again")).answer(
                scope[REQUEST_ID]
            )
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                raise
            answer = problem.answer(scope[REQUEST_ID])
        await answer.send(send, head=head)
