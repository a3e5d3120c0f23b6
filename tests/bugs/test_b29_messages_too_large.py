"""A payload beyond what the broker takes closes the channel: the job is lost without a word, and its neighbours' with it.

Seen in kombu#2336 and celery#8851, at 16 MiB. Right: the size is judged at the door; what is accepted is kept by the store,
a message on the broker is small whatever the job is, and nobody beside a refused request notices anything.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from taskflow.adapters.rabbitmq.publishing import packed
from taskflow.core.ids import new_id
from taskflow.core.job import Lane, LaneKey, RunsIn, Ticket
from taskflow.core.limits import BATCH_BODY_BYTES, BODY_BYTES, PAYLOAD_BYTES, TICKETS_SHARED
from taskflow.testing.store_facts import T0
from tests.acceptance.system import System
from tests.api.house import House
from tests.bug_report import Report
from tests.support import FULL

JSON = {"content-type": "application/json"}
BROKER_BYTES = 16 << 20
"""What RabbitMQ takes at most, unless told otherwise."""
SMALL = 200
OUTSIDE = SMALL if FULL else 40
LARGE = 14 if FULL else 5


def compact(body: Any) -> bytes:
    """JSON without a byte too many."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def payload(size: int, filler: str = "x") -> bytes:
    """A submit whose payload is so many bytes long."""
    overhead = len('{"x":""}')
    text = filler * ((size - overhead) // len(filler.encode()))
    text += "x" * (size - overhead - len(text.encode()))
    return compact({"task": "t.any", "payload": {"x": text}})


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    """A body whose length nobody declared."""
    for start in range(0, len(body), 65_536):
        yield body[start : start + 65_536]


async def test_size_is_judged_at_the_door(house: House, report: Report) -> None:
    """The limit exactly and a byte more, in one-byte and in four-byte characters, declared and in chunks, alone and in a
    batch; two hundred small ones beside are all accepted."""

    async def post(body: Any, path: str = "/jobs") -> int:
        return (await house.http.post(path, content=body, headers=JSON)).status_code

    cases: dict[int, list[tuple[Any, str]]] = {
        202: [(payload(PAYLOAD_BYTES), "/jobs"), (payload(PAYLOAD_BYTES, "💩"), "/jobs")],
        422: [(payload(PAYLOAD_BYTES + 1), "/jobs"), (payload(PAYLOAD_BYTES + 1, "💩"), "/jobs")],
        413: [
            (b'{"task": "t.any"}'.ljust(BODY_BYTES + 1), "/jobs"),
            (payload(17 << 20), "/jobs"),
            (chunks(payload(17 << 20)), "/jobs"),
            (b'{"jobs": []}'.ljust(BATCH_BODY_BYTES + 1), "/jobs/batch"),
        ],
    }
    asked = [(code, post(*case)) for code, some in cases.items() for case in some]
    small = [(202, post(b'{"task": "t.any"}')) for _ in range(SMALL)]
    every = [pair for pairs in itertools.zip_longest(small, asked) for pair in pairs if pair]
    codes = await asyncio.gather(*(answer for _, answer in every))
    assert list(codes) == [code for code, _ in every]
    assert len(house.tickets.offered) == SMALL + 2
    report("B29", scale=f"8 large requests among {SMALL} small ones", faults=6)


async def test_a_batch_of_large_jobs_is_kept_whole(house: House, report: Report) -> None:
    """Together as large as a request may be; the one that is too large is named and nobody else suffers."""
    jobs = [json.loads(payload(PAYLOAD_BYTES)) for _ in range(LARGE)] + [{"task": "t.any"}] * 20
    answer = await house.http.post("/jobs/batch", content=compact({"jobs": jobs}), headers=JSON)
    assert Counter(item["status"] for item in answer.json()["items"]) == {202: LARGE + 20}
    jobs[3]["payload"]["x"] += "x"
    answer = await house.http.post("/jobs/batch", content=compact({"jobs": jobs}), headers=JSON)
    assert [item["index"] for item in answer.json()["items"] if item["status"] != 202] == [3]
    report("B29", scale=f"{LARGE} MiB in one batch", faults=1)


def test_a_message_is_small_whatever_the_job_is(report: Report) -> None:
    """It names jobs and holds none; however many are published at once, no message comes near the broker's limit."""
    lanes = [LaneKey("q" * 128, lane) for lane in Lane]

    def tickets() -> Iterator[Ticket]:
        for n in range(10_000):
            yield Ticket(new_id(), lanes[n % 3], RunsIn.PROCESS, T0)

    every = list(tickets())
    for share in (1, TICKETS_SHARED):
        messages = packed(every, share)
        assert max(len(message.body) for message in messages) < BROKER_BYTES / 400
        assert sum(len(message.body) for message in messages) >= 25 * len(every)
    report("B29", scale="10,000 tickets at once", faults=2)


def test_from_outside(system: System, report: Report) -> None:
    """The largest payload runs and comes back as the result; what is larger is refused; small ones beside all run."""
    large = json.loads(payload(PAYLOAD_BYTES))["payload"]

    def post(body: dict[str, Any]) -> Any:
        return system.http.post("/jobs", json=body)

    bodies: list[dict[str, Any]] = [{"task": "demo.echo", "payload": {"n": n}} for n in range(OUTSIDE)]
    bodies[10:10] = [{"task": "demo.echo", "payload": large}]
    bodies[20:20] = [{"task": "demo.echo", "payload": large | {"y": size * "y"}} for size in (1, 17 << 20)]
    bodies[30:30] = [{"task": "test.result", "payload": {"kind": "huge"}}]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, bodies))
    assert Counter(answer.status_code for answer in answers) == {202: OUTSIDE + 2, 422: 1, 413: 1}
    jobs = [system.job(answer.json()["id"], wait=30) for answer in answers if answer.is_success]
    assert Counter(job["state"] for job in jobs) == {"succeeded": OUTSIDE + 1, "failed": 1}
    assert next(job for job in jobs if job["payload"] == large)["result"] == large
    report("B29", scale=f"1 MiB and 17 MiB among {OUTSIDE} small ones", faults=3)
