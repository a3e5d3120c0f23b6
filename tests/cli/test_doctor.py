"""The doctor on the embedded mode: beside the process that runs, and after it was killed."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.system import System, embedded
from tests.support import until_sync

OLD = 2 * 3_600


def doctor(directory: Path, *words: str, **environment: str) -> tuple[int, dict[str, Any]]:
    """Exit code, and findings by check, the worst of each."""
    code, out = said(directory, *words, "--json", **environment)
    document = json.loads(out)
    order = ["ok", "warning", "problem"]
    found: dict[str, Any] = {"done": document["done"]}
    for finding in document["findings"]:
        known = found.get(finding["check"])
        if known is None or order.index(finding["severity"]) > order.index(known["severity"]):
            found[finding["check"]] = finding
    return code, found


def said(directory: Path, *words: str, **environment: str) -> tuple[int, str]:
    """Exit code, and what a person reads."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TASKFLOW_")}
    done = subprocess.run(
        [sys.executable, "-m", "taskflow", "doctor", "--mode", "dev", "--data-dir", str(directory / "data"), *words],
        cwd=directory,
        env=environ | environment,
        capture_output=True,
        text=True,
        timeout=90,
    )
    return done.returncode, done.stdout + done.stderr * (done.returncode == 2)


def wrong(found: dict[str, Any]) -> dict[str, str]:
    """What is not well."""
    return {
        check: finding["severity"]
        for check, finding in found.items()
        if check != "done" and finding["severity"] != "ok"
    }


