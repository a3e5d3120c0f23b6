"""A process on Redis and S3, which go and come back: jobs do not notice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.system import System, embedded
from tests.support import until_sync
from tests.throwaway import ThrowawayRedis, ThrowawayWeed

pytestmark = pytest.mark.adapter("redis", "s3")


@pytest.fixture
def process(tmp_path: Path, own_redis: ThrowawayRedis, own_weed: ThrowawayWeed) -> Iterator[System]:
    """One that uses both."""
    with embedded(
        tmp_path,
        TASKFLOW_CACHE_URL=own_redis.url,
        TASKFLOW_EVENTS_URL=own_redis.url,
        TASKFLOW_LIMITER_URL=own_redis.url,
        TASKFLOW_API_RATE_LIMIT="1/hour burst 20",
        TASKFLOW_ARTIFACTS_URL=own_weed.url,
        TASKFLOW_ARTIFACTS_ACCESS_KEY=own_weed.access_key,
        TASKFLOW_ARTIFACTS_SECRET_KEY=own_weed.secret_key,
        TASKFLOW_NAMESPACE="house",
    ) as running:
        yield running.start()


def down(process: System) -> set[str]:
    """Components that do not answer."""
    components: dict[str, Any] = process.http.get("/health").json()["components"]
    return {name for name, found in components.items() if found["status"] != "ok"}


def log_of(process: System, job_id: str) -> tuple[str, str]:
    answer = process.http.get(f"/logs/{job_id}")
    return answer.headers.get("taskflow-logs", ""), answer.text


def done(process: System, payload: dict[str, Any]) -> tuple[str, float]:
    """Submit a job that logs, wait for its end; its id and the seconds that took."""
    began = time.monotonic()
    job_id = process.submit("demo.log", payload)
    assert process.job(job_id, wait=20)["state"] == "succeeded"
    return job_id, time.monotonic() - began


def test_jobs_do_not_notice_an_outage(process: System, own_redis: ThrowawayRedis, own_weed: ThrowawayWeed) -> None:
    """Results, logs and limits are there all the time; what was to be stored is stored at the end."""
    assert down(process) == set()
    before, _ = done(process, {"lines": ["before"]})
    until_sync(lambda: log_of(process, before)[0] == "complete")
    assert b"house:limit:" in own_redis.ask("KEYS", "house:*")
    own_redis.kill()
    own_weed.stop()
    # Each of the ways to wait has its deadline: an event that never comes costs a poll of 2 s.
    within, seconds = done(process, {"lines": ["within", "the outage"]})
    assert seconds < 12
    assert {"cache", "events", "limiter", "artifacts"} == down(process)
    assert process.http.get("/health").json()["status"] == "degraded"
    assert process.http.get("/health/ready").status_code == 200
    answers = [process.http.post("/jobs", json={"task": "demo.echo"}).status_code for _ in range(30)]
    assert answers.count(202) <= 20
    assert 429 in answers
    own_redis.start()
    own_weed.start()
    until_sync(lambda: down(process) == set(), within=20)
    until_sync(lambda: log_of(process, within)[0] == "complete", within=30)
    text = log_of(process, within)[1]
    assert text.index("within") < text.index("the outage")
    assert "before" in log_of(process, before)[1]
    # The limiter counts in the process until it has noticed that Redis is back.
    until_sync(lambda: process.http.post("/jobs", json={"task": "demo.echo"}).status_code == 202)
    _, seconds = done(process, {"lines": ["after"]})
    assert seconds < 6
    assert own_weed.secret_key not in process.output


def test_what_an_outage_kept_from_s3_survives_a_kill(process: System, own_weed: ThrowawayWeed) -> None:
    """The lines lie in the spool, and the next process ships them."""
    own_weed.stop()
    job_id, _ = done(process, {"lines": ["kept"]})
    process.kill()
    own_weed.start()
    process.start()
    until_sync(lambda: log_of(process, job_id)[0] == "complete" and "kept" in log_of(process, job_id)[1], within=30)
