"""RabbitMQ in trouble under clients that submit: every job is accepted and run, drawn from the table meanwhile, and soon
after the trouble by ticket again.

Each fault has a short form; the long one (TASKFLOW_TEST_FULL=1) keeps it for longer, in both shapes of the roles.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, Final

import aiormq
import pytest
from aiormq.abc import AbstractChannel

from tests.acceptance.cluster import Cluster
from tests.acceptance.system import PROCESSES
from tests.faults.house import BACK, House, told
from tests.faults.watch import Watch
from tests.figures import Say
from tests.support import FULL, until_sync
from tests.throwaway import ThrowawayRabbitMQ, own
from tests.throwaway.proxy import Proxy, ProxyThread, through

pytestmark = pytest.mark.adapter("postgresql", "rabbitmq", "redis")
LASTS: Final = 20.0 if FULL else 1.0
ROUNDS: Final = 20 if FULL else 1
ACK_SECONDS: Final = 15
"""How long this RabbitMQ lets a delivery wait for its ack: hardly longer than a ticket is held (10 s)."""
SLOTS: Final = 4
WORKERS: Final = 2


class Trouble(House):
    """One whose RabbitMQ can be hurt, and stands behind a network that can.

    Attributes:
        rabbit: the server.
        proxy: before it.
    """

    def __init__(self, cluster: Cluster, rabbit: ThrowawayRabbitMQ, proxy: ProxyThread) -> None:
        super().__init__(cluster)
        self.rabbit, self.proxy = rabbit, proxy

    def queue(self, lane: str = "normal") -> str:
        """The name of a lane's queue."""
        return f"{self.cluster.namespace}.default.{lane}.v1"

    def at_broker(self, work: Callable[[AbstractChannel], Awaitable[Any]]) -> None:
        """Do something on a channel of the test's own."""

        async def act() -> None:
            connection = await aiormq.connect(self.rabbit.url)
            try:
                await work(await connection.channel())
            finally:
                await connection.close()

        asyncio.run(act())

    def tickets_acked(self) -> int:
        """Since the server started."""
        counted = self.rabbit.ctl("eval", "rabbit_global_counters:overview().")
        return sum(int(number) for number in re.findall(r"messages_acknowledged_total => (\d+)", counted))

    def by_ticket_again(self, healed: float) -> None:
        """Wait until jobs are started by ticket: a worker says so where it had said that no tickets come."""
        until_sync(lambda: self._said(healed) or self._counted(), BACK)

    def urgent_by_ticket(self) -> None:
        """Jobs of another lane still come by ticket."""
        before = self.tickets_acked()
        ids = self.cluster.submit("test.noop", count=20, priority=9)
        self._accepted |= set(ids)
        until_sync(lambda: self.tickets_acked() > before, BACK)

    def _said(self, since: float) -> bool:
        lines = [line for line in self.cluster.output.splitlines() if "tickets start jobs" in line]
        return any(datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp() > since for line in lines)

    def _counted(self) -> bool:
        before = self.tickets_acked()
        until_sync(partial(self._more, self.cluster.count("true") + 10), BACK)
        return self.tickets_acked() >= before + 5

    def _more(self, enough: int) -> bool:
        return self.cluster.count("true") >= enough

    def jobs_run(self, watch: Watch, seconds: float) -> None:
        """Let a fault go on for so long; what is submitted meanwhile is accepted, and runs."""
        end, before = time.monotonic() + seconds, len(watch.accepted)
        until_sync(lambda: time.monotonic() > end and len(watch.accepted) > before + 5, seconds + 20)
        until_sync(partial(self._more, self.cluster.count("true") + 20), 20)