def damage(directory: Path, statement: str) -> None:
    """Behind everybody's back."""
    with closing(sqlite3.connect(directory / "data" / "taskflow.db", isolation_level=None, timeout=10)) as connection:
        connection.execute(statement)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One for all tests here; those that break it mend it."""
    with embedded(tmp_path_factory.mktemp("doctor"), TASKFLOW_CONSUMER_LEASE="4") as running:
        yield running


@pytest.fixture
def system(shared: System) -> System:
    """It runs."""
    return shared.start()


def test_nothing_is_wrong_with_a_system_at_work(system: System) -> None:
    """Beside a process that runs jobs the whole time; that it did is asserted."""
    ids = [system.submit("demo.log", {"lines": ["hello"], "seconds": 0.2}) for _ in range(300)]
    ids += [system.submit("demo.flaky", {"fail_times": 1}) for _ in range(50)]
    ids += [system.submit("demo.log", {"lines": ["hello"], "seconds": 5})]
    before = system.http.get("/queues").json()["items"]
    code, found = doctor(system.directory)
    assert any(queue["depth"] or queue["running"] for queue in before)
    assert (code, wrong(found)) == (0, {})
    assert {"settings", "schema", "store", "artifacts", "workers", "rows", "objects"} <= set(found)
    assert {system.job(job_id, wait=60)["state"] for job_id in ids} == {"succeeded"}
    code, out = said(system.directory)
    assert code == 0
    assert all(line.startswith("ok ") for line in out.splitlines())


def test_an_object_that_is_gone_and_one_that_nobody_knows(system: System) -> None:
    """The first is a problem that nobody can mend; the second is deleted, after it was shown and not before."""
    job_id = system.submit("demo.log", {"lines": ["one"]})
    system.job(job_id, wait=20)
    objects = system.directory / "data" / "objects"
    until_sync(lambda: system.http.get(f"/logs/{job_id}").headers["taskflow-logs"] == "complete")
    spare = objects / "taskflow" / "logs" / "2020" / "01" / "01" / "spare.ndjson"
    spare.parent.mkdir(parents=True)
    young = spare.with_name("young.ndjson")
    for path in (spare, young):
        path.write_text("x")
    os.utime(spare, (time.time() - OLD,) * 2)
    code, found = doctor(system.directory, "--repair")
    assert (code, wrong(found), found["objects"]["count"]) == (0, {"objects": "warning"}, 1)
    assert (found["objects"]["repair"], found["done"]) == ("delete 1 objects that no row names", [])
    assert spare.exists()
    code, found = doctor(system.directory, "--repair", "--yes")
    assert (code, found["done"]) == (0, ["deleted 1 objects"])
    assert (spare.exists(), young.exists()) == (False, True)
    kept = next(path for path in objects.rglob("*.ndjson") if path != young)
    text = kept.read_bytes()
    kept.unlink()
    code, found = doctor(system.directory)
    assert (code, wrong(found), found["objects"]["repair"]) == (1, {"objects": "problem"}, None)
    assert found["objects"]["ids"] == [str(kept.relative_to(objects))]
    kept.write_bytes(text)
    assert doctor(system.directory)[0] == 0


def test_rows_that_cannot_be(system: System) -> None:
    """Told with their ids, in words, and left alone."""
    damage(
        system.directory,
        "INSERT INTO attempts (job_id, epoch, number, started_at, finished_at, outcome, worker) "
        "VALUES ('nobody', 1, 1, 1, 2, 'lost', 'w')",
    )
    try:
        code, out = said(system.directory, "--repair", "--yes")
        assert code == 1
        assert "PROBLEM  rows      jobs with closing records and no job: nobody\n" in out
        assert "there is nothing" not in out
    finally:
        damage(system.directory, "DELETE FROM attempts WHERE job_id = 'nobody'")


def test_a_schema_that_was_changed_by_hand(system: System) -> None:
    """By the name of what is missing."""
    damage(system.directory, "DROP INDEX ix_jobs_expires")
    try:
        code, found = doctor(system.directory)
        assert (code, wrong(found)) == (1, {"schema": "problem"})
        assert found["schema"]["what"] == "index ix_jobs_expires is missing"
    finally:
        damage(system.directory, "CREATE INDEX ix_jobs_expires ON jobs (expires_at) WHERE expires_at IS NOT NULL")
    assert doctor(system.directory)[0] == 0


def test_a_process_that_was_killed(system: System) -> None:
    """A warning, since its next start mends it; the doctor mends it sooner, and only when told to."""
    job_id = system.submit("demo.sleep", {"seconds": 3})
    until_sync(lambda: system.job(job_id)["state"] == "running")
    system.kill()
    code, found = doctor(system.directory, "--repair")
    assert (code, wrong(found), found["done"]) == (0, {"workers": "warning"}, [])
    code, out = said(system.directory, "--repair")
    assert "--repair --yes would:\n  declare the killed process dead and queue what it ran again\n" in out
    code, found = doctor(system.directory, "--repair", "--yes")
    assert (code, found["done"]) == (0, ["declared 1 workers dead and queued 1 runs again"])
    assert wrong(doctor(system.directory)[1]) == {}
    system.start()
    job = system.job(job_id, wait=30)
    assert (job["state"], [attempt["outcome"] for attempt in job["attempts"]]) == (
        "succeeded",
        ["crashed", "succeeded"],
    )


def test_lines_that_a_dead_process_left_are_stored(system: System) -> None:
    """While nobody runs; beside a process that does, that one stores them."""
    job_id = system.submit("demo.echo")
    system.job(job_id, wait=20)
    system.kill()
    [root] = [path for path in (system.directory / "data" / "spool").iterdir() if path.is_dir()]
    left = root / "dead"
    left.mkdir()
    (left / "lock").touch()
    line = json.dumps({"ts": "2026-01-01T00:00:00Z", "level": "info", "message": "left behind"}) + "\n"
    spool = left / f"{1:015d}-left.spool"
    spool.write_text(json.dumps([job_id, 1, line, False]) + "\n")
    assert wrong(doctor(system.directory)[1]) == {"workers": "warning"}, "too young to be told"
    os.utime(spool, (time.time() - 900,) * 2)
    code, found = doctor(system.directory, "--repair", "--yes")
    assert (code, found["spools"]["severity"], found["spools"]["ids"]) == (0, "warning", ["dead"])
    assert "stored the lines of 1 spools" in found["done"]
    assert not left.exists()
    system.start()
    assert "left behind" in system.http.get(f"/logs/{job_id}").text


def test_where_nothing_is_nothing_is_made(tmp_path: Path) -> None:
    """A wrong directory is told, and stays as it was."""
    code, found = doctor(tmp_path)
    assert (code, wrong(found)) == (1, {"store": "problem"})
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """As a store that does not answer."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "taskflow.db").write_bytes(b"no database" * 100)
    code, found = doctor(tmp_path)
    assert (code, wrong(found)) == (1, {"store": "problem"})
    assert "file is not a database" in found["store"]["what"]


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    """Each problem is one."""
    code, out = said(tmp_path, TASKFLOW_CONSUMER_LEASE="soon", TASKFLOW_BROKER_URL="nonsense://x")
    assert code == 1
    assert out.count("PROBLEM  settings") == 2
    assert said(tmp_path, "--yes")[0] == 2
