"""Reconcile: what the store says I run against what I run, both ways, at each beat."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from taskflow.ports.store import Held

Run = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Differences:
    """What to do: runs to cancel, runs that are no longer mine, rows to give back."""

    cancel: Sequence[Run]
    lost: Sequence[Run]
    release: Sequence[Run]


def differences(
    held: Sequence[Held], running: Mapping[Run, float], settling: Collection[Run], *, asked: float, patience: float
) -> Differences:
    """Compare a beat's answer with this worker.

    Args:
        held: rows that the store says this worker runs.
        running: runs in progress and when they were started.
        settling: endings on their way to the store.
        asked: when the beat was sent, on the clock of `running`.
        patience: seconds after which a claimed row that nobody runs is given back.
    """
    listed = {(row.job_id, row.epoch): row for row in held}
    return Differences(
        cancel=[run for run, row in listed.items() if row.cancel_requested and run in running],
        lost=[run for run, started in running.items() if run not in listed and started < asked],
        release=[
            run for run, row in listed.items() if run not in running and run not in settling and row.age > patience
        ],
    )
