"""/docs and /redoc."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.api.house import House

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
Browse = Callable[[str], tuple[str, set[str]]]


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_a_page_loads_only_from_here(house: House, path: str) -> None:
    """No other origin in the page, a policy that would refuse one, and no script in line."""
    answer = await house.http.get(f"http://here{path}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'self';")
    assert "unsafe-inline" not in answer.headers["content-security-policy"].replace(
        "style-src 'self' 'unsafe-inline'", ""
    )
    loaded = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    assert all(url.startswith("/") or url == "data:," for url in loaded)
    for url in loaded:
        if url.startswith("/"):
            asset = await house.http.get(f"http://here{url}")
            assert asset.status_code == 200
            tag = {"If-None-Match": asset.headers["etag"]}
            assert (await house.http.get(f"http://here{url}", headers=tag)).status_code == 304
    assert (await house.http.get("http://here/docs/assets/..%2F__init__.py")).status_code == 404
    assert (await house.http.get("http://here/docs/assets/none.js")).status_code == 404


async def test_redoc_tells_nobody(house: House) -> None:
    """Its telemetry is off by its own switch, not only by the policy."""
    assert "disableTelemetry: true" in (await house.http.get("http://here/docs/assets/redoc.js")).text


@pytest.fixture
def browse(served: str, tmp_path: Path) -> Browse:
    """Dump a page that headless Chromium has rendered, and what the page has asked for."""

    def dump(path: str) -> tuple[str, set[str]]:
        assert CHROMIUM is not None
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--window-size=1400,14000",
        ]
        log = tmp_path / "net.json"
        done = subprocess.run(
            [
                CHROMIUM,
                *flags,
                f"--user-data-dir={tmp_path / 'profile'}",
                f"--log-net-log={log}",
                "--virtual-time-budget=4000",
                "--dump-dom",
                served + path,
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        return html.unescape(done.stdout), asked(log.read_text(), served)

    return dump


def asked(net_log: str, origin: str) -> set[str]:
    """URLs that a page of `origin` asked for, as the browser logged them; the browser's own errands are left out."""
    try:
        log = json.loads(net_log)
    except json.JSONDecodeError:
        # A browser that was stopped leaves the list open.
        log = json.loads(net_log.rstrip().rstrip(",") + "]}")
    found = [event["params"] for event in log["events"] if "initiator" in event.get("params", {})]
    return {params["url"] for params in found if params["initiator"] == origin and "url" in params}


def operations(served: str) -> list[dict[str, Any]]:
    """Every operation of the description."""
    paths = httpx2.get(f"{served}/openapi.json").json()["paths"]
    return [operation for methods in paths.values() for operation in methods.values()]


@pytest.mark.slow
@needs_chromium
def test_swagger_ui_shows_every_operation_and_asks_nobody_else(served: str, browse: Browse) -> None:
    """All on one page; no request to another origin."""
    page, urls = browse("/docs")
    wanted = operations(served)
    assert [operation["summary"] for operation in wanted if operation["summary"] not in page] == []
    assert page.count('<div class="opblock opblock-') == len(wanted)
    assert f"{served}/openapi.json" in urls
    assert {url for url in urls if not url.startswith(f"{served}/")} == set()


@pytest.mark.slow
@needs_chromium
def test_redoc_shows_every_operation_and_asks_nobody_else(served: str, browse: Browse) -> None:
    """Those of a tag on the tag's page; no request to another origin."""
    wanted = operations(served)
    for tag in sorted({operation["tags"][0] for operation in wanted}):
        slug = tag.replace(" ", "-")
        page, urls = browse(f"/redoc#/{slug}")
        for operation in wanted:
            if operation["tags"] == [tag]:
                assert f'href="#/{slug}/{operation["operationId"]}"' in page
                assert operation["description"].partition(".")[0].partition("`")[0] in page
        assert f"{served}/openapi.json" in urls
        assert {url for url in urls if not url.startswith(f"{served}/")} == set()
