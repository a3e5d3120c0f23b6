"""The monitor: an address of its own on which each process says how it is, whatever its roles."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.acceptance.cluster import Cluster
from tests.acceptance.system import embedded
from tests.acceptance.test_processes import members
from tests.support import until_sync
from tests.throwaway import free_ports

real = pytest.mark.adapter("postgresql", "rabbitmq", "redis", "s3")
ROLES = "api,consumer,scheduler"


def asked(address: str, path: str = "/health/ready") -> tuple[int, Any]:
    """Status and document; 0 where nobody answers."""
    try:
        answer = httpx2.get(f"http://{address}{path}", timeout=10)
    except httpx2.TransportError:
        return 0, None
    return answer.status_code, answer.json() if answer.status_code in (200, 503) else None


def free_address() -> str:
    """One that nobody has."""
    return f"127.0.0.1:{free_ports(1)[0]}"


def test_a_process_says_how_it_is(tmp_path: Path) -> None:
    """While it works; while it ends, too, for whoever would start it anew."""
    address = free_address()
    with embedded(tmp_path, TASKFLOW_MONITOR_ADDRESS=address, TASKFLOW_CONSUMER_GRACEFUL="20") as system:
        system.start()
        assert asked(address) == (200, {"status": "ready", "roles": dict.fromkeys(ROLES.split(","), "ready")})
        assert asked(address, "/health/live") == (200, {"status": "ok"})
        assert asked(address, "/api/v1/jobs")[0] == 404
        job = system.submit("demo.sleep", {"seconds": 3})
        until_sync(lambda: system.job(job)["state"] == "running")
        system.signal(signal.SIGTERM)
        until_sync(lambda: asked(address)[0] == 503)
        assert asked(address) == (503, {"status": "not ready", "roles": dict.fromkeys(ROLES.split(","), "ends")})
        assert asked(address, "/health/live")[0] == 200
        assert system.wait() == {0}
        assert asked(address)[0] == 0


def test_an_address_that_is_taken_is_told(tmp_path: Path) -> None:
    """And nothing is started."""
    with embedded(tmp_path) as other:
        address = f"127.0.0.1:{other.start().port}"
        with embedded(tmp_path / "second", TASKFLOW_MONITOR_ADDRESS=address) as system:
            (tmp_path / "second").mkdir()
            system.launch()
            assert system.wait() == {1}
            assert f"cannot listen on {address}" in system.output
            assert "use another monitor.address" in system.output


@real
@pytest.mark.parametrize("role", ["consumer", "scheduler"])
def test_a_role_that_has_no_port_has_a_monitor(tmp_path: Path, role: str) -> None:
    """From before it works, so that somebody can see why it does not."""
    address = free_address()
    with Cluster(tmp_path, TASKFLOW_MONITOR_ADDRESS=address) as cluster:
        node = cluster.node(role)
        until_sync(lambda: asked(address)[0] == 200, 40)
        assert asked(address)[1] == {"status": "ready", "roles": {role: "ready"}}
        assert node.stop() == 0


@real
def test_a_crew_answers_as_one(tmp_path: Path) -> None:
    """It is ready if all are; who is not is named."""
    address = free_address()
    with Cluster(tmp_path, TASKFLOW_MONITOR_ADDRESS=address, TASKFLOW_PROCESSES="2") as cluster:
        node = cluster.node(ROLES)
        until_sync(lambda: asked(address)[0] == 503, 40)
        assert set(asked(address)[1]["roles"].values()) <= {f"process {number} of 2: starts" for number in (1, 2)} | {
            "ready"
        }
        until_sync(lambda: asked(address)[0] == 200, 40)
        assert asked(address)[1] == {"status": "ready", "roles": dict.fromkeys(ROLES.split(","), "ready")}
        first, _ = members(node)
        os.kill(first, signal.SIGSTOP)
        status, document = asked(address)
        os.kill(first, signal.SIGCONT)
        assert status == 503
        assert len(told := set(document["roles"].values())) == 1
        assert told <= {f"process {number} of 2: does not answer" for number in (1, 2)}
        until_sync(lambda: asked(address)[0] == 200, 40)
        os.kill(first, signal.SIGKILL)
        until_sync(lambda: asked(address)[0] == 503, 20)
        until_sync(lambda: asked(address)[0] == 200, 40)
        assert asked(address, "/health/live") == (200, {"status": "ok"})
        assert node.stop() == 0
