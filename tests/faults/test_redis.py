"""Redis in trouble under clients that submit: each job is accepted, runs and is seen to; only speed changes, by little.

The long form (TASKFLOW_TEST_FULL=1) keeps each fault for longer, and runs in both shapes on the real servers, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from tests.acceptance.system import SHAPES, SHOWN, System, in_shapes
from tests.faults.watch import Watch
from tests.figures import Say
from tests.support import FULL, until_sync
from tests.throwaway import ThrowawayRedis, own
from tests.throwaway.proxy import Proxy, ProxyThread, through

ENOUGH: Final = 3_000 if FULL else 250
"""Submits under each fault; a fault is found out by the first ones, which must be few of a hundred."""
RISE: Final = 0.5
"""Seconds that one submit of a hundred may be later, with room for a busy machine; reported beside 60 ms."""


@pytest.fixture(scope="module", params=in_shapes(SHOWN, "redis"))
def trouble(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[System, ThrowawayRedis, ProxyThread]]:
    """A system, its Redis, and the network between them. Each submit asks Redis, whose limit is high."""
    with own(ThrowawayRedis()) as redis, ProxyThread.before(redis.url) as proxy:
        url = through(redis.url, proxy)
        settings = {f"TASKFLOW_{what}_URL": url for what in ("CACHE", "EVENTS", "LIMITER")}
        directory = tmp_path_factory.mktemp("redis")
        with SHAPES[request.param](directory, TASKFLOW_API_RATE_LIMIT="1000000/second", **settings) as system:
            yield system.start(), redis, proxy


def percentile(watch: Watch, share: float) -> float:
    """Seconds that so many of a hundred submits did not take."""
    times = sorted(answer.seconds for answer in watch.answers)
    return times[min(len(times) - 1, int(len(times) * share / 100))]


Act = Callable[[ThrowawayRedis, ProxyThread], None]


def _flush(redis: ThrowawayRedis, _: ProxyThread) -> None:
    assert redis.ask("FLUSHALL").startswith(b"+OK")


def _restart(redis: ThrowawayRedis, _: ProxyThread) -> None:
    redis.kill()
    redis.start()


def _down(redis: ThrowawayRedis, _: ProxyThread) -> None:
    redis.kill()


def _up(redis: ThrowawayRedis, _: ProxyThread) -> None:
    redis.start()


def _far(_: ThrowawayRedis, proxy: ProxyThread) -> None:
    proxy.do(lambda each: each.delay(2))


def _near(_: ThrowawayRedis, proxy: ProxyThread) -> None:
    proxy.do(lambda each: each.delay(0))


def _hole(_: ThrowawayRedis, proxy: ProxyThread) -> None:
    proxy.do(Proxy.freeze)


def _through(_: ThrowawayRedis, proxy: ProxyThread) -> None:
    proxy.do(Proxy.thaw)


def _half_open(_: ThrowawayRedis, proxy: ProxyThread) -> None:
    proxy.do(Proxy.abandon)


def _nothing(_: ThrowawayRedis, __: ProxyThread) -> None:
    """It mends itself."""


FAULTS: Final[dict[str, tuple[Act, Act]]] = {
    "FLUSHALL": (_flush, _nothing),
    "restart": (_restart, _nothing),
    "down": (_down, _up),
    "2 s away": (_far, _near),
    "black hole": (_hole, _through),
    "half-open": (_half_open, _nothing),
}


SHORT: Final = ("FLUSHALL", "2 s away", "black hole")


@contextmanager
def measured(system: System) -> Iterator[Watch]:
    """Clients submit until so many are answered, with the block in their midst."""
    with Watch(system.port, clients=2, pause=0.002, looked_at=["/api/v1/tasks"]) as watch:
        until_sync(lambda: len(watch.answers) >= 10, 30)
        yield watch
        # Some after the fault, however many came before it.
        wanted = max(ENOUGH, len(watch.answers) + 50)
        until_sync(lambda: len(watch.answers) >= wanted, 300)


@pytest.fixture(scope="module")
def usual(trouble: tuple[System, ThrowawayRedis, ProxyThread]) -> float:
    """Seconds that 99 of a hundred submits take, where nothing is wrong."""
    with measured(trouble[0]) as watch:
        pass
    assert watch.refused == []
    return percentile(watch, 99)


def asks(system: System, redis: ThrowawayRedis) -> bool:
    """Whether submits ask Redis: for a while behind a fault they do not, though it answers."""
    redis.ask("FLUSHALL")
    assert system.http.post("/jobs", json={"task": "test.noop"}).status_code == 202
    return not redis.ask("KEYS *:limit:*").startswith(b"*0")


@pytest.mark.parametrize("fault", FAULTS if FULL else SHORT)
def test_submits_do_not_notice(
    trouble: tuple[System, ThrowawayRedis, ProxyThread], usual: float, fault: str, say: Say
) -> None:
    """All are accepted, all jobs run, one submit of a hundred is later by little; then Redis is used again."""
    system, redis, proxy = trouble
    break_it, mend_it = FAULTS[fault]
    until_sync(lambda: asks(system, redis), 30)
    before = proxy.do(lambda inner: inner.faults.total())
    with measured(system) as watch:
        break_it(redis, proxy)
    met = proxy.do(lambda inner: inner.faults.total()) - before
    mend_it(redis, proxy)
    assert met or fault in {"FLUSHALL", "restart", "down"}, "the fault met nobody"
    late = percentile(watch, 99)
    say(
        f"Redis: {fault}",
        f"{len(watch.accepted)} accepted; p99 {usual * 1e3:.0f} ms before and {late * 1e3:.0f} ms then (at most 60 ms more on a "
        f"quiet machine), the slowest {watch.slowest() * 1e3:.0f} ms",
    )
    assert watch.refused == []
    assert late < usual + RISE
    assert {look.status for look in watch.looks} == {200}
    for job_id in watch.accepted:
        assert system.job(job_id, wait=20)["state"] == "succeeded"
    until_sync(lambda: system.http.get("/health").json()["status"] == "ok", 30)