@pytest.fixture(scope="module", params=list(PROCESSES) if FULL else ["together"])
def trouble(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trouble]:
    """One for all tests of this file: a start costs many seconds."""
    directory = tmp_path_factory.mktemp("rabbitmq")
    with own(ThrowawayRabbitMQ()) as rabbit, ProxyThread.before(rabbit.url) as proxy:
        impatient(rabbit)
        with Cluster(directory, TASKFLOW_ARTIFACTS_URL=f"file://{directory}/objects") as cluster:
            cluster.environment["TASKFLOW_BROKER_URL"] = through(rabbit.url, proxy)
            cluster.environment["TASKFLOW_CONSUMER_SLOTS"] = str(SLOTS)
            # A worker that is alone needs no broker for what its own process accepts.
            other = cluster.node("consumer")
            until_sync(lambda: other.started, BACK)
            for roles in PROCESSES[request.param]:
                cluster.node(roles)
            yield Trouble(cluster.ready(workers=WORKERS), rabbit, proxy)


def impatient(rabbit: ThrowawayRabbitMQ) -> None:
    """Let it look each half second for deliveries that nobody has acked for too long."""
    settings = {"consumer_timeout": ACK_SECONDS * 1_000, "channel_tick_interval": 500}
    rabbit.ctl(
        "eval", " ".join(f"application:set_env(rabbit, {name}, {value})," for name, value in settings.items()) + " ok."
    )


@contextmanager
def submitted(trouble: Trouble, say: Say, what: str) -> Iterator[Watch]:
    """Clients submit over a fault that ends with the block: each of them is accepted, and soon tickets come again."""
    with trouble.watched(clients=2) as watch:
        yield watch
        healed = time.time()
        back = trouble.works_again(watch)
        trouble.by_ticket_again(healed)
    told(watch, f"{what} (by ticket again after {time.time() - healed:.1f} s)", say, back)
    assert watch.refused == []
    trouble.settled(watch)


def test_nothing_waits_for_its_ack_while_jobs_run(trouble: Trouble) -> None:
    """However long: a ticket is acked with its claim, or when it has found no slot for 10 s, so that RabbitMQ, which gives
    up on a consumer that acks nothing for some time, has no reason to."""
    seconds, count = (40.0, 3 * WORKERS * SLOTS) if FULL else (2.0, SLOTS)
    cluster = trouble.cluster
    ids = cluster.submit("demo.sleep", {"seconds": seconds}, count=count)
    until_sync(lambda: cluster.count("state = 'running'", "jobs") == min(count, WORKERS * SLOTS), 20)
    if not FULL:
        unacked = trouble.rabbit.ctl("-q", "list_queues", "name", "messages_unacknowledged")
        assert f"{trouble.queue()}\t0" in unacked
    until_sync(lambda: cluster.count("state = 'succeeded'") == count, seconds * 5)
    assert cluster.count("attempt = 1 AND epoch = 1") == count
    [log] = (trouble.rabbit.directory / "log").glob("*localhost.log")
    assert "delivery acknowledgement" not in log.read_text()
    trouble._accepted |= set(ids)


@pytest.mark.full
def test_it_restarts(trouble: Trouble, say: Say) -> None:
    """In its own way and by a kill."""
    for end in [ThrowawayRabbitMQ.stop, ThrowawayRabbitMQ.kill] * 3:
        with submitted(trouble, say, "RabbitMQ restarted"):
            trouble.rabbit.ctl("eval", "[dets:sync(T) || T <- dets:all()].")
            end(trouble.rabbit)
            with trouble.watched(clients=2) as watch:
                trouble.jobs_run(watch, LASTS)
            assert watch.refused == []
            trouble.owe(watch)
            trouble.rabbit.start()
            impatient(trouble.rabbit)


@pytest.mark.full
def test_its_memory_is_full(trouble: Trouble, say: Say) -> None:
    """It takes no messages, and says so; what it has it delivers."""
    with submitted(trouble, say, "memory alarm") as watch:
        trouble.rabbit.ctl("set_vm_memory_high_watermark", "absolute", "1")
        try:
            until_sync(lambda: "alarm" in trouble.cluster.http.get("/health").text, 20)
            assert trouble.cluster.http.get("/health").json()["status"] == "degraded"
            trouble.jobs_run(watch, LASTS)
        finally:
            trouble.rabbit.ctl("set_vm_memory_high_watermark", "0.6")


