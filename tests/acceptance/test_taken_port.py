"""A port that is taken: uvicorn would leave the process by itself, with everything else open."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster
from tests.support import until_sync

pytestmark = pytest.mark.adapter("postgresql", "rabbitmq", "redis", "s3")


def test_a_taken_port_ends_all_roles_cleanly(tmp_path: Path) -> None:
    """A line says what to do, the exit code is ours, and the worker has signed off."""
    with Cluster(tmp_path) as cluster, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        node = cluster.node("api,consumer,scheduler", port=port)
        assert node.process is not None
        until_sync(lambda: node.process is not None and node.process.poll() is not None, 30)
        assert node.process.returncode == 1
        assert f"cannot listen on 127.0.0.1:{port}" in cluster.output
        assert "use another --port" in cluster.output
        assert "Traceback" not in cluster.output
        assert cluster.count("state <> 'stopped'", "workers") == 0
