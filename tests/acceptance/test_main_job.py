"""The main job in every shape, seen from outside: real processes, real HTTP, real signals."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.system import System
from tests.support import FULL, until_sync

GRACEFUL, BUSY, RECOVERY = (2.0, 1.0, 2.0) if FULL else (2.0, 3.0, 4.0)
"""Seconds: what running jobs get at a stop, what a busy machine adds to it, and until work goes on after a start."""


def all_done(system: System, count: int, state: str = "succeeded") -> bool:
    """Whether so many jobs are in a state; pages through all of them."""
    found, cursor = 0, None
    while True:
        page = system.http.get(
            "/jobs", params={"state": state, "limit": 200, **({"cursor": cursor} if cursor else {})}
        ).json()
        found += len(page["items"])
        cursor = page["next_cursor"]
        if not cursor:
            return found == count


def test_kill_9_with_a_thousand_jobs_loses_none(fresh: Callable[..., System]) -> None:
    """Every accepted job runs and is closed as succeeded exactly once; work goes on soon after the restart."""
    system = fresh().start()
    effects = system.directory / "effects"
    ids: list[str] = []
    for start in range(0, 1_000, 250):
        body = {
            "jobs": [
                {"task": "test.effect", "payload": {"path": str(effects), "key": f"k{n}"}}
                for n in range(start, start + 250)
            ]
        }
        answer = system.http.post("/jobs/batch", json=body)
        assert answer.status_code == 207
        ids += [item["job"]["id"] for item in answer.json()["items"] if item["status"] == 202]
    sleepers = [system.submit("demo.sleep", {"seconds": 0.5}) for _ in range(20)]
    assert len(set(ids)) == 1_000
    system.kill()
    system.start()
    later = system.submit("test.noop")
    # What had begun waits for the lease of the dead: only what had not is soon over.
    until_sync(lambda: system.job(later)["state"] == "succeeded", RECOVERY)
    until_sync(lambda: all_done(system, 1_021), 60)
    for job_id in [*ids, *sleepers]:
        outcomes = Counter(attempt["outcome"] for attempt in system.job(job_id)["attempts"])
        assert outcomes["succeeded"] == 1
    keys = {line.split()[0] for line in effects.read_text().splitlines()}
    assert keys == {f"k{n}" for n in range(1_000)}


def test_kill_9_in_mid_run_charges_no_attempt(system: System) -> None:
    """The run of the dead process is closed as crashed; the job runs again with its whole budget."""
    job_id = system.submit("demo.sleep", {"seconds": 1.5}, max_attempts=1)
    until_sync(lambda: system.job(job_id)["state"] == "running")
    system.kill("consumer")
    system.start()
    job = system.job(job_id, wait=20)
    assert job["state"] == "succeeded"
    assert [attempt["outcome"] for attempt in job["attempts"]] == ["crashed", "succeeded"]
    assert (job["attempt"], job["crashes"]) == (1, 1)


def test_two_hundred_submits_with_one_key_are_one_job(system: System) -> None:
    """Every answer is 2xx and names the same job; the same key with another body is refused."""
    body = {"task": "demo.echo", "payload": {"n": 1}}

    def post(_: int) -> Any:
        return system.http.post("/jobs", json=body, headers={"Idempotency-Key": "once"})

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(post, range(200)))
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum(answer.status_code == 202 for answer in answers) == 1
    other = system.http.post("/jobs", json={**body, "payload": {"n": 2}}, headers={"Idempotency-Key": "once"})
    assert other.status_code == 422


def test_delays_and_retries_end_well(system: System) -> None:
    """No sooner than asked, and not much later."""
    asked = time.monotonic()
    later = system.submit("demo.echo", delay=1)
    flaky = system.submit("demo.flaky", {"fail_times": 1})
    assert system.job(later)["state"] == "scheduled"
    assert system.job(later, wait=10)["state"] == "succeeded"
    assert 1 <= time.monotonic() - asked < 6
    assert [attempt["outcome"] for attempt in system.job(flaky, wait=20)["attempts"]] == ["failed", "succeeded"]


def test_a_job_that_fails_for_good_can_be_replayed_once(system: System) -> None:
    """Three attempts with growing delays, then the dead-letter list; an edited replay succeeds, its history kept."""
    job_id = system.submit("demo.flaky", {"fail_times": 9}, max_attempts=3)
    job = system.job(job_id, wait=30)
    assert (job["state"], job["reason"]) == ("failed", "attempts_used_up")
    starts = [attempt["started_at"] for attempt in job["attempts"]]
    assert len(starts) == 3
    assert job_id in [item["id"] for item in system.http.get("/dead-letters").json()["items"]]
    answer = system.http.post(f"/jobs/{job_id}/replay", json={"payload": {"fail_times": 0}})
    assert answer.status_code == 200, answer.text
    again = system.http.post(f"/jobs/{job_id}/replay")
    job = system.job(job_id, wait=10)
    assert again.status_code == 409
    assert (job["state"], job["run"], job["attempt"]) == ("succeeded", 2, 4)
    assert [attempt["outcome"] for attempt in job["attempts"]] == ["failed"] * 3 + ["succeeded"]


def test_a_blocked_handler_loop_holds_nothing_else_up(system: System) -> None:
    """While a handler blocks its loop, for longer than the lease, health answers and jobs in threads run."""
    blocked = system.submit("test.block", {"seconds": 20 if FULL else 5})
    until_sync(lambda: system.job(blocked)["state"] == "running")
    words = system.submit("demo.words", {"text": "a b"})
    assert system.job(words, wait=5)["state"] == "succeeded"
    slowest = 0.0
    while system.job(blocked)["state"] == "running":
        asked = time.monotonic()
        assert system.http.get("/health").status_code == 200
        slowest = max(slowest, time.monotonic() - asked)
    assert slowest < 1
    assert [attempt["outcome"] for attempt in system.job(blocked)["attempts"]] == ["succeeded"]


def test_a_process_task_that_ignores_everything_is_killed_at_its_timeout(system: System) -> None:
    """And its slot comes back: as many as there are slots hang, then one that works."""
    slots = system.http.get("/workers").json()["items"][0]["slots"]["process"]
    hung = [system.submit("test.hang", timeout=1, max_attempts=1) for _ in range(slots)]
    jobs = [system.job(job_id, wait=20) for job_id in hung]
    assert {(job["state"], job["error"]["type"]) for job in jobs} == {("failed", "Timeout")}
    assert system.job(system.submit("demo.spin", {"seconds": 0.05}), wait=20)["state"] == "succeeded"


def test_three_hung_threads_do_not_stop_other_jobs(system: System) -> None:
    """Their attempts end at their timeout, and threads go on serving."""
    hung = [system.submit("test.hang_thread", {"seconds": 6}, timeout=0.5, max_attempts=1) for _ in range(3)]
    assert system.job(system.submit("demo.words", {"text": "x"}), wait=5)["state"] == "succeeded"
    assert {system.job(job_id, wait=15)["attempts"][0]["outcome"] for job_id in hung} == {"timeout"}
    assert system.job(system.submit("demo.words", {"text": "x"}), wait=5)["state"] == "succeeded"


def test_a_stop_interrupts_what_cannot_end_and_charges_nothing(system: System) -> None:
    """The process ends within its graceful time with exit code 0; the job's attempt is given back and runs after the restart."""
    job_id = system.submit("demo.sleep", {"seconds": 4}, max_attempts=1)
    until_sync(lambda: system.job(job_id)["state"] == "running")
    asked = time.monotonic()
    system.signal(signal.SIGTERM)
    assert system.wait() == {0}
    assert time.monotonic() - asked < GRACEFUL + BUSY
    system.start()
    job = system.job(job_id, wait=20)
    assert [attempt["outcome"] for attempt in job["attempts"]] == ["interrupted", "succeeded"]
    assert (job["state"], job["attempt"], job["interruptions"]) == ("succeeded", 1, 1)


