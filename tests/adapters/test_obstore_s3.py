"""Objects in S3, on a server that the tests start."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from taskflow.adapters.obstore import AzureArtifacts, GoogleArtifacts, S3Artifacts
from taskflow.core.errors import ArtifactsUnavailable, NotFound
from taskflow.core.ids import new_id
from taskflow.ports.artifacts import Artifacts
from taskflow.testing.artifacts import ArtifactsSuite
from tests import servers
from tests.servers import S3
from tests.throwaway import ThrowawayWeed

pytestmark = pytest.mark.adapter("s3")

KEYS: dict[str, Any] = {"access_key": "AKIATHROWAWAY", "secret_key": "hunter2secret"}


@pytest.fixture(scope="module")
def s3() -> S3:
    """A bucket."""
    return servers.s3()


def opened(s3: S3, url: str | None = None) -> S3Artifacts:
    return S3Artifacts.from_url(url or s3.url, access_key=s3.access_key, secret_key=s3.secret_key, namespace="unused")


def below(s3: S3, prefix: str) -> str:
    bucket, _, options = s3.url.partition("?")
    return f"{bucket}/{prefix}?{options}"


class TestS3Artifacts(ArtifactsSuite):
    """The contract."""

    @pytest.fixture
    async def artifacts(self, s3: S3) -> AsyncIterator[Artifacts]:
        """An opened one, below a prefix."""
        async with opened(s3, below(s3, f"test-{new_id()}/some/where")) as store:
            yield store


async def test_a_prefix_is_part_of_every_key(s3: S3) -> None:
    """Also of those that are signed."""
    prefix = f"test-{new_id()}"
    async with opened(s3) as whole, opened(s3, below(s3, prefix)) as part:
        await part.put("a/b", b"1")
        assert await whole.read(f"{prefix}/a/b") == b"1"
        url = await part.sign("a/b", 60)
        assert url is not None
        assert f"/{prefix}/a/b?" in url
        await whole.delete(f"{prefix}/a/b")
        assert await part.stat("a/b") is None


async def test_a_signed_url_reads_one_object_for_anybody(s3: S3) -> None:
    """And nothing else."""
    async with opened(s3, below(s3, f"test-{new_id()}")) as store:
        await store.put("a b/ü.txt", b"hello")
        await store.put("other", b"secret")
        url = await store.sign("a b/ü.txt", 60)
        assert url is not None
        async with httpx2.AsyncClient(trust_env=False) as client:
            answer = await client.get(url)
            assert (answer.status_code, answer.content) == (200, b"hello")
            other = await client.get(url.replace("a%20b/%C3%BC.txt", "other"))
            assert other.status_code == 403
        await store.delete("a b/ü.txt", "other")


async def test_urls_are_signed_for_the_address_that_clients_reach(s3: S3) -> None:
    """Which need not be the one that this process uses."""
    async with opened(s3, f"{s3.url}&public_endpoint=https://files.example.com") as store:
        url = await store.sign("k", 60)
    assert url is not None
    assert url.startswith("https://files.example.com/taskflow/k?")


async def test_a_large_object_comes_in_chunks(s3: S3) -> None:
    """More than one."""
    data = bytes(range(256)) * 20_000
    async with opened(s3, below(s3, f"test-{new_id()}")) as store:
        await store.put("large", data)
        chunks = [chunk async for chunk in store.open("large")]
        assert len(chunks) > 1
        assert b"".join(chunks) == data
        await store.delete("large")


async def test_a_missing_bucket_is_told_by_its_name(s3: S3) -> None:
    """It is not mistaken for a missing object, however one asks."""
    async with opened(s3, s3.url.replace("s3://taskflow", "s3://no-such-bucket")) as store:
        with pytest.raises(ArtifactsUnavailable, match="no bucket no-such-bucket"):
            await store.ping()
        with pytest.raises(ArtifactsUnavailable, match="no bucket no-such-bucket"):
            await store.put("k", b"1")
        with pytest.raises(ArtifactsUnavailable, match="no bucket no-such-bucket"):
            await store.read("k")
        with pytest.raises(ArtifactsUnavailable, match="no bucket no-such-bucket"):
            await store.read("k", 1, 2)
        with pytest.raises(ArtifactsUnavailable, match="no bucket no-such-bucket"):
            await anext(aiter(store.open("k")))
        with pytest.raises(ArtifactsUnavailable, match="no bucket no-such-bucket"):
            await store.stat("k")
        with pytest.raises(ArtifactsUnavailable, match="no bucket no-such-bucket"):
            await store.delete("k")


@pytest.mark.parametrize("wrong", ["access_key", "secret_key"])
async def test_a_wrong_key_is_told_without_it(s3: S3, wrong: str) -> None:
    """With the settings to look at."""
    keys = {"access_key": s3.access_key, "secret_key": s3.secret_key, wrong: "hunter2hunter2"}
    async with S3Artifacts.from_url(s3.url, **keys) as store:
        for asked in (store.ping(), store.read("k"), store.stat("k"), store.put("k", b"1")):
            with pytest.raises(ArtifactsUnavailable, match=r"refuses access.*artifacts\.secret_key") as caught:
                await asked
            assert not any(key in str(caught.value) for key in keys.values())


async def test_an_endpoint_that_is_down_fails_in_seconds() -> None:
    """obstore's own patience is 180 s."""
    async with S3Artifacts.from_url("s3://taskflow?endpoint=http://127.0.0.1:1", **KEYS) as store:
        for asked in (store.put("k", b"1"), store.read("k"), store.ping()):
            began = time.monotonic()
            with pytest.raises(ArtifactsUnavailable, match=r"127\.0\.0\.1:1") as caught:
                await asked
            assert time.monotonic() - began < 4
            assert not any(key in str(caught.value) for key in KEYS.values())


