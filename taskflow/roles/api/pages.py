"""The API description and two pages that show it, without a network: their scripts come with this package and `offapi`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any, Final

import orjson
from starlette.requests import Request

from taskflow.roles.api.answer import JSON, NO_CACHE, Answer, etag_of, matches
from taskflow.roles.api.problems import not_found

_POLICY: Final = (
    b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; worker-src 'self' "
    b"blob:; frame-ancestors 'none'; base-uri 'none'"
)
CSP: Final = (b"content-security-policy", _POLICY)
OURS: Final = "taskflow.roles.api"
ASSETS: Final = {
    "swagger.js": (OURS, "static/swagger.js"),
    "redoc.js": (OURS, "static/redoc.js"),
    "swagger-bundle.js": ("offapi", "swagger_bundle.js"),
    "swagger-style.css": ("offapi", "swagger_style.css"),
    "redoc-bundle.js": ("offapi", "redoc.js"),
}
TYPES: Final = {"js": b"text/javascript; charset=utf-8", "css": b"text/css; charset=utf-8"}
HTML: Final = (b"content-type", b"text/html; charset=utf-8")


class PageRoutes:
    """`/openapi.json`, `/docs`, `/redoc` and what they load.

    Args:
        describe: makes the description; asked once, when somebody wants it.
    """

    def __init__(self, describe: Callable[[], dict[str, Any]]) -> None:
        self._describe = describe
        self._description: bytes | None = None

    async def openapi(self, request: Request) -> Answer:
        """The description."""
        if self._description is None:
            self._description = orjson.dumps(self._describe())
        return _tagged(request, self._description, JSON)

    async def docs(self, request: Request) -> Answer:
        """Swagger UI."""
        return _tagged(request, _read(OURS, "static/swagger.html"), HTML, CSP)

    async def redoc(self, request: Request) -> Answer:
        """Redoc."""
        return _tagged(request, _read(OURS, "static/redoc.html"), HTML, CSP)

    async def asset(self, request: Request) -> Answer:
        """A script or a style."""
        name = request.path_params["name"]
        if name not in ASSETS:
            raise not_found(f"page {name[:80]!r}")
        kind = (b"content-type", TYPES[name.rpartition(".")[2]])
        return _tagged(request, _read(*ASSETS[name]), kind)


def _tagged(request: Request, body: bytes, *headers: tuple[bytes, bytes]) -> Answer:
    tag = etag_of(body)
    if matches(request.headers.get("if-none-match"), tag):
        return Answer(304, headers=((b"etag", tag), NO_CACHE))
    return Answer(200, body, (*headers, (b"etag", tag), NO_CACHE))


@cache
def _read(package: str, name: str) -> bytes:
    return files(package).joinpath(name).read_bytes()