def test_a_second_signal_ends_at_once(fresh: Callable[..., System]) -> None:
    """Instead of waiting for the graceful time, which Ctrl-C began as SIGTERM does; the run is an interruption all the same."""
    system = fresh(TASKFLOW_CONSUMER_GRACEFUL="60").start()
    job_id = system.submit("demo.sleep", {"seconds": 60})
    until_sync(lambda: system.job(job_id)["state"] == "running")
    system.signal(signal.SIGINT)
    until_sync(lambda: not system.listens())
    asked = time.monotonic()
    # Two of a kind could become one before a process looks.
    system.signal(signal.SIGTERM)
    assert system.wait() == {0}
    assert time.monotonic() - asked < 3
    system.start()
    assert system.job(job_id)["attempts"][0]["outcome"] == "interrupted"


def test_a_paused_queue_starts_nothing_and_a_resumed_one_at_once(system: System) -> None:
    """The claim itself checks the pause; the reason is shown."""
    assert system.http.post("/queues/default/pause", json={"reason": "lunch"}).json()["pause_reason"] == "lunch"
    job_id = system.submit("demo.echo")
    assert system.job(job_id, wait=2)["state"] == "queued"
    system.http.post("/queues/default/resume")
    assert system.job(job_id, wait=3)["state"] == "succeeded"


