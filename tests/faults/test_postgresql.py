"""PostgreSQL in trouble under clients that submit: they hear 503 in time, nothing accepted is lost, nothing runs of which
nobody was told, and soon after the trouble all is as before.

Each fault has a short form; the long one (TASKFLOW_TEST_FULL=1) keeps it for longer, in both shapes of the roles.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from tests.acceptance.cluster import Cluster
from tests.acceptance.system import PROCESSES
from tests.faults.house import BACK, House, refused_well, told
from tests.faults.watch import Watch
from tests.figures import Say
from tests.support import FULL, until_sync
from tests.throwaway import ThrowawayPostgres, own
from tests.throwaway.proxy import Proxy, ProxyThread, through

pytestmark = pytest.mark.adapter("postgresql", "rabbitmq", "redis")
HUNG: Final = 30.0 if FULL else 2.5
"""Seconds of a fault in which nobody answers."""
REFUSED: Final = 20.0 if FULL else 0.3
"""Seconds of one that is heard of at once."""
ENOUGH: Final = 5
"""Submits that a fault must have hit."""


class Trouble(House):
    """One whose PostgreSQL can be hurt, and stands behind a network that can.

    Attributes:
        postgres: the server.
        proxy: before it.
    """

    def __init__(self, cluster: Cluster, postgres: ThrowawayPostgres, proxy: ProxyThread) -> None:
        super().__init__(cluster)
        self.postgres, self.proxy = postgres, proxy

    def sql(self, *statements: str) -> None:
        """Said to the server directly, one by one."""
        for statement in statements:
            self.cluster.sql(statement)

    def sessions_end(self) -> int:
        """End TaskFlow's sessions; how many there were."""
        ended = self.cluster.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' "
            "AND pid <> pg_backend_pid() AND application_name <> 'hoarder'"
        )
        return len(ended)


@pytest.fixture(scope="module", params=list(PROCESSES) if FULL else ["together"])
def trouble(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trouble]:
    """One for all tests of this file: a start costs seconds."""
    directory: Path = tmp_path_factory.mktemp("postgresql")
    with own(ThrowawayPostgres("max_connections=40")) as postgres, ProxyThread.before(postgres.url) as proxy:
        url = through(postgres.url, proxy)
        with Cluster(directory, database=postgres.url, TASKFLOW_ARTIFACTS_URL=f"file://{directory}/objects") as cluster:
            cluster.environment["TASKFLOW_STORE_URL"] = f"{url}?schema={cluster.namespace}&sslmode=disable"
            for roles in PROCESSES[request.param]:
                cluster.node(roles)
            cluster.ready()
            yield Trouble(cluster, postgres, proxy)


def hurt(watch: Watch) -> bool:
    """Whether enough submits met the fault."""
    return len(watch.refused) >= ENOUGH


def lasts(watch: Watch, seconds: float) -> None:
    """Let a fault go on for so long, and until it was felt."""
    end = time.monotonic() + seconds
    until_sync(lambda: hurt(watch) and time.monotonic() > end, seconds + 20)


def goes_on(trouble: Trouble, watch: Watch, say: Say, what: str) -> None:
    """The fault is over, and soon nobody knows of it."""
    back = trouble.works_again(watch)
    told(watch, what, say, back)


def test_it_dies_and_comes_back(trouble: Trouble, say: Say) -> None:
    """As after a power cut."""
    with trouble.watched() as watch:
        trouble.postgres.kill()
        lasts(watch, REFUSED)
        trouble.postgres.start()
        goes_on(trouble, watch, say, "killed and started again")
    refused_well(watch)
    trouble.settled(watch)


def test_it_is_slow(trouble: Trouble, say: Say) -> None:
    """Each word takes 2 s, each way."""
    with trouble.watched() as watch:
        trouble.proxy.do(lambda proxy: proxy.delay(2))
        lasts(watch, HUNG)
        trouble.proxy.do(lambda proxy: proxy.delay(0))
        goes_on(trouble, watch, say, "2 s away")
    assert trouble.proxy.faults["delayed"]
    refused_well(watch)
    trouble.settled(watch)


