"""What a store answers to whoever checks it. Each kind of damage is done to its own tables, from outside."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from taskflow.core.job import Idempotency, Lane, LaneKey, Outcome, RunsIn, State
from taskflow.ports.audit import Audit, Odd
from taskflow.ports.store import ArtifactInfo, Segment, WorkerInfo
from taskflow.testing.store_facts import GAP, LANE, LEASE, T0, at, claimed, end, job, worker

Damage = Callable[[str], Coroutine[Any, Any, None]]
RENAMED = "ALTER TABLE attempts RENAME TO closed; CREATE TABLE attempts AS SELECT * FROM closed"
MENDED = "DROP TABLE attempts; ALTER TABLE closed RENAME TO attempts"
COPIED = "id, tenant, task, queue, lane, priority, runs_in, payload, attempt, max_attempts, run, epoch, crashes, interruptions, timeout, tags, metadata, created_at"  # fmt: skip


class AuditSuite:
    """One instance a test, over an empty store with a queue. `damage` runs SQL; in it, `{later}` is an instant that is later,
    `{ancient}` one that nobody can read, and `{endless}` one that never comes."""

    @pytest.fixture
    async def store(self) -> Any:
        """The store under test; subclasses give it."""
        raise NotImplementedError

    @pytest.fixture
    def damage(self) -> Damage:
        """Writes to its tables; subclasses give it."""
        raise NotImplementedError

    async def odd(self, store: Audit, second: float = 5) -> dict[Odd, list[str]]:
        """Everything odd, by kind."""
        found = {kind: await store.odd(kind, 10, now=at(second)) for kind in Odd}
        return {kind: ids for kind, ids in found.items() if ids}

    async def test_a_store_that_works_is_not_odd(self, store: Any) -> None:
        """Jobs in every state, with keys, retries and cancellations."""
        me = await worker(store)
        for outcome in (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.SNOOZED, Outcome.CANCELLED):
            claim = await claimed(store, me, idempotency=Idempotency("jobs", outcome, "f"))
            await store.settle([end(claim, outcome)], now=at(1))
        dead = await claimed(store, me, max_attempts=1)
        await store.settle([end(dead, Outcome.FAILED)], now=at(1))
        await claimed(store, me)
        gone, later = job(), job(delay=60)
        await store.insert([gone, later, job(task="none")], now=T0)
        await store.cancel("default", gone.id, now=at(1))
        assert isinstance(store, Audit)
        assert await self.odd(store, 2) == {}

    async def test_runs_that_nobody_runs(self, store: Any, damage: Damage) -> None:
        """Of the dead, of the stopped, of workers that were never heard of; and those past their deadline."""
        me, other = await worker(store), await worker(store)
        mine, theirs, lost = [await claimed(store, name) for name in (me, other, other)]
        await damage(f"UPDATE workers SET state = 'dead' WHERE id = '{me}'")
        assert await self.odd(store) == {Odd.ORPHAN_RUN: [mine.id]}
        await damage(f"UPDATE workers SET state = 'stopped' WHERE id = '{me}'")
        await damage(f"UPDATE jobs SET worker_id = 'who' WHERE id = '{lost.id}'")
        assert sorted((await self.odd(store))[Odd.ORPHAN_RUN]) == sorted([mine.id, lost.id])
        overdue = await self.odd(store, 60 + 30 + 11)
        assert sorted(overdue[Odd.OVERDUE_RUN]) == sorted([mine.id, theirs.id, lost.id])

    async def test_what_is_due_and_not_promoted(self, store: Any) -> None:
        """Ten seconds late, not one."""
        new = job(delay=1)
        await store.insert([new, job(delay=30)], now=T0)
        assert await self.odd(store, 5) == {}
        assert await self.odd(store, 12) == {Odd.DUE: [new.id]}

    @pytest.mark.parametrize(
        ("values", "kind"),
        [
            ("attempt = 2147483647", Odd.UNSOUND),
            ("state = 'scheduled', run_at = {later}, queued_at = NULL, epoch = 2147483647", Odd.UNSOUND),
            ("created_at = {ancient}", Odd.UNREADABLE),
            ("timeout = 1e300", Odd.UNREADABLE),
            ("attempt_base = -2147483648", Odd.UNREADABLE),
            ("queued_at = NULL", Odd.UNDRAWABLE),
            ("queued_at = {endless}", Odd.UNDRAWABLE),
            ("queue = 'ghost'", Odd.UNDRAWABLE),
            ("state = 'scheduled', run_at = NULL, queued_at = NULL", Odd.UNDATED),
            ("state = 'scheduled', run_at = {endless}, queued_at = NULL", Odd.UNDATED),
            ("state = 'waiting', reason = NULL, queued_at = NULL", Odd.UNPARKABLE),
            ("state = 'waiting', reason = 'who', queued_at = NULL", Odd.UNPARKABLE),
        ],
    )
    async def test_a_row_that_no_statement_reaches(self, store: Any, damage: Damage, values: str, kind: Odd) -> None:
        """Nothing starts, queues, draws or unparks it; it is told, and it is no job that a worker forgot to draw."""
        me = await worker(store)
        stuck, well = job(), job()
        await store.insert([stuck, well], now=T0)
        await damage(f"UPDATE jobs SET {values} WHERE id = '{stuck.id}'")
        await store.promote(now=at(5))
        await store.sweep(30, now=at(5))
        await store.register(
            WorkerInfo(id="v", host="h", pid=1, queues=(), tasks=("t",), slots={}, lease=LEASE), now=at(5)
        )
        assert await self.odd(store) == {kind: [stuck.id]}
        assert [row.id for rows in (await store.fronts(9, now=at(5))).values() for row in rows] == [well.id]
        lanes = [LaneKey(name, lane) for name in await store.queue_names() for lane in Lane]
        assert [claim.id for claim in await store.draw(me, lanes, ["t"], 9, now=at(5))] == [well.id]

    @pytest.mark.parametrize("column", ["worker_id = NULL", "started_at = NULL", "deadline_at = NULL", "epoch = 0"])
    async def test_a_run_without_its_token(self, store: Any, damage: Damage, column: str) -> None:
        """Nobody could settle it."""
        claim = await claimed(store, await worker(store))
        await damage(f"UPDATE jobs SET {column} WHERE id = '{claim.id}'")
        assert (await self.odd(store))[Odd.TOKENLESS_RUN] == [claim.id]

    async def test_closing_records_that_cannot_be(self, store: Any, damage: Damage) -> None:
        """Of a run that goes on, of an epoch that never was, of nobody, and two of one epoch."""
        claim = await claimed(store, await worker(store))
        await damage(self.attempt(claim.id, 1))
        assert await self.odd(store) == {Odd.CLOSED_RUN: [claim.id]}
        await damage(f"UPDATE attempts SET epoch = 2 WHERE job_id = '{claim.id}'")
        assert await self.odd(store) == {Odd.CLOSED_BEYOND: [claim.id]}
        await damage("UPDATE attempts SET job_id = 'nobody'")
        assert await self.odd(store) == {Odd.ATTEMPT_OF_NOBODY: ["nobody"]}
        await damage(RENAMED)
        try:
            await damage(self.attempt("nobody", 2))
            assert (await self.odd(store))[Odd.CLOSED_TWICE] == ["nobody"]
        finally:
            await damage(MENDED)

    async def test_an_end_without_its_record(self, store: Any, damage: Damage) -> None:
        """Succeeded or failed; one that never ran needs none."""
        me = await worker(store)
        done, dead, gone = await claimed(store, me), await claimed(store, me, max_attempts=1), job()
        await store.settle([end(done, Outcome.SUCCEEDED), end(dead, Outcome.FAILED)], now=at(1))
        await store.insert([gone], now=T0)
        await store.cancel("default", gone.id, now=at(1))
        await damage("DELETE FROM attempts")
        found = await self.odd(store)
        assert {kind: sorted(ids) for kind, ids in found.items()} == {Odd.UNCLOSED: sorted([done.id, dead.id])}

    async def test_a_job_in_two_tables(self, store: Any, damage: Damage) -> None:
        """Live and finished, or finished twice."""
        me = await worker(store)
        claim = await claimed(store, me)
        await damage(f"INSERT INTO finished ({COPIED}, state, finished_at) SELECT {COPIED}, 'succeeded', created_at FROM jobs")  # fmt: skip
        assert (await self.odd(store))[Odd.TWICE] == [claim.id]
        await damage("DELETE FROM jobs")
        assert Odd.TWICE not in await self.odd(store)
        await damage(f"INSERT INTO finished ({COPIED}, state, finished_at) SELECT {COPIED}, state, {{later}} FROM finished")  # fmt: skip
        assert (await self.odd(store))[Odd.TWICE] == [claim.id]

    async def test_a_key_whose_job_is_gone(self, store: Any, damage: Damage) -> None:
        """A submit with it would be answered with nobody."""
        new = job(idempotency=Idempotency("jobs", "k", "f"))
        await store.insert([new], now=T0)
        await damage("DELETE FROM jobs")
        assert await self.odd(store) == {Odd.KEY_OF_NOBODY: [new.id]}

    async def test_how_it_stands(self, store: Any) -> None:
        """Workers by what they run, sweeps, and what nobody can run."""
        empty = await store.standing(now=at(1))
        assert (empty.now, empty.swept, list(empty.workers), empty.unrunnable) == (at(1), None, [], {})
        me = await worker(store)
        await store.insert([job(task="none"), job(task="none")], now=T0)
        await claimed(store, me)
        await store.sweep(GAP, now=at(2))
        found = await store.standing(now=at(5))
        assert (found.swept, found.unrunnable) == (3, {"none": 2})
        [alive] = found.workers
        assert (alive.info.id, alive.silent, dict(alive.running)) == (me, 5, {RunsIn.ASYNC: 1})
        assert (alive.info.tasks, alive.info.host, alive.info.lease) == (["t"], "h", LEASE)
        assert abs((await store.standing()).now - (await store.standing()).now) < timedelta(seconds=60)

    async def test_the_fronts_of_lanes(self, store: Any) -> None:
        """The oldest of each lane; not of paused queues, and not what is past its expiry."""
        await store.ensure_queues(["default", "other"])
        first, second, high, over = job(), job(), job(priority=9), job(expires_at=at(4))
        await store.insert([first], now=T0)
        await store.insert([second, high, over], now=at(1))
        await store.insert([job(queue="other")], now=at(1))
        await store.pause("other", None)
        found = await store.fronts(1, now=at(5))
        assert {lane: [(row.id, row.age) for row in rows] for lane, rows in found.items()} == {
            LANE: [(first.id, 5)],
            LaneKey("default", Lane.HIGH): [(high.id, 4)],
        }
        assert {row.id for row in (await store.fronts(9, now=at(5)))[LANE]} == {first.id, second.id}

    async def test_the_newest_jobs(self, store: Any) -> None:
        """Both live and finished."""
        me = await worker(store)
        old, done = await claimed(store, me), await claimed(store, me)
        await store.settle([end(old, Outcome.SUCCEEDED)], now=at(1))
        await store.settle([end(done, Outcome.SUCCEEDED)], now=at(2))
        live = await claimed(store, me)
        assert await store.newest(1) == [(done.id, State.SUCCEEDED, 1), (live.id, State.RUNNING, 1)]

    async def test_objects_and_who_names_them(self, store: Any) -> None:
        """Each log object once, however many jobs are in it; pages go on where the last one ended."""
        ids = sorted(job().id for _ in range(3))
        logs = [f"ns/logs/2026/01/0{day}/o.ndjson" for day in (1, 2, 3)]
        await store.add_segments(
            [
                Segment(job_id=i, epoch=1, seq=n, object=name, offset=0, length=1)
                for i in ids
                for n, name in enumerate(logs)
            ]
        )
        assert await store.log_objects(2) == [logs[2], logs[1]]
        assert await store.log_objects(2, logs[1]) == [logs[0]]
        for job_id in ids:
            for name in ("a", "b"):
                await store.put_artifact(
                    ArtifactInfo(
                        job_id=job_id, name=name, object=f"{job_id}/{name}", content_type="", size=1, sha256=""
                    )
                )
        page = await store.file_objects(4)
        assert [key for key, _ in page] == [(i, name) for i in reversed(ids[1:]) for name in ("b", "a")]
        assert [name for _, name in await store.file_objects(4, page[-1][0])] == [f"{ids[0]}/b", f"{ids[0]}/a"]
        asked = [logs[0], "ns/logs/nobody", f"{ids[0]}/a", f"{ids[1]}/a", f"{ids[0]}/c"]
        assert await store.named(asked, [ids[0]]) == {logs[0], f"{ids[0]}/a"}
        assert await store.named([], []) == set()

    @staticmethod
    def attempt(job_id: str, epoch: int) -> str:
        """A closing record out of nowhere."""
        return (
            "INSERT INTO attempts (job_id, epoch, number, started_at, finished_at, outcome, worker) "
            f"VALUES ('{job_id}', {epoch}, 1, {{later}}, {{later}}, 'lost', 'w')"
        )