def test_a_running_job_is_cancelled_within_a_second_or_so(system: System) -> None:
    """By event, not by the next beat."""
    job_id = system.submit("demo.sleep", {"seconds": 60})
    until_sync(lambda: system.job(job_id)["state"] == "running")
    assert system.http.post(f"/jobs/{job_id}/cancel").status_code == 202
    job = system.job(job_id, wait=3)
    assert (job["state"], job["attempts"][0]["outcome"]) == ("cancelled", "cancelled")
    assert system.http.post(f"/jobs/{job_id}/cancel").status_code == 409


def test_a_task_that_no_worker_has_waits_until_one_brings_it(fresh: Callable[..., System]) -> None:
    """The job says why it waits, and runs once the task is back."""
    system = fresh(TASKFLOW_TASKS_MODULES="gone", TASKFLOW_CONSUMER_LEASE="2")
    module = system.directory / "gone.py"
    module.write_text("from taskflow import task\n\n@task('gone.soon')\nasync def soon() -> int:\n    return 7\n")
    system.start()
    job = system.job(system.submit("gone.soon"), wait=10)
    assert job["result"] == 7, job
    system.worker.stop()
    system.configure(TASKFLOW_TASKS_MODULES="taskflow.demo")
    system.start()
    job_id = system.submit("gone.soon")
    waiting = until_sync(lambda: (job := system.job(job_id))["state"] == "waiting" and job)
    assert waiting["reason"] == "no_worker"
    system.worker.stop()
    system.configure(TASKFLOW_TASKS_MODULES="gone")
    system.start()
    assert system.job(job_id, wait=10)["state"] == "succeeded"


@pytest.mark.parametrize("kind", ["nul", "surrogate", "nan", "huge", "cyclic", "unserialisable"])
def test_a_result_that_cannot_be_kept_is_one_clear_failure(system: System, kind: str) -> None:
    """One attempt, failed, with a message that says why."""
    job = system.job(system.submit("test.result", {"kind": kind}), wait=10)
    assert (job["state"], job["attempt"], job["error"]["type"]) == ("failed", 1, "UnstorableResult")


def test_a_job_that_kills_its_workers_is_quarantined(fresh: Callable[..., System]) -> None:
    """Two workers die of it; the third runs it apart, where only a child dies: poison. Its neighbours succeed."""
    system = fresh(TASKFLOW_CONSUMER_LEASE="2").start()
    system.http.post("/jobs", json={"task": "test.crash"})
    system.worker.wait(20)
    system.launch()
    system.worker.wait(20)
    system.start()
    [job] = until_sync(lambda: system.http.get("/dead-letters").json()["items"], 20)
    assert (job["reason"], job["crashes"]) == ("poison", 3)
    assert system.job(system.submit("demo.echo"), wait=5)["state"] == "succeeded"


def running_on(system: System, pid: int) -> bool:
    """Whether a process runs a job; what a dead one ran says so for a while, too."""
    return any(f"-{pid}-" in job["worker"] for job in system.http.get("/jobs?state=running").json()["items"])


