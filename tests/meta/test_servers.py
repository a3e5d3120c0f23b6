"""Where the tests find their servers."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import servers
from tests.throwaway import CannotStart, ThrowawayRedis, free_ports, server


@pytest.fixture
def afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is known yet, and nobody told anything."""
    monkeypatch.setattr(servers, "_found", {})
    monkeypatch.setattr(servers, "_started", {})
    monkeypatch.setattr(servers, "_running", ExitStack())
    for service in servers.SERVICES.values():
        monkeypatch.delenv(service.variable, raising=False)
    yield
    servers.close()


def with_redis(monkeypatch: pytest.MonkeyPatch, standard: bool, throwaway: type[ThrowawayRedis]) -> None:
    def answers() -> bool:
        if not standard:
            raise ConnectionRefusedError
        return True

    service = servers.Service("TASKFLOW_TEST_REDIS_URL", "redis://standard", answers, throwaway)
    monkeypatch.setattr(servers, "SERVICES", {"redis": service})


class Missing(ThrowawayRedis):
    """One that this machine does not have."""

    binary = "no-such-server"


@pytest.mark.usefixtures("afresh")
def test_the_environment_beats_the_standard_port_which_beats_one_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this order, once a run."""
    with_redis(monkeypatch, True, Missing)
    assert servers.REDIS == "redis://standard"
    monkeypatch.setenv("TASKFLOW_TEST_REDIS_URL", "redis://told")
    assert servers.url_of("redis") == "redis://standard"
    servers.close()
    assert servers.url_of("redis") == "redis://told"


@pytest.mark.usefixtures("afresh")
def test_one_of_our_own_is_started_once_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing of it stays."""
    with_redis(monkeypatch, False, ThrowawayRedis)
    url = servers.url_of("redis")
    assert url == servers.REDIS
    [server] = servers._started.values()
    assert isinstance(server, ThrowawayRedis)
    assert server.process is not None
    pid, directory = server.process.pid, server.directory
    assert server.answers()
    servers.close()
    assert not directory.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", server.port), timeout=1):
        pass


@pytest.mark.usefixtures("afresh")
def test_without_a_server_a_test_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is a module that asks for it at its top."""
    with_redis(monkeypatch, False, Missing)
    for _ in range(2):
        with pytest.raises(pytest.skip.Exception, match="no redis: no-such-server is not installed") as caught:
            servers.url_of("redis")
        assert caught.value.allow_module_level


def test_a_server_that_does_not_start_says_why() -> None:
    """With its last words, and leaves nothing."""
    server = ThrowawayRedis("--no-such-option", "1")
    with pytest.raises(CannotStart, match=r"redis-server ended with 1: .*no-such-option"), server:
        pass
    assert not server.directory.exists()


def test_a_server_may_be_stopped_killed_paused_and_started() -> None:
    """Under the same address."""
    with ThrowawayRedis() as server:
        for end in (server.stop, server.kill):
            end()
            with pytest.raises(OSError):
                server.ask("PING")
            server.start()
            assert server.ask("PING") == b"+PONG\r\n"
        server.pause()
        with contextlib.suppress(TimeoutError):
            assert server.ask("PING") == b"never"
        server.go_on()
        assert server.ask("PING") == b"+PONG\r\n"
    assert server.directory != Path()


def test_a_free_port_is_none_that_a_connection_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is listened on, connections are made by the dozen, each from a port that the kernel chooses."""
    monkeypatch.setattr(server, "_outgoing", lambda: range(15_000, 65_536))
    ports = free_ports(200)
    assert max(ports) < 15_000
    assert len(set(ports)) == 200
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports[0]))
        assert ports[0] not in free_ports(50)
