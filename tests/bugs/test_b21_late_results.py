"""At its timeout a run is tried again while it goes on; in the end it writes its result over that of the second.

Seen in hatchet#1022. Right: the late result is refused, whatever the handler runs in; in a process it does not even go on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.acceptance.system import System
from tests.bug_report import Report
from tests.support import FULL

TIMEOUT, LONG = (30.0, 35.0) if FULL else (1.5, 2.2)
KINDS = {"async": "bug.wilful", "thread": "bug.wilful_thread", "process": "bug.wilful_process"}


def accepted(job: dict[str, Any]) -> int:
    """The attempt whose result stands; a slow machine may need more of them than two."""
    number = len(job["attempts"])
    assert number > 1
    assert [attempt["outcome"] for attempt in job["attempts"]] == ["timeout"] * (number - 1) + ["succeeded"], job
    assert (job["state"], job["result"]) == ("succeeded", f"of attempt {number}"), job
    return number


def test_the_second_attempt_stands(system: System, tmp_path: Path, report: Report) -> None:
    """The first of each kind overlooks its timeout; what it returns, while the second runs, is nobody's result any more."""
    steps = {kind: tmp_path / kind for kind in KINDS}
    jobs = {
        kind: system.submit(task, {"seconds": LONG, "path": str(steps[kind])}, timeout=TIMEOUT, max_attempts=9)
        for kind, task in KINDS.items()
    }
    stand = {kind: accepted(system.job(job_id, wait=60)) for kind, job_id in jobs.items()}
    for kind in ("async", "thread"):
        assert steps[kind].read_text().index("ends 1") < steps[kind].read_text().index(f"ends {stand[kind]}")
    said = steps["process"].read_text().splitlines()
    assert [line for line in said if "ends" in line] == [f"process ends {stand['process']}"]
    # One more job through each kind of slot: whatever a late one had to say has been heard by then.
    for task in KINDS.values():
        last = system.submit(task, {"seconds": 0, "path": str(tmp_path / "last")})
        assert system.job(last, wait=20)["state"] == "succeeded"
    assert {kind: accepted(system.job(job_id)) for kind, job_id in jobs.items()} == stand
    report("B21", scale=f"3 kinds of handlers, timeout {TIMEOUT:g} s, over after {LONG:g} s", faults=len(jobs))
