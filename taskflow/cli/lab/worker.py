"""The lab that kills a worker."""

from __future__ import annotations

from taskflow.cli.lab.stage import Narrator, accepted, shown, system
from taskflow.client import JobDocument


def play(jobs: int) -> None:
    """Kill the process that runs so many jobs, and one that is longer.

    Raises:
        NotAsPromised: a job was lost, or done twice.
    """
    tell = Narrator("What becomes of jobs whose process is killed while it runs them?")
    with system(["dev"]) as running:
        tell.step("Start `taskflow dev`: all roles in one process, and a directory for everything.")
        running.start()
        tell.seen(f"pid {running.pid}, {running.url}")

        tell.step(f"Submit {jobs} jobs that take 5 s each, and one that takes 6 s and says how far it is.")
        long = running.api.submit({"task": "demo.progress", "payload": {"steps": 30, "seconds": 6}})
        short = {"task": "demo.sleep", "payload": {"seconds": 5}}
        everything = [long, *accepted(running.api.submit_many([short] * jobs))]
        tell.seen(f"{len(everything)} accepted: each was on the disk before its 202 was sent")

        tell.step("Wait until the long one has begun.")
        progress = running.until("the long job says how far it is", lambda: running.api.job(long["id"])["progress"])
        tell.seen(f"the long one is at {progress['message']!r}; {shown(running.count(everything))}")

        tell.step(f"kill -9 {running.pid}")
        running.kill()
        tell.promised(
            "nobody answers; nothing could be written, sent or cleaned up before", holds=not running.answers()
        )

        tell.step("Start it again, in the same directory.")
        running.start()
        if rescued := running.said("rescued"):
            tell.seen(f"it says: {rescued.strip()}")

        tell.step("Wait until all is done.")
        states = running.over(everything)
        tell.promised(f"{shown(states)}, of {len(everything)} accepted", holds=states["succeeded"] == len(everything))
        tell.seen("the long one, run by run:")
        ended = running.api.job(long["id"])
        tell.seen(_attempts(ended))
        outcomes = [attempt["outcome"] for attempt in ended["attempts"]]
        once = len(outcomes) == 2 and outcomes.count("succeeded") == 1
        tell.promised("it was begun twice, and closed once", holds=once)
    tell.lesson(
        "A job is a row, and a run holds a lease on it. Whoever dies renews no lease, so its rows are taken back and run again:\n"
        "at least once, never not at all. What a handler does outside TaskFlow should bear being done twice: see\n"
        "docs/how-to/idempotency.md."
    )


def _attempts(job: JobDocument) -> str:
    return "\n".join(
        f"  epoch {attempt['epoch']}, attempt {attempt['number']}: {attempt['outcome'] or 'running'}"
        for attempt in job["attempts"]
    )
