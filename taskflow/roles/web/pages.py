"""The document and its two readers, Swagger UI and ReDoc, all from this machine: nothing is fetched from elsewhere."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from taskflow.roles.web.problems import not_found

POLICY: Final = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "worker-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
ASSETS: Final = {
    "swagger_bundle.js": "text/javascript",
    "swagger_preset.js": "text/javascript",
    "swagger_style.css": "text/css",
    "redoc.js": "text/javascript",
}
PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>TaskFlow API</title><link rel="icon" href="data:,">{style}</head>
<body><div id="page"></div>{scripts}</body></html>
"""
SWAGGER: Final = PAGE.format(
    style='<link rel="stylesheet" href="/docs/assets/swagger_style.css">',
    scripts='<script src="/docs/assets/swagger_bundle.js"></script><script src="/docs/assets/swagger.js"></script>',
)
REDOC: Final = PAGE.format(
    style="<style>body { margin: 0 }</style>",
    scripts='<script src="/docs/assets/redoc.js"></script><script src="/docs/assets/reader.js"></script>',
)
SCRIPTS: Final = {
    "swagger.js": 'SwaggerUIBundle({ url: "/openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null, '
    "presets: [SwaggerUIBundle.presets.apis] });\n",
    "reader.js": 'Redoc.init("/openapi.json", { disableTelemetry: true, hideDownloadButton: true, '
    'hideLogo: true }, document.getElementById("page"));\n',
}


def page_routes(document: dict[str, Any]) -> list[BaseRoute]:
    """Routes of the document and its readers."""
    body = orjson.dumps(document)

    async def openapi(request: Request) -> Response:
        return _cached(request, body, "application/json")

    async def swagger(request: Request) -> Response:
        return _cached(request, SWAGGER.encode(), "text/html")

    async def redoc(request: Request) -> Response:
        return _cached(request, REDOC.encode(), "text/html")

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name in SCRIPTS:
            return _cached(request, SCRIPTS[name].encode(), "text/javascript")
        if name in ASSETS:
            return _cached(request, (_folder() / name).read_bytes(), ASSETS[name])
        raise not_found(f"asset {name[:100]!r}")

    return [
        Route("/openapi.json", openapi),
        Route("/docs", swagger),
        Route("/redoc", redoc),
        Route("/docs/assets/{name}", asset),
    ]


def _cached(request: Request, body: bytes, kind: str) -> Response:
    tag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
    headers = {**HEADERS, "ETag": tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=kind)


def _folder() -> Path:
    """Where the readers' files lie; the package itself is not imported, since it reads them all into memory."""
    spec = importlib.util.find_spec("offapi")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))