def test_it_is_a_black_hole(trouble: Trouble, say: Say) -> None:
    """Connections are made, and nothing passes; what was said arrives in the end."""
    with trouble.watched() as watch:
        trouble.proxy.do(Proxy.freeze)
        lasts(watch, HUNG)
        trouble.proxy.do(Proxy.thaw)
        goes_on(trouble, watch, say, "black hole")
    assert trouble.proxy.faults["frozen requests"]
    refused_well(watch)
    trouble.settled(watch)


@pytest.mark.full
def test_connections_are_half_open(trouble: Trouble, say: Say) -> None:
    """The server has ended them all, and the clients will never hear of it; new ones are good."""
    with trouble.watched() as watch:
        trouble.proxy.do(Proxy.abandon)
        goes_on(trouble, watch, say, "half-open")
    assert trouble.proxy.faults["abandoned"]
    refused_well(watch)
    trouble.settled(watch)


def test_connections_are_reset_in_turn(trouble: Trouble, say: Say) -> None:
    """Again and again, in the middle of whatever they do."""
    resets = 300 if FULL else 30
    with trouble.watched() as watch:
        for _ in range(resets):
            before = trouble.proxy.do(lambda proxy: proxy.accepted)
            trouble.proxy.do(Proxy.cut)
            until_sync(partial(connected_anew, trouble, before), 20)
        goes_on(trouble, watch, say, f"{resets} resets")
    assert trouble.proxy.faults["cut"] >= resets
    refused_well(watch)
    trouble.settled(watch)


def connected_anew(trouble: Trouble, before: int) -> bool:
    """Whether somebody has made a connection since."""
    return trouble.proxy.do(lambda proxy: proxy.accepted) > before


def test_it_becomes_read_only(trouble: Trouble, say: Say) -> None:
    """As a primary that was made a standby: reads are fine, no write is. Health names it."""
    with trouble.watched() as watch:
        with read_only(trouble):
            lasts(watch, REFUSED)
            health = until_sync(lambda: down(trouble), 10)
            assert (health["status"], "read-only" in health["components"]["store"]["detail"]) == ("down", True)
            assert trouble.cluster.http.get("/jobs?limit=1").status_code == 200
        goes_on(trouble, watch, say, "read-only")
    refused_well(watch)
    trouble.settled(watch)


