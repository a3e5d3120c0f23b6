"""The cache in a real memcached."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import taskflow_memcached
from taskflow_memcached import MemcachedCache

from taskflow.core.ids import new_id
from taskflow.ports.cache import Cache
from taskflow.testing.cache import CacheSuite
from taskflow.testing.facts import until
from taskflow.wiring import plugins
from tests.acceptance.system import ROLES, System, on_servers
from tests.throwaway import ThrowawayMemcached, own

pytestmark = pytest.mark.adapter("memcached")


@pytest.fixture(scope="module")
def memcached() -> Iterator[ThrowawayMemcached]:
    """One for all; each test has a namespace of its own."""
    with own(ThrowawayMemcached()) as server:
        yield server


@pytest.fixture
def own_memcached() -> Iterator[ThrowawayMemcached]:
    """One that a test may stop."""
    with own(ThrowawayMemcached()) as server:
        yield server


class TestMemcachedCache(CacheSuite):
    """The contract, which Redis and memory keep, too."""

    @pytest.fixture
    async def cache(self, memcached: ThrowawayMemcached) -> AsyncIterator[Cache]:
        """An opened one."""
        async with MemcachedCache.from_url(memcached.url, namespace=f"test-{new_id()}") as opened:
            yield opened


def test_the_scheme_of_the_url_chooses_it() -> None:
    """It was installed: that is all that is to do."""
    assert "memcached" in plugins.schemes("cache")
    assert isinstance(plugins.adapter("cache", "memcached://127.0.0.1"), MemcachedCache)


@pytest.mark.parametrize("key", ["a key", "k" * 300, "schlüssel", "line\nend"])
async def test_keys_that_memcached_would_refuse(memcached: ThrowawayMemcached, key: str) -> None:
    """They are kept under names that it takes."""
    async with MemcachedCache.from_url(memcached.url, namespace=new_id()) as cache:
        await cache.put(key, b"value", 60)
        assert await cache.get(key) == b"value"
        assert await cache.get(key + " ") is None


async def test_two_namespaces_share_nothing(memcached: ThrowawayMemcached) -> None:
    """Their keys are apart."""
    async with (
        MemcachedCache.from_url(memcached.url, namespace=new_id()) as one,
        MemcachedCache.from_url(memcached.url, namespace=new_id()) as other,
    ):
        await one.put("key", b"1", 60)
        assert await other.get("key") is None


async def test_a_value_that_is_too_large_is_not_kept(memcached: ThrowawayMemcached) -> None:
    """Nor is it an outage."""
    async with MemcachedCache.from_url(memcached.url, namespace=new_id()) as cache:
        await cache.put("large", bytes(2 << 20), 60)
        assert await cache.get("large") is None
        await cache.put("small", b"1", 60)
        assert await cache.get("small") == b"1"


async def test_an_outage_is_no_error(
    own_memcached: ThrowawayMemcached, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It has nothing then; only a ping tells. Afterwards all is as before."""
    monkeypatch.setattr(taskflow_memcached, "REST", 0.05)
    async with MemcachedCache.from_url(own_memcached.url) as cache:
        await cache.put("key", b"1", 60)
        own_memcached.kill()
        assert await cache.get("key") is None
        await cache.put("key", b"2", 60)
        await cache.delete("key")
        with pytest.raises(taskflow_memcached.MemcachedAway, match="memcached does not answer"):
            await cache.ping()
        await own_memcached.start_beside()

        async def kept() -> bool:
            await cache.put("key", b"3", 60)
            return await cache.get("key") == b"3"

        await until(kept)
    told = [record.message.partition(":")[0] for record in caplog.records]
    assert told[0] == "memcached lost"
    assert told[1].startswith("memcached is back")


async def test_a_late_answer_is_nobodys(own_memcached: ThrowawayMemcached, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was not waited for is not taken for that of the next call."""
    monkeypatch.setattr(taskflow_memcached, "REST", 0.0)
    async with MemcachedCache.from_url(own_memcached.url) as cache:
        await cache.put("old", b"old", 60)
        own_memcached.pause()
        asked = [asyncio.create_task(cache.get("old")) for _ in range(4)]
        await asyncio.wait(asked, timeout=0.1)
        asked[0].cancel()
        await cache.put("new", b"new", 60)
        await asyncio.wait(asked)
        own_memcached.go_on()

        async def kept() -> bool:
            await cache.put("new", b"newer", 60)
            return await cache.get("new") == b"newer"

        await until(kept)
        for _ in range(20):
            assert await cache.get("new") == b"newer"
            assert await cache.get("missing") is None
            await cache.ping()


@pytest.mark.parametrize("end", [ThrowawayMemcached.stop, ThrowawayMemcached.kill])
async def test_an_end_in_the_midst_of_calls_holds_nobody_up(
    own_memcached: ThrowawayMemcached, end: Callable[[ThrowawayMemcached], None]
) -> None:
    """The loop goes on, and so do they, with nothing."""
    async with MemcachedCache.from_url(own_memcached.url) as cache:
        over = asyncio.Event()

        async def puts(key: str) -> None:
            while not over.is_set():
                await cache.put(key, bytes(10_000), 60)

        putting = [asyncio.create_task(puts(str(number))) for number in range(8)]
        await asyncio.wait(putting, timeout=0.2)
        await asyncio.to_thread(end, own_memcached)
        over.set()
        done, pending = await asyncio.wait(putting, timeout=5)
        assert len(done) == 8
        assert not pending


@pytest.mark.parametrize(
    "url", ["memcached://", "memcached://h:port", "memcached://u:p@h", "memcached://h/x", "memcached://h?x=1"]
)
def test_what_is_wrong_with_a_url_is_told(url: str) -> None:
    """At the start."""
    with pytest.raises(plugins.NoSuchAdapter, match="use memcached://host:11211"):
        plugins.adapter("cache", url)


@pytest.fixture
def fresh(memcached: ThrowawayMemcached, tmp_path: Path) -> Iterator[Callable[[], System]]:
    """TaskFlow with this cache: one URL is all that differs."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(on_servers([ROLES], tmp_path, TASKFLOW_CACHE_URL=memcached.url))


@pytest.mark.adapter("postgresql", "rabbitmq", "redis", "s3")
def test_documents_of_finished_jobs_are_served_from_it(
    fresh: Callable[[], System], memcached: ThrowawayMemcached
) -> None:
    """They lie there, and the second look finds them."""
    system = fresh().start()
    job_id = system.submit("demo.echo", {"n": 1})
    job = system.job(job_id, wait=20)
    assert job["state"] == "succeeded"
    before = memcached.hits()
    assert system.job(job_id) == job
    assert system.job(job_id) == job
    assert memcached.hits() > before
