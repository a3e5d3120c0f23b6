"""RabbitMQ over TLS: a proxy speaks it on the server's behalf."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from taskflow.adapters.rabbitmq import RabbitBroker, broker, probe
from taskflow.core.errors import BrokerUnavailable
from taskflow.testing.broker import Landing, lane_key, tickets_of
from taskflow.testing.facts import until
from tests.rabbit import House
from tests.throwaway.proxy import Proxy, through

pytestmark = [
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate"),
    pytest.mark.adapter("rabbitmq"),
]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1, with its key beside it."""
    path = tmp_path_factory.mktemp("tls") / "own.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject]
    subprocess.run([*command, "-out", path, "-keyout", path.with_suffix(".key")], check=True, capture_output=True)
    return path


@pytest.fixture
async def address(rabbit: House, certificate: Path) -> AsyncIterator[str]:
    """An `amqps:` URL without options."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, certificate.with_suffix(".key"))
    async with Proxy.before(rabbit.url, tls) as proxy:
        yield urlsplit(through(rabbit.url, proxy))._replace(scheme="amqps", query="").geturl()


async def test_an_authority_of_ones_own_is_believed(rabbit: House, address: str, certificate: Path) -> None:
    """Where the URL names it."""
    key, landing = lane_key(), Landing()
    url = f"{address}?cafile={quote(str(certificate))}"
    async with RabbitBroker.from_url(url, namespace=rabbit.namespace) as opened:
        async with opened.consume([key], 10, landing):
            sent = tickets_of(key, 3)
            await opened.publish(sent)
            await until(lambda: landing.tickets == sent)
        await opened.ping()


async def test_a_stranger_is_not_believed(rabbit: House, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent to it, and the reason is told."""
    monkeypatch.setattr(broker, "GREET", 0.3)
    monkeypatch.setattr(probe, "ANSWER", 0.3)
    async with RabbitBroker.from_url(address, namespace=rabbit.namespace) as opened:
        with pytest.raises(BrokerUnavailable, match=r"(?i)certificate"):
            await opened.ping()
