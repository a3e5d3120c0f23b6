"""A handler that only computes keeps the loop from renewing its lease, and a second worker runs the job beside it.

Seen in bullmq#3183 and #3056. Right: beats have a thread of their own, and the API a loop of its own; the job runs once, and
meanwhile others are answered and jobs in threads are run.
"""

from __future__ import annotations

import time
from pathlib import Path

from tests.acceptance.system import System
from tests.bug_report import Report
from tests.support import FULL, until_sync

SECONDS = 30.0 if FULL else 5.0
"""More than the lease of 4 s; some leases at full scale."""
ANSWER = 1.0


def test_pure_python_for_longer_than_the_lease(system: System, tmp_path: Path, report: Report) -> None:
    """It never gives the interpreter away by itself, let alone the loop."""
    runs = tmp_path / "runs"
    job_id = system.submit("bug.spin", {"seconds": SECONDS, "path": str(runs)})
    until_sync(lambda: system.job(job_id)["state"] == "running")
    answered = 0
    slowest = 0.0
    while system.job(job_id)["state"] == "running":
        asked = time.monotonic()
        assert system.http.get("/health").status_code == 200
        slowest = max(slowest, time.monotonic() - asked)
        answered += 1
        if answered == 5:
            words = system.submit("demo.words", {"text": "beside"})
            assert system.job(words, wait=10)["state"] == "succeeded"
    job = system.job(job_id)
    assert [attempt["outcome"] for attempt in job["attempts"]] == ["succeeded"]
    assert runs.read_text().splitlines() == [f"{job_id} 1"]
    assert job["result"] > 1_000
    assert slowest < ANSWER
    assert answered > SECONDS
    report("B20", scale=f"{SECONDS:.0f} s under a lease of 4 s; slowest answer {slowest:.2f} s", faults=answered)
