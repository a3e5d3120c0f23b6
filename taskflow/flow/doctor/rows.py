"""Rows that no statement of TaskFlow writes."""

from __future__ import annotations

from typing import Final

from taskflow.flow.doctor.deployment import LIMIT, Deployment
from taskflow.flow.doctor.findings import Finding, Severity, fine, named
from taskflow.ports.audit import OLDEST, SAMPLE, Odd

IMPOSSIBLE: Final = {
    Odd.TWICE: ("finished, and live or finished once more", "the job may run again though it is over"),
    Odd.NOT_LIVE: ("over for good, and still in the live table", "nobody moves or deletes them"),
    Odd.TOKENLESS_RUN: ("running without worker, epoch, start or deadline", "nobody can settle them"),
    Odd.CLOSED_RUN: ("running an epoch that is closed", "its settlement will be refused"),
    Odd.UNCLOSED: ("over, and their last epoch has no closing record", "how it ended cannot be told"),
    Odd.CLOSED_TWICE: ("with two closing records of one epoch", "an epoch was settled twice"),
    Odd.CLOSED_BEYOND: ("with closing records of epochs they never had", "the row is older than its history"),
    Odd.ATTEMPT_OF_NOBODY: ("with closing records and no job", "the row was deleted by hand, or not restored"),
    Odd.KEY_OF_NOBODY: (
        "with an idempotency key and no job",
        "a submit with that key is answered with a job that is not there, until the key expires after a day",
    ),
}
"""What they are, and what it means."""
CANCEL: Final = "cancel them by `taskflow jobs cancel` and submit them again"
STUCK: Final = {
    Odd.UNSOUND: (
        "with a priority, a lane, a kind or a counter out of bounds",
        "they are neither started nor queued, rescued or expired, and stay as they are",
        f"correct the value, or {CANCEL}",
    ),
    Odd.UNREADABLE: (
        "queued, with a date of creation, a timeout or a counter that is none",
        "no worker claims them, and they stay queued",
        "correct the value there",
    ),
    Odd.UNDRAWABLE: (
        "queued, in a lane of no queue or without the instant at which they were",
        "nothing but a message of the broker could start them, and it is lost or will be",
        f"set queued_at to now, create the queue by POST /api/v1/queues, or {CANCEL}",
    ),
    Odd.UNDATED: (
        "scheduled or to be tried again, at no instant that comes",
        "nobody queues them",
        f"set run_at to an instant, or {CANCEL}",
    ),
    Odd.UNPARKABLE: (
        "waiting, for nothing that may come",
        "only the reason `no_worker` ends by itself, and theirs is another or none",
        f"set reason to 'no_worker', so that they go on once a worker of their task is there, or {CANCEL}",
    ),
}
"""What they are, what it means, and what a hand would do in the table."""
ADVICE: Final = (
    "nothing here is repaired by guessing: these rows come from changes by hand, from a restored backup, or from a fault "
    "of TaskFlow; keep them, look at the database's log of that time, and report it"
)


async def rows(deployment: Deployment) -> list[Finding]:
    """None of them is there, among the newest."""
    found = []
    by_hand = "no TaskFlow writes that, a change by hand does: look at their rows in the table `jobs`, and {}"
    stuck = [(kind, what, means, by_hand.format(mend)) for kind, (what, means, mend) in STUCK.items()]
    impossible = [(kind, what, means, ADVICE) for kind, (what, means) in IMPOSSIBLE.items()]
    for kind, what, means, advice in (*stuck, *impossible):
        ids = await deployment.store.odd(kind, LIMIT)
        if ids:
            found.append(
                Finding(
                    check="rows",
                    severity=Severity.PROBLEM,
                    what=f"jobs {what}: {named(ids)}",
                    means=means,
                    advice=advice,
                    ids=ids,
                    # Retention deletes what hangs on a job before the job.
                    lasting=True,
                )
            )
    return found or [
        fine(
            "rows",
            f"no impossible ones (the newest {SAMPLE:,} of each table, the oldest {OLDEST:,} that wait, and those that run)",
        )
    ]
