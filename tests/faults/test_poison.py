"""A job that kills its workers, among innocents: they succeed, it alone fails. A supervisor starts workers anew."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster, Node
from tests.faults import witness
from tests.figures import Say
from tests.support import until_sync

INNOCENTS = 50
KINDS = [("witness.die", death) for death in witness.DEATHS] + [("witness.die_in_thread", "segfault")]


@contextmanager
def supervised(nodes: list[Node]) -> Iterator[list[int]]:
    """Start again what ends; collects exit codes."""
    over, ends = threading.Event(), []

    def watch() -> None:
        while not over.wait(0.05):
            for node in nodes:
                if node.process is not None and (code := node.process.poll()) is not None:
                    ends.append(code)
                    node.start()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield ends
    finally:
        over.set()
        thread.join(10)


@pytest.mark.full
@pytest.mark.parametrize(("task", "how", "longest"), [(*kind, 5.0 if n else 60.0) for n, kind in enumerate(KINDS)])
def test_a_job_that_kills_its_workers_takes_nobody_along(
    tmp_path: Path, task: str, how: str, longest: float, say: Say
) -> None:
    """Two workers die of it, each among many runs; then it runs apart, where only a child dies. Whoever ran beside it
    is a suspect for a while, and is acquitted."""
    with Cluster(tmp_path, **witness.SETTINGS, TASKFLOW_CONSUMER_LEASE="2") as cluster:
        cluster.node("api,scheduler")
        consumers = [cluster.node("consumer") for _ in range(2)]
        cluster.ready(workers=2)
        with supervised(consumers) as ends:
            # Few are long: what was caught twice runs one after the other.
            lengths = [3 + (longest - 3) * (number / INNOCENTS) ** 4 for number in range(1, INNOCENTS + 1)]
            # At once: all of them run when the guilty one comes.
            innocents = cluster.submit_all(
                [{"task": "demo.sleep", "payload": {"seconds": round(length, 2)}} for length in lengths]
            )
            until_sync(lambda: cluster.count("state = 'running'", "jobs") == INNOCENTS, 30)
            [guilty] = cluster.submit(task, {"how": how})
            until_sync(lambda: cluster.count("state = 'succeeded'") == INNOCENTS, 450)
            until_sync(lambda: cluster.job(guilty)["state"] == "failed", 60)
        job = cluster.job(guilty)
        ended = [cluster.job(job_id) for job_id in innocents]
        crashes = Counter(each["crashes"] for each in ended)
        say(
            f"poison ({task}, {how}) among {INNOCENTS}",
            f"{len(ends)} workers died, innocents by crashes: {dict(sorted(crashes.items()))}",
        )
        assert (job["reason"], job["crashes"]) == ("poison", 3)
        assert [attempt["outcome"] for attempt in job["attempts"]] == ["crashed"] * 3
        assert {each["state"] for each in ended} == {"succeeded"}
        assert {each["attempt"] for each in ended} == {1}
        assert len(ends) == 2
        assert 0 not in ends or how == "exit"
