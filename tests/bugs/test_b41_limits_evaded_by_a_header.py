"""A header that any client may write decides whose requests are counted: another one each time, and there is no limit.

Seen in fastapi-limiter#9. Right: only a configured proxy's X-Forwarded-For counts, and of it the right-most hop that is no
such proxy; whatever else is written there, in any of the usual headers, changes nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from taskflow.adapters.pyrate import MemoryLimiter
from taskflow.ports.limiter import Rate
from taskflow.roles.api.client import Proxies
from tests.api.house import House, opened
from tests.bug_report import Report
from tests.support import FULL

REQUESTS = 5_000 if FULL else 150
RATE = Rate(limit=1, period=3_600.0, burst=20)
HEADERS = ("X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "Via")


def address() -> str:
    """One that a client may invent."""
    four = ".".join(str(random.randrange(256)) for _ in range(4))
    six = ":".join(f"{random.randrange(1 << 16):x}" for _ in range(8))
    return random.choice([four, six, f"{four}:{random.randrange(1, 1 << 16)}", f"[{six}]", "unknown", f"_x{four}", ""])


def invented() -> dict[str, str]:
    """Headers of a client that wants to be somebody else each time."""
    chosen = random.sample(HEADERS, random.randrange(1, 4))
    return {
        name: f"for={address()}" if name == "Forwarded" else ", ".join(address() for _ in range(random.randrange(1, 4)))
        for name in chosen
    }


async def answers(house: House, headers: Any) -> Counter[int]:
    """What came of many requests."""
    seen: Counter[int] = Counter()
    for _ in range(REQUESTS):
        seen[(await house.http.post("/jobs", json={"task": "t.any"}, headers=headers())).status_code] += 1
    return seen


async def test_invented_addresses_count_as_one_client(tmp_path: Path, report: Report) -> None:
    """Where no proxy is trusted."""
    async with opened(tmp_path, limiter=MemoryLimiter(clock=lambda: 0.0), rate=RATE) as house:
        assert await answers(house, invented) == {202: 20, 429: REQUESTS - 20}
    report("B41", scale=f"{REQUESTS} requests, {len(HEADERS)} headers", faults=REQUESTS)


@pytest.mark.parametrize("hop", ["198.51.100.7", "198.51.100.7:{port}", "[2001:db8::7]:{port}", "2001:db8::{port}"])
async def test_behind_a_proxy_its_own_word_counts(tmp_path: Path, hop: str, report: Report) -> None:
    """What the client wrote stands left of it. Some proxies add the port, which is new with each connection."""

    def headers() -> dict[str, str]:
        said = hop.format(port=random.randrange(1, 9_999))
        return invented() | {"X-Forwarded-For": ", ".join([*(address() for _ in range(3)), said, "10.0.0.2"])}

    proxies = ("127.0.0.1", "10.0.0.0/8")
    async with opened(tmp_path, limiter=MemoryLimiter(clock=lambda: 0.0), rate=RATE, trusted_proxies=proxies) as house:
        assert await answers(house, headers) == {202: 20, 429: REQUESTS - 20}
        other = await house.http.post("/jobs", json={"task": "t.any"}, headers={"X-Forwarded-For": "203.0.113.9"})
        assert other.status_code == 202
    report("B41", scale=f"{REQUESTS} requests behind two proxies, the client as {hop}", faults=REQUESTS)


async def test_guesses_at_keys_count_as_one_client(tmp_path: Path, report: Report) -> None:
    """The limit of wrong keys is evaded no more easily."""
    async with opened(tmp_path, limiter=MemoryLimiter(clock=lambda: 0.0), keys=("right",)) as house:
        seen = await answers(house, lambda: invented() | {"Authorization": f"Bearer {random.random()}"})
    assert seen == {401: 20, 429: REQUESTS - 20}
    report("B41", scale=f"{REQUESTS} wrong keys", faults=REQUESTS)


def test_no_header_makes_a_peer_a_proxy(report: Report) -> None:
    """Only the connection tells who the peer is, and only a whole address is compared."""
    proxies = Proxies(["10.0.0.1"])
    for peer in ("10.0.0.10", "10.0.0.1.evil.example", "::1", "192.0.2.1"):
        assert proxies.client({"type": "http", "client": (peer, 1)}, "198.51.100.7") != "198.51.100.7"
    report("B41", scale="4 peers that look like a proxy", faults=4)
