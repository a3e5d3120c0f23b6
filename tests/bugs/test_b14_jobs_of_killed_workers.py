"""A job that runs when its worker is killed is never run again: nobody holds it, and nobody looks for it.

Seen in arq#343, rq#1461, procrastinate#307, saq#127 and huey#571. Right: within the lease and a sweep another worker runs it,
and exactly one of its runs is accepted.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

from tests.acceptance.system import System
from tests.bug_report import Report
from tests.support import FULL, until_sync

KILLS = 10 if FULL else 1
AT_ONCE = 20 if FULL else 5
SECONDS = 1.5


def held(system: System, jobs: list[str]) -> bool:
    """Whether the worker that lives now runs all of these."""
    documents = [system.job(job_id) for job_id in jobs]
    return all(job["state"] == "running" and f"-{system.worker.pid}-" in job["worker"] for job in documents)


def succeeded(system: System, jobs: list[str]) -> bool:
    """Whether all of these have."""
    return all(system.job(job_id)["state"] == "succeeded" for job_id in jobs)


def test_every_job_of_a_killed_worker_runs_again(system: System, report: Report) -> None:
    """Killed with -9 in mid-run, again and again; each time what it ran is done soon after by the next one."""
    every: list[str] = []
    for _ in range(KILLS):
        jobs = [system.submit("demo.sleep", {"seconds": SECONDS}, max_attempts=1) for _ in range(AT_ONCE)]
        every += jobs
        until_sync(partial(held, system, jobs), 30)
        system.kill("consumer")
        system.start()
        until_sync(partial(succeeded, system, jobs), 60)
    done = [system.job(job_id) for job_id in every]
    assert {(job["state"], job["attempt"]) for job in done} == {("succeeded", 1)}
    closings = [Counter(attempt["outcome"] for attempt in job["attempts"]) for job in done]
    assert {counted["succeeded"] for counted in closings} == {1}
    killed = sum(counted["crashed"] for counted in closings)
    assert killed >= KILLS * AT_ONCE
    report("B14", scale=f"{KILLS} kills, {len(every)} jobs, {killed} killed runs", faults=killed)
