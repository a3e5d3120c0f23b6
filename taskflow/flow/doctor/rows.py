"""Rows that no statement of TaskFlow writes."""

from __future__ import annotations

from typing import Final

from taskflow.flow.doctor.deployment import LIMIT, Deployment
from taskflow.flow.doctor.findings import Finding, Severity, fine, named
from taskflow.ports.audit import SAMPLE, Odd

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
ADVICE: Final = (
    "nothing here is repaired by guessing: these rows come from changes by hand, from a restored backup, or from a fault "
    "of TaskFlow; keep them, look at the database's log of that time, and report it"
)


async def rows(deployment: Deployment) -> list[Finding]:
    """None of them is there, among the newest."""
    found = []
    for kind, (what, means) in IMPOSSIBLE.items():
        ids = await deployment.store.odd(kind, LIMIT)
        if ids:
            found.append(
                Finding(
                    check="rows",
                    severity=Severity.PROBLEM,
                    what=f"jobs {what}: {named(ids)}",
                    means=means,
                    advice=ADVICE,
                    ids=ids,
                    # Retention deletes what hangs on a job before the job.
                    lasting=True,
                )
            )
    return found or [fine("rows", f"no impossible ones (the newest {SAMPLE:,} of each table, and all that run)")]
