"""What can happen to processes, servers and the network between them. Each trouble has an end."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import aiormq

from tests.faults.harness.stage import SCHEMA, Node, Stage
from tests.throwaway import ThrowawayRedis
from tests.throwaway.proxy import Proxy

Undo = Callable[[], object]
TAGS: Final = (b"SELECT", b"UPDATE", b"INSERT", b"COMMIT")
"""What PostgreSQL says when it has done something."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One that has begun.

    Attributes:
        name: for the report.
        subject: no two troubles of one subject at a time.
        seconds: until its end.
        undo: ends it.
    """

    name: str
    subject: str
    seconds: float = 0.0
    undo: Undo = lambda: None


def heal(stage: Stage, server: str) -> None:
    """Let everything pass again."""

    def healed(proxy: Proxy) -> None:
        proxy.thaw()
        proxy.swallow(False)
        proxy.refuse(False)
        proxy.delay(0.0)
        proxy.cut_after(None)
        proxy.lose(0)
        proxy.stop_at(b"", 0)

    stage.proxies[server].do(healed)


def kill(stage: Stage, chance: random.Random, busy: set[str]) -> Trouble | None:
    """Without a word."""
    node = _victim(stage, chance, busy)
    if node is None:
        return None
    node.doomed = -signal.SIGKILL
    stage.signal(node, signal.SIGKILL)
    return Trouble(f"kill {node.roles}", node.name)


def term(stage: Stage, chance: random.Random, busy: set[str]) -> Trouble | None:
    """Politely; it is started again when it has ended."""
    node = _victim(stage, chance, busy)
    if node is None:
        return None
    node.doomed = 0
    stage.signal(node, signal.SIGTERM)
    return Trouble(f"term {node.roles}", node.name, 5.0)


def stop(stage: Stage, chance: random.Random, busy: set[str]) -> Trouble | None:
    """It stands still for less than a lease or for more, and goes on."""
    node = _victim(stage, chance, busy)
    if node is None:
        return None
    stage.signal(node, signal.SIGSTOP)
    return Trouble(
        f"stop and go on {node.roles}", node.name, chance.uniform(0.5, 10), partial(stage.signal, node, signal.SIGCONT)
    )


def restart(stage: Stage, chance: random.Random, server: str) -> Trouble:
    """A server dies and comes back."""
    stage.servers[server].kill()
    return Trouble(f"restart {server}", server, chance.uniform(0.1, 5), stage.servers[server].start)


def flush(stage: Stage, _: random.Random, server: str) -> Trouble:
    """Redis forgets."""
    redis = stage.servers[server]
    assert isinstance(redis, ThrowawayRedis)
    redis.ask("FLUSHALL")
    return Trouble("flush redis", server)


def lose_tickets(stage: Stage, chance: random.Random, server: str) -> Trouble:
    """Queues are purged or deleted."""

    async def losing() -> None:
        connection = await aiormq.connect(stage.servers[server].url)
        try:
            channel = await connection.channel()
            for lane in ("high", "normal", "low"):
                name = f"{SCHEMA}.default.{lane}.v1"
                await (channel.queue_delete(name) if chance.random() < 0.5 else channel.queue_purge(name))
        finally:
            await connection.close()

    try:
        asyncio.run(losing())
    except (OSError, aiormq.exceptions.AMQPError):
        return Trouble("no tickets to lose", server)
    return Trouble("lose tickets", server)


def network(stage: Stage, chance: random.Random, server: str) -> Trouble:
    """Something between clients and a server."""
    tricks: Sequence[tuple[str, float, Callable[[Proxy], object]]] = [
        ("cut", 0.0, Proxy.cut),
        ("half-open", 3.0, Proxy.abandon),
        ("black hole", chance.uniform(0.5, 6), Proxy.freeze),
        ("one-way loss", chance.uniform(0.5, 4), Proxy.swallow),
        ("latency", chance.uniform(2, 5), lambda proxy: proxy.delay(chance.choice([0.02, 0.1, 0.5, 2.0]))),
        ("cut after", 3.0, lambda proxy: proxy.cut_after(chance.choice([1_000, 30_000, 300_000]))),
        ("refuse", chance.uniform(0.5, 5), Proxy.part),
        ("lose replies", 2.0, lambda proxy: proxy.lose(chance.randint(1, 5), chance.choice(TAGS))),
        ("stop requests", 2.0, lambda proxy: proxy.stop_at(chance.choice([b"UPDATE", b"INSERT", b"jobs"]), 3)),
    ]
    name, seconds, begin = chance.choice(tricks if server == "postgresql" else tricks[:-2])
    stage.proxies[server].do(begin)
    return Trouble(f"{name} before {server}", server, seconds, partial(heal, stage, server))


def other(stage: Stage, chance: random.Random, busy: set[str]) -> Trouble | None:
    """Anything that happens to a server or to the way there."""
    server = chance.choices(["postgresql", "rabbitmq", "redis", "s3"], [4, 3, 2, 2])[0]
    if server in busy:
        return None
    # Its start costs a core for seconds, which is no fault to look for.
    share = {"postgresql": 0.25, "rabbitmq": 0.1, "redis": 0.3, "s3": 0.15}[server]
    if chance.random() < share:
        return restart(stage, chance, server)
    if server == "redis" and chance.random() < 0.3:
        return flush(stage, chance, server)
    if server == "rabbitmq" and chance.random() < 0.3:
        return lose_tickets(stage, chance, server)
    return network(stage, chance, server)


def _victim(stage: Stage, chance: random.Random, busy: set[str]) -> Node | None:
    candidates = [
        node for node in stage.nodes if not node.spared and node.name not in busy and stage.code(node) is None
    ]
    return chance.choice(candidates) if candidates else None
