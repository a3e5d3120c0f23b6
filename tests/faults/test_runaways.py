"""Handlers that cannot be stopped or that leave nobody a turn: other jobs, the beats and the API go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.system import SHAPES, SHOWN, System, in_shapes
from tests.effects import recorded
from tests.faults import witness
from tests.figures import Say
from tests.support import FULL, until_sync

LEASE, BUSY = ("30", 120.0) if FULL else ("2", 2.5)
SLOWEST = 1.0 if FULL else 2.0
"""Seconds that an answer may take; more where the machine is busy with other tests."""
THREADS = 4 if FULL else 2
SETTINGS = {
    **witness.SETTINGS,
    "TASKFLOW_CONSUMER_LEASE": LEASE,
    "TASKFLOW_CONSUMER_THREADS": str(THREADS),
}


@pytest.fixture(scope="module", params=in_shapes(SHOWN))
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One that runs, with few threads."""
    directory = tmp_path_factory.mktemp("runaways")
    with SHAPES[request.param](directory, **SETTINGS) as made:
        made.configure(PYTHONPATH=SETTINGS["PYTHONPATH"])
        yield made.start()


def slowest_answer(system: System, until: Callable[[], bool]) -> float:
    """The longest that a health check took meanwhile."""
    slowest = 0.0
    while not until():
        asked = time.monotonic()
        assert system.http.get("/health/live").status_code == 200
        slowest = max(slowest, time.monotonic() - asked)
    return slowest


@pytest.mark.parametrize("task", ["witness.spin", *(["test.block"] if FULL else [])])
def test_a_handler_that_leaves_nobody_a_turn_is_not_taken_over(system: System, task: str, say: Say) -> None:
    """It spins in a thread, or blocks the handlers' loop, for longer than the lease: the beats go on beside it, the API
    answers, and its effect is made once."""
    path = system.directory / f"effects-{task}"
    payload = {"seconds": BUSY} | ({"path": str(path), "key": "once"} if task == "witness.spin" else {})
    [worker] = system.http.get("/workers").json()["items"]
    job_id = system.submit(task, payload)
    until_sync(lambda: system.job(job_id)["state"] == "running")
    slowest = slowest_answer(system, lambda: system.job(job_id)["state"] != "running")
    job = system.job(job_id)
    say(f"the API beside {task} for {BUSY:g} s", f"answered within {slowest:.2f} s")
    assert (job["state"], job["crashes"], job["interruptions"]) == ("succeeded", 0, 0)
    assert [attempt["worker"] for attempt in job["attempts"]] == [worker["id"]]
    assert slowest < SLOWEST
    if task == "witness.spin":
        assert [line.what for line in recorded(path)] == ["began", "done"]
        assert recorded(path)[1].when - recorded(path)[0].when > float(LEASE)


@pytest.mark.full
def test_threads_that_hang_leave_as_many_as_there_were(system: System) -> None:
    """Each is reported at its timeout and its slot is given to another; one more than there are slots, and the process
    asks to be started anew: what runs ends, and it exits with 70."""
    stuck: list[str] = []
    if FULL:
        stuck += hung(system, 3)
        assert {system.job(job_id, wait=20)["attempts"][0]["outcome"] for job_id in stuck} == {"timeout"}
        others = [system.submit("witness.spin", spin(system, n)) for n in range(THREADS)]
        until_sync(lambda: all(system.job(job_id)["state"] == "running" for job_id in others), 20)
        assert {system.job(job_id, wait=20)["state"] for job_id in others} == {"succeeded"}
    stuck += hung(system, THREADS + 1 - len(stuck))
    last = system.submit("demo.sleep", {"seconds": 6})
    assert system.wait("consumer") == {70}
    assert f"this process cannot go on: {THREADS + 1} runs could not be stopped" in system.output
    system.start()
    ended = [system.job(job_id, wait=20) for job_id in [*stuck, last]]
    assert [job["attempts"][0]["outcome"] for job in ended] == ["timeout"] * (THREADS + 1) + ["succeeded"]
    assert {len(job["attempts"]) for job in ended} == {1}


def hung(system: System, count: int) -> list[str]:
    """Submit jobs that keep their thread whatever is wished."""
    payload = {"seconds": 900}
    return [system.submit("test.hang_thread", payload, timeout=0.2, max_attempts=1) for _ in range(count)]


def spin(system: System, number: int) -> dict[str, object]:
    """A payload of a job that is busy for a while."""
    return {"path": str(system.directory / "spins"), "key": f"k{number}", "seconds": 1.5}