async def test_an_endpoint_that_hangs_fails_at_the_deadline() -> None:
    """Connected, and never answered."""
    # The kernel connects whoever asks; nobody ever takes the connection up.
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        store = S3Artifacts.from_url(f"s3://taskflow?endpoint=http://127.0.0.1:{port}", **KEYS)
        store._deadline = 0.3
        async with store:
            with pytest.raises(ArtifactsUnavailable, match=r"was not stored within 0\.3 s"):
                await store.put("k", b"1")


async def test_a_store_that_was_away_works_again(own_weed: ThrowawayWeed) -> None:
    """The same opened adapter; what it held is still there."""
    async with opened(S3(own_weed.url, own_weed.access_key, own_weed.secret_key)) as store:
        await store.put("k", b"1")
        own_weed.stop()
        with pytest.raises(ArtifactsUnavailable):
            await store.read("k")
        with pytest.raises(ArtifactsUnavailable):
            await store.stat("k")
        await own_weed.start_beside()
        assert await store.read("k") == b"1"
        with pytest.raises(NotFound):
            await store.read("other")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3://", "names no bucket"),
        ("s3:///key", "names no bucket"),
        ("s3://buck et", "names no bucket"),
        ("s3://AKIATHROWAWAY:hunter2secret@bucket", "artifacts.secret_key"),
        ("s3://bucket?endpont=http://h", "no option endpont; it may have endpoint"),
        ("s3://bucket?secret_access_key=hunter2secret", "no option secret_access_key"),
        ("s3://bucket?endpoint=minio:9000", "http://host"),
        ("s3://bucket?endpoint=http://u:hunter2secret@h", "http://host"),
        ("s3://bucket?endpoint=http://h&public_endpoint=files", "http://host"),
        ("s3://bucket?virtual_hosted=maybe", "true or false"),
    ],
)
def test_what_cannot_be_a_bucket_is_refused(url: str, told: str) -> None:
    """With the right form, and without a key."""
    with pytest.raises(ValueError) as caught:
        S3Artifacts.from_url(url)
    assert told in str(caught.value)
    assert "hunter2secret" not in str(caught.value)


def test_half_of_the_credentials_is_refused() -> None:
    """The other half would be found who knows where."""
    with pytest.raises(ValueError, match="go together"):
        S3Artifacts.from_url("s3://bucket", access_key="a")


async def test_certificates_that_cannot_be_read_are_told() -> None:
    """At start, not at the first use."""
    with pytest.raises(ArtifactsUnavailable, match=r"/no/such\.pem cannot be read: No such file"):
        async with S3Artifacts.from_url("s3://bucket?endpoint=https://h&ca=/no/such.pem", **KEYS):
            pass


async def test_stores_of_others_are_made_without_asking_them() -> None:
    """Google's and Azure's; what they do is obstore's business, and no server of theirs is here."""
    async with AzureArtifacts.from_url("az://container/prefix", access_key="account", secret_key="a2V5") as store:
        url = await store.sign("k", 60)
    assert url is not None
    assert url.startswith("https://account.blob.core.windows.net/container/prefix/k?")
    for wrong in ("gs://", "gs://u:p@bucket", "gs://bucket?endpoint=http://h"):
        with pytest.raises(ValueError, match="gs://"):
            GoogleArtifacts.from_url(wrong)
