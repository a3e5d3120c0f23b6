"""Requests and answers: every failure becomes one of our errors."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Final

import httpx2

from taskflow.client.errors import ProblemError, Unreachable
from taskflow.core.errors import TaskFlowError

TIMEOUT: Final = 10.0
BASE: Final = "/api/v1"


class Transport:
    """Asks one TaskFlow.

    Args:
        url: its address.
        key: a bearer key, where it wants one.
        timeout: seconds to connect, and to wait for more of an answer.
        transport: what carries requests; for tests.

    Raises:
        TaskFlowError: the address is no http or https URL, or the key cannot travel in a header.
    """

    def __init__(
        self, url: str, key: str | None, timeout: float = TIMEOUT, transport: httpx2.BaseTransport | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        if key and not (key.isascii() and key.isprintable()):
            raise TaskFlowError("the API key has characters that cannot travel in a header")
        try:
            parsed = httpx2.URL(self.url)
        except httpx2.InvalidURL as error:
            raise TaskFlowError(f"{url!r} is no address: {error}") from None
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise TaskFlowError(f"{url!r} is no address: use one such as http://127.0.0.1:8000")
        self._http = httpx2.Client(
            base_url=self.url + BASE,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=timeout,
            transport=transport,
            # A proxy of the environment cannot reach this machine's own loopback.
            trust_env=not _loopback(parsed.host),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        wait: float = 0.0,
        accepted: frozenset[int] = frozenset(),
    ) -> httpx2.Response:
        """One request.

        Args:
            wait: seconds that the answer may take beyond the usual.
            accepted: statuses of errors that are answers here.

        Raises:
            Unreachable: nobody answers, or no TaskFlow does.
            ProblemError: it was refused.
        """
        given = {name: value for name, value in (params or {}).items() if value not in (None, ())}
        content = {} if body is None else {"json": body}
        try:
            answer = self._http.request(
                method, path, params=given, headers=headers, timeout=self._timeout + wait, **content
            )
        except httpx2.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(
                f"no TaskFlow answers at {self.url}: {reason}; start one with `taskflow dev`, or name its address "
                "(--url, TASKFLOW_URL)"
            ) from None
        except (ValueError, UnicodeError) as error:
            raise TaskFlowError(f"the request cannot be written: {error}") from None
        if answer.status_code >= 400 and answer.status_code not in accepted:
            raise ProblemError(_problem(answer), _retry_after(answer))
        return answer

    def document(self, method: str, path: str, **options: Any) -> Any:
        """One request, and the JSON of its answer; raises as `ask` does."""
        answer = self.ask(method, path, **options)
        try:
            return answer.json()
        except ValueError:
            raise Unreachable(f"what answers at {self.url} is no TaskFlow: {path} is no JSON") from None


def _problem(answer: httpx2.Response) -> dict[str, Any]:
    try:
        document = answer.json()
    except ValueError:
        document = None
    if isinstance(document, dict) and "detail" in document:
        return {"status": answer.status_code, **document}
    return {"status": answer.status_code, "detail": f"status {answer.status_code}: {answer.text[:500]}"}


def _retry_after(answer: httpx2.Response) -> float | None:
    """Only as seconds: as TaskFlow says it."""
    value = answer.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdecimal() else None


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