@contextmanager
def read_only(trouble: Trouble) -> Iterator[None]:
    """Every session from now on, and every transaction of the present ones."""
    trouble.sql("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    try:
        yield
    finally:
        trouble.sql("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")


def down(trouble: Trouble) -> dict[str, Any]:
    """The document of health, where it says that the whole is down."""
    answer = trouble.cluster.http.get("/health")
    document: dict[str, Any] = answer.json()
    return document if answer.status_code == 503 else {}


def test_it_has_no_connection_left(trouble: Trouble, say: Say) -> None:
    """Others have taken them all."""
    with trouble.watched() as watch, hoard(trouble):
        lasts(watch, REFUSED)
        # What the clients were told says nothing of the reason; the log does.
        until_sync(lambda: "too many clients" in trouble.cluster.output, 10)
    with trouble.watched() as after:
        back = trouble.works_again(after)
    told(watch, "no connection left", say, back)
    refused_well(watch)
    trouble.settled(watch, after)


@contextmanager
def hoard(trouble: Trouble) -> Iterator[None]:
    """Take every connection that the server has, until the end."""
    url = trouble.postgres.url
    with asyncio.Runner() as runner:
        taken: list[Any] = []

        async def take() -> None:
            killer = await asyncpg.connect(url, server_settings={"application_name": "hoarder"})
            taken.append(killer)
            for _ in range(3):
                await killer.fetch(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE backend_type = 'client backend' AND application_name <> 'hoarder'"
                )
                with suppress(asyncpg.TooManyConnectionsError):
                    while True:
                        taken.append(await asyncpg.connect(url, server_settings={"application_name": "hoarder"}))

        async def leave() -> None:
            for connection in taken:
                connection.terminate()

        runner.run(take())
        try:
            yield
        finally:
            runner.run(leave())


def test_its_disk_is_full(trouble: Trouble, say: Say) -> None:
    """A write that needs room fails, with all that stood in its transaction."""
    with trouble.watched() as watch:
        with no_room(trouble):
            lasts(watch, REFUSED)
        goes_on(trouble, watch, say, "disk full")
    refused_well(watch)
    trouble.settled(watch)


@contextmanager
def no_room(trouble: Trouble) -> Iterator[None]:
    """What a statement hears whose table cannot grow."""
    schema = trouble.cluster.namespace
    trouble.sql(
        f"""CREATE FUNCTION "{schema}".no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$""",
        f'CREATE TRIGGER no_room BEFORE INSERT OR UPDATE ON "{schema}".jobs EXECUTE FUNCTION "{schema}".no_room()',
    )
    try:
        yield
    finally:
        trouble.sql(f'DROP FUNCTION "{schema}".no_room CASCADE')


def test_it_ends_its_sessions(trouble: Trouble, say: Say) -> None:
    """As before a shutdown, again and again."""
    rounds, ended = 100 if FULL else 10, 0
    with trouble.watched() as watch:
        for _ in range(rounds):
            ended += until_sync(trouble.sessions_end, 20)
        goes_on(trouble, watch, say, f"{ended} sessions ended")
    assert ended >= rounds
    refused_well(watch)
    trouble.settled(watch)


@pytest.mark.parametrize(("lost", "full"), [(b"INSERT 0 ", 20), (b"SELECT ", 100)], ids=["INSERT", "SELECT"])
def test_the_answers_to_commits_are_lost(trouble: Trouble, say: Say, lost: bytes, full: int) -> None:
    """The row is there and its writer has not heard of it: a submit, a claim, a settle (statements that write and tell what they
    wrote are `SELECT`s to the protocol), or what is only inserted, about one a second: log segments, a worker's presence, upkeep."""
    count = full if FULL else 15
    with trouble.watched() as watch:
        trouble.proxy.do(lambda proxy: proxy.lose(count, lost))
        until_sync(lambda: trouble.proxy.faults["lost"] >= count and not trouble.proxy.do(_losing), 240)
        goes_on(trouble, watch, say, f"{count} lost answers with {lost.decode().strip()}")
        trouble.proxy.do(lambda proxy: proxy.faults.pop("lost"))
    refused_well(watch)
    trouble.settled(watch)


_losing: Callable[[Proxy], int] = lambda proxy: proxy.losing  # noqa: E731


class Standby(ThrowawayPostgres):
    """A copy of another one, which follows it until it is promoted."""

    def __init__(self, primary: ThrowawayPostgres, *settings: str) -> None:
        super().__init__(*settings)
        self._primary = primary.port

    def prepare(self) -> None:
        if user := self.user():
            shutil.chown(self.directory, user)
        where = ("-h", "127.0.0.1", "-p", str(self._primary), "-U", "root")
        self._run("pg_basebackup", "-D", "data", "-R", "-c", "fast", "--no-sync", *where)


def test_it_fails_over(trouble: Trouble, say: Say) -> None:
    """The standby is promoted and the address leads to it; the old primary lives on, its sessions with it, and writes no
    more. What was accepted was on both: commits wait for the standby."""
    old, cluster = trouble.postgres, trouble.cluster
    with own(Standby(old, "max_connections=40")) as new:
        trouble.sql("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
        until_sync(lambda: cluster.sql("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"), 20)
        with trouble.watched() as watch, read_only(trouble):
            lasts(watch, REFUSED)
            # What the sessions of the old one have begun is over when the new one begins.
            cluster.database = new.url
            try:
                trouble.proxy.do(lambda proxy: proxy.lead(new.port))
                trouble.sql("SELECT pg_promote()")
                trouble.sql("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
                until_sync(lambda: not down(trouble), BACK)
                goes_on(trouble, watch, say, "failed over")
                refused_well(watch)
                [row] = cluster.sql(
                    "SELECT count(*) AS sessions FROM pg_stat_activity WHERE backend_type = 'client backend'"
                )
                assert row["sessions"] > 1
            finally:
                cluster.database = old.url
        cluster.database = new.url
        try:
            trouble.settled(watch)
        finally:
            cluster.database = old.url
            trouble.proxy.do(lambda proxy: proxy.lead(old.port))
            trouble.sql("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
