"""Redis and S3 behind TLS, with an authority of one's own."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from taskflow.adapters.obstore import S3Artifacts
from taskflow.adapters.redis import RedisCache, RedisEvents
from taskflow.core.errors import ArtifactsUnavailable, TaskFlowError
from taskflow.testing.events import following
from tests.throwaway import ThrowawayRedis, ThrowawayWeed
from tests.throwaway.proxy import Proxy


@dataclass(frozen=True)
class Tls:
    """A certificate for localhost that its own file proves."""

    authority: Path
    context: ssl.SSLContext


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """Signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate")
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-addext", "basicConstraints=critical,CA:FALSE", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return Tls(certificate, context)


@pytest.mark.adapter("redis")
async def test_redis_with_an_authority_of_ones_own(tls: Tls, own_redis: ThrowawayRedis) -> None:
    """Its certificate is checked, and so is the name."""
    async with Proxy(own_redis.port, tls=tls.context) as proxy:
        url = f"rediss://localhost:{proxy.port}/0"
        trusted = f"{url}?ssl_ca_certs={tls.authority}"
        async with RedisCache.from_url(trusted) as cache:
            await cache.put("k", b"1", 60)
            assert await cache.get("k") == b"1"
        async with (
            RedisEvents.from_url(trusted) as events,
            events.subscribe("t") as messages,
        ):
            await events.publish("t", b"1")
            assert await following(messages, 1) == [("t", b"1")]
        for wrong in (url, trusted.replace("localhost", "127.0.0.1")):
            async with RedisCache.from_url(wrong) as cache:
                with pytest.raises(TaskFlowError, match=r"(?i)certificate"):
                    await cache.ping()


@pytest.mark.adapter("s3")
async def test_s3_with_an_authority_of_ones_own(tls: Tls, own_weed: ThrowawayWeed) -> None:
    """And without it, nothing is sent."""
    keys = {"access_key": own_weed.access_key, "secret_key": own_weed.secret_key}
    async with Proxy(own_weed.port, tls=tls.context) as proxy:
        url = f"s3://taskflow?endpoint=https://localhost:{proxy.port}"
        async with S3Artifacts.from_url(f"{url}&ca={tls.authority}", **keys) as store:
            await store.put("tls", b"1")
            assert await store.read("tls") == b"1"
            await store.delete("tls")
        async with S3Artifacts.from_url(url, **keys) as store:
            with pytest.raises(ArtifactsUnavailable):
                await store.put("tls", b"1")
