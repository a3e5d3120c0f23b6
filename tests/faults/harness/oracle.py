"""The account at the end: what clients were told, what handlers did, and what the tables say must be one story.

It reads the effects that handlers wrote outside TaskFlow, and the tables once, by SQL of its own.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg

from tests.effects import Effect, recorded
from tests.faults.harness.ledger import Entry, Ledger, Told

SHOWN: Final = 20
ZOMBIE: Final = frozenset({"crashed", "lost", "interrupted"})
"""Outcomes that somebody else wrote, or may have written, while the run went on."""


@dataclass
class Row:
    """A job in the tables, and its closing records."""

    id: str
    table: str
    state: str
    key: str
    epoch: int
    result: str | None
    reason: str | None
    outcomes: dict[int, str] = field(default_factory=dict)


@dataclass
class Account:
    """The figures. All but the first block must be 0.

    Attributes:
        attempted: jobs that clients wanted.
        accepted: jobs they were told are durable.
        stored: jobs in the tables.
        runs: starts of handlers.
        reruns: starts beyond the first of an epoch's success, kills and stops being the reason.
        lost: accepted and in no table, or called succeeded without an effect of that very epoch.
        closed_twice: in two tables or twice in one, with two successes, or with an epoch more or less than records.
        stuck: not over when all was quiet for long enough.
        overlapping: runs in child processes that found another one of their job.
        unexpected: everything else that no story explains.
    """

    attempted: int = 0
    accepted: int = 0
    refused: int = 0
    unknown: int = 0
    stored: int = 0
    runs: int = 0
    reruns: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    closed_twice: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    overlapping: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    FAULTS = ("lost", "closed_twice", "stuck", "overlapping", "unexpected")

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not any(getattr(self, name) for name in self.FAULTS)

    def figures(self) -> dict[str, Any]:
        """For a table and a file."""
        told = {
            name: getattr(self, name)
            for name in ("attempted", "accepted", "refused", "unknown", "stored", "runs", "reruns")
        }
        return {**told, **{name: len(getattr(self, name)) for name in self.FAULTS}}

    def complaints(self) -> Iterator[str]:
        """The first of each kind."""
        for name in self.FAULTS:
            for what in getattr(self, name)[:SHOWN]:
                yield f"{name}: {what}"


def effects_of(path: Path) -> dict[str, list[Effect]]:
    """What handlers recorded, by key."""
    effects: dict[str, list[Effect]] = defaultdict(list)
    for effect in recorded(path):
        effects[effect.key].append(effect)
    return effects


def rows_of(url: str, schema: str) -> dict[str, list[Row]]:
    """Every job in the tables, by its id."""
    return asyncio.run(_read(url, schema))


async def _read(url: str, schema: str) -> dict[str, list[Row]]:
    connection = await asyncpg.connect(url)
    try:
        rows: dict[str, list[Row]] = defaultdict(list)
        for table, result in (("jobs", "NULL"), ("finished", "result")):
            for record in await connection.fetch(
                f"SELECT id, state, payload::json ->> 'key' AS key, epoch, {result} AS result, reason "
                f'FROM "{schema}".{table}'
            ):
                rows[record["id"]].append(Row(table=table, **record))
        closings = await connection.fetch(f'SELECT job_id, epoch, outcome FROM "{schema}".attempts')
        for job_id, epoch, outcome in closings:
            if job_id not in rows:
                rows[job_id].append(Row(job_id, "attempts", outcome, f"the record of {job_id}", epoch, None, None))
            for row in rows[job_id]:
                row.outcomes[epoch] = outcome
        return rows
    finally:
        await connection.close()


def account_of(ledger: Ledger, effects: Path, url: str, schema: str) -> Account:
    """Compare what clients were told with the effects of a file and the tables of a database."""
    # Rows first: what a run does comes before what the tables say of it, also where something still runs.
    rows = rows_of(url, schema)
    return account(ledger, effects_of(effects), rows)


def account(ledger: Ledger, effects: Mapping[str, Sequence[Effect]], rows: Mapping[str, Sequence[Row]]) -> Account:
    """Compare the three."""
    entries = ledger.entries
    found = Account(attempted=len(entries), unexpected=list(ledger.surprises))
    for entry in entries.values():
        setattr(found, entry.told, getattr(found, entry.told) + 1)
    by_key: dict[str, list[Row]] = defaultdict(list)
    for job_id, same in rows.items():
        found.stored += 1
        found.outcomes[same[0].state] += 1
        by_key[same[0].key].append(same[0])
        if len(same) > 1:
            found.closed_twice.append(f"{job_id} is in {[row.table for row in same]}")
    for key in (effects.keys() | by_key.keys()) - entries.keys():
        found.unexpected.append(f"nobody asked for {key}")
    for entry in entries.values():
        _judge(found, entry, effects.get(entry.key, ()), by_key.get(entry.key, ()))
    return found


def _judge(found: Account, entry: Entry, effects: Sequence[Effect], rows: Sequence[Row]) -> None:
    starts = [effect for effect in effects if effect.what == "S"]
    found.runs += len(starts)
    found.overlapping += [f"{entry.key} in epoch {effect.epoch}" for effect in effects if effect.what == "O"]
    if len(rows) > 1:
        found.unexpected.append(f"{entry.key} became {len(rows)} jobs: {[row.id for row in rows]}")
    if not rows:
        if entry.told is Told.ACCEPTED and not entry.purged:
            found.lost.append(f"{entry.key} of {entry.kind} was accepted as {entry.job_id} and is nowhere")
        if effects and not entry.purged:
            found.unexpected.append(f"{entry.key} ran and is nowhere")
        return
    row = rows[0]
    if entry.told is Told.REFUSED:
        found.unexpected.append(f"{entry.key} was refused and exists as {row.id}")
    if entry.told is Told.ACCEPTED and row.id != entry.job_id:
        found.unexpected.append(f"{entry.key} was accepted as {entry.job_id} and exists as {row.id}")
    if row.table == "jobs" and row.state != "failed":
        found.stuck.append(f"{row.id} of {entry.kind} is {row.state} ({row.reason}) after {row.outcomes}")
        return
    _judge_closings(found, entry, effects, row)
    _judge_end(found, entry, starts, row)


def _judge_closings(found: Account, entry: Entry, effects: Sequence[Effect], row: Row) -> None:
    successes = [epoch for epoch, outcome in row.outcomes.items() if outcome == "succeeded"]
    if len(successes) != (row.state == "succeeded") or sorted(row.outcomes) != list(range(1, row.epoch + 1)):
        found.closed_twice.append(f"{row.id} is {row.state} in epoch {row.epoch} with records {row.outcomes}")
    started = Counter(effect.epoch for effect in effects if effect.what == "S")
    for epoch, times in started.items():
        # One that was purged while its client still asked for it, by its key, is made again, and begins anew.
        if (times > 1 or epoch > row.epoch) and not entry.purged:
            found.unexpected.append(
                f"{row.id} of {entry.kind}: epoch {epoch} of {row.epoch} started {times} times: {effects}, {row.outcomes}"
            )
    found.reruns += len(started) - 1 if started else 0
    if row.state == "succeeded" and not any(e.what == "E" and e.epoch in successes for e in effects):
        found.lost.append(
            f"{row.id} of {entry.kind} ({entry.key}) succeeded in {successes} without its effect: {effects}"
        )


def _judge_end(found: Account, entry: Entry, starts: Sequence[Effect], row: Row) -> None:
    wanted = {"failed", "succeeded"} if entry.kind == "work.dead" else {"succeeded"}
    if entry.cancel_asked:
        wanted |= {"cancelled"}
    if entry.cancelled_at is not None:
        wanted = {"cancelled"}
        for start in starts:
            if start.when > entry.cancelled_at and row.outcomes.get(start.epoch) not in ZOMBIE:
                found.unexpected.append(f"{row.id}: epoch {start.epoch} started after the cancel was answered")
    if row.state == "succeeded" and row.result != f'"{entry.key}"':
        found.unexpected.append(f"{row.id} of {entry.key} has the result {row.result}")
    if row.state not in wanted:
        found.unexpected.append(f"{row.id} of {entry.kind} is {row.state} ({row.reason}), {row.outcomes}")
    if entry.seen is not None and (entry.seen["state"], entry.seen["epoch"]) != (row.state, row.epoch):
        found.unexpected.append(f"{row.id} was over as {entry.seen} and is {row}")