def test_innocent_jobs_outlive_any_number_of_kills(fresh: Callable[..., System]) -> None:
    """The death of a worker is no proof against what it ran: nothing is quarantined, everything succeeds, and those
    that run apart meanwhile do so one after the other without gaps."""
    system = fresh(TASKFLOW_CONSUMER_LEASE="2").start()
    jobs = [system.submit("demo.sleep", {"seconds": 0.5}) for _ in range(6)]
    for _ in range(3):
        until_sync(lambda: running_on(system, system.worker.pid), 20)
        system.kill("consumer")
        system.start()
    begun = time.monotonic()
    ended = [system.job(job_id, wait=30) for job_id in jobs]
    assert {job["state"] for job in ended} == {"succeeded"}
    assert max(job["crashes"] for job in ended) >= 2
    assert time.monotonic() - begun < 25


def children(parent: int) -> list[int]:
    """Processes whose parent this is and that run jobs."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            runs_jobs = b"child_main" in stat.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z" and runs_jobs:
            found.append(int(stat.parent.name))
    return found


def lives(process: int) -> bool:
    """Whether it can still do something; one that nobody has waited for cannot."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_child_processes_die_with_their_worker(system: System) -> None:
    """However it dies: nothing of a run goes on while another worker starts it again."""
    job_id = system.submit("test.hang")
    [child] = until_sync(lambda: children(system.worker.pid), 10)
    until_sync(lambda: system.job(job_id)["state"] == "running")
    system.kill("consumer")
    until_sync(lambda: not lives(child), 5)
    system.start()
    assert system.http.post(f"/jobs/{job_id}/cancel").is_success


def test_lines_of_a_killed_process_are_not_lost(system: System) -> None:
    """They lie in the spool, and the next process ships them."""
    job_id = system.submit("demo.log", {"lines": ["before the kill", *["later"] * 40], "seconds": 400}, max_attempts=1)
    until_sync(
        lambda: (
            any(b"before the kill" in path.read_bytes() for path in system.directory.rglob("*.spool") if path.exists())
            or "before the kill" in system.http.get(f"/logs/{job_id}").text
        )
    )
    system.kill("consumer")
    system.start()
    until_sync(lambda: "before the kill" in system.http.get(f"/logs/{job_id}?epoch=1").text)
    assert system.http.post(f"/jobs/{job_id}/cancel").is_success


def test_resources_are_opened_once_and_reach_handlers(fresh: Callable[..., System]) -> None:
    """A lifespan of the user's module, in async, thread and process handlers; files and lines from each."""
    system = fresh(TASKFLOW_TASKS_MODULES="mine")
    (system.directory / "mine.py").write_text(
        """
import logging
from taskflow import Context, lifespan, task

@lifespan
async def resources():
    yield {"greeting": "hello"}

@task("mine.loop")
async def in_loop(ctx: Context) -> str:
    logging.getLogger("mine").warning("from logging %d", 1)
    await ctx.artifacts.put("a/b.txt", b"loop", content_type="text/plain")
    return ctx.resources["greeting"] + (await ctx.artifacts.get("a/b.txt")).decode()

@task("mine.thread")
def in_thread(ctx: Context) -> str:
    print("from print")
    ctx.artifacts.put_sync("t", b"thread")
    return ctx.resources["greeting"] + ctx.artifacts.get_sync("t").decode()

@task("mine.process", runs_in="process")
def in_process(ctx: Context) -> str:
    ctx.log.info("from a child", n=1)
    ctx.progress(0.5, "half")
    ctx.artifacts.put_sync("p", b"process")
    return ctx.resources["greeting"] + ctx.artifacts.get_sync("p").decode()
"""
    )
    system.start()
    for kind, line in (("loop", "from logging 1"), ("thread", "from print"), ("process", "from a child")):
        job = system.job(system.submit(f"mine.{kind}"), wait=20)
        assert (job["state"], job["result"]) == ("succeeded", f"hello{kind}")
        assert line in system.http.get(f"/logs/{job['id']}").text
        [artifact] = system.http.get(f"/jobs/{job['id']}/artifacts").json()["items"]
        assert system.http.get(f"/jobs/{job['id']}/artifacts/{artifact['name']}").content == kind.encode()