def test_its_queue_is_deleted_under_its_consumer(trouble: Trouble, say: Say) -> None:
    """With the tickets in it; the broker cancels the consumer."""
    with submitted(trouble, say, "queue deleted"):
        for _ in range(ROUNDS):
            trouble.at_broker(lambda channel: channel.queue_delete(trouble.queue()))
            until_sync(lambda: consumers(trouble) == WORKERS, BACK)


def consumers(trouble: Trouble) -> int:
    """Of the lane; 0 where there is no queue."""
    found = 0

    async def look(channel: AbstractChannel) -> None:
        nonlocal found
        try:
            found = (await channel.queue_declare(trouble.queue(), passive=True)).consumer_count or 0
        except aiormq.exceptions.ChannelNotFoundEntity:
            found = 0

    trouble.at_broker(look)
    return found


@pytest.mark.full
def test_its_queue_is_made_again_by_somebody_else(trouble: Trouble, say: Say) -> None:
    """With other arguments: it is left alone and told, its jobs run by draw, other lanes by ticket; once it is deleted, the
    right one is made."""
    with submitted(trouble, say, "queue of somebody else") as watch:

        async def taken(channel: AbstractChannel) -> None:
            await channel.queue_delete(trouble.queue())
            await channel.queue_declare(trouble.queue(), durable=True)

        # TaskFlow may have been quicker.
        until_sync(partial(tried, trouble, taken), 20)
        until_sync(lambda: "exists with other arguments" in trouble.cluster.output, BACK)
        trouble.jobs_run(watch, LASTS)
        trouble.urgent_by_ticket()
        trouble.at_broker(lambda channel: channel.queue_delete(trouble.queue()))
        until_sync(lambda: consumers(trouble) == WORKERS, 2 * BACK)


def tried(trouble: Trouble, work: Callable[[AbstractChannel], Awaitable[Any]]) -> bool:
    """Whether the broker took it."""
    try:
        trouble.at_broker(work)
    except aiormq.exceptions.AMQPError:
        return False
    return True


@pytest.mark.full
def test_it_is_slow(trouble: Trouble, say: Say) -> None:
    """Each word takes a second, each way."""
    with submitted(trouble, say, "1 s away") as watch:
        trouble.proxy.do(lambda proxy: proxy.delay(1))
        trouble.jobs_run(watch, LASTS)
        trouble.proxy.do(lambda proxy: proxy.delay(0))
    assert trouble.proxy.faults["delayed"]


def test_it_is_a_black_hole(trouble: Trouble, say: Say) -> None:
    """Connections are made, and nothing passes; what was said arrives in the end."""
    with submitted(trouble, say, "black hole") as watch:
        trouble.proxy.do(Proxy.freeze)
        trouble.jobs_run(watch, LASTS)
        trouble.proxy.do(Proxy.thaw)
    assert trouble.proxy.faults["frozen requests"]


@pytest.mark.full
def test_connections_are_half_open(trouble: Trouble, say: Say) -> None:
    """The broker has ended them, and the clients will never hear of it."""
    with submitted(trouble, say, "half-open") as watch:
        trouble.proxy.do(Proxy.abandon)
        trouble.jobs_run(watch, LASTS)
    assert trouble.proxy.faults["abandoned"]


def test_connections_are_reset(trouble: Trouble, say: Say) -> None:
    """Again and again, with deliveries unacked on them."""
    resets = 50 if FULL else 5
    with submitted(trouble, say, f"{resets} resets"):
        for _ in range(resets):
            before = trouble.proxy.do(lambda proxy: proxy.accepted)
            trouble.proxy.do(Proxy.cut)
            until_sync(partial(connected_anew, trouble, before), 20)
    assert trouble.proxy.faults["cut"] >= resets


def connected_anew(trouble: Trouble, before: int) -> bool:
    """Whether both connections were made again."""
    return trouble.proxy.do(lambda proxy: proxy.accepted) >= before + 2
