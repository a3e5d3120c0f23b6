"""A text that JSON can hold and a database cannot: the insert fails, or the job that ran cannot be closed and runs again.

Seen in awa#85, windmill#10274, kestra#10653 and osbuild-composer#4779, with U+0000 and jsonb. Right: in what a client sends
it is refused by a 4xx that names the place; of what a handler says it is shown escaped; a job that ran ends in one attempt.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskflow.adapters.obstore import LocalArtifacts
from taskflow.core.job import State
from taskflow.core.lifecycle import Ending, decide
from taskflow.core.retry import RetryPolicy
from taskflow.flow.effects import RunEffects
from taskflow.flow.progress import ProgressWriter
from taskflow.ports.store import StateStore
from taskflow.tasks.ending import ending_of_error, ending_of_value
from taskflow.testing.store_facts import claimed, shown, worker
from tests.acceptance.system import System
from tests.api.house import House
from tests.bug_report import Report
from tests.bugs.bug_tasks import BAD, text

JSON = {"content-type": "application/json"}
# As written in a body: escaped, raw, half of a pair, the other half, no UTF-8, an overlong NUL, and a raw control character.
WRITTEN = [b"\\u0000", b"\0", b"\\ud800", b"\\udfff\\ud800", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\x1f"]
SUBMIT = [
    b'{"task": "t.any", "payload": {"a": "%s"}}',
    b'{"task": "t.any", "payload": {"%s": 1}}',
    b'{"task": "t.any", "payload": {"a": [{"b": ["", "x%s"]}]}}',
    b'{"task": "t.any", "metadata": {"a": "%s"}}',
    b'{"task": "t.any", "metadata": {"%s": {}}}',
    b'{"task": "t.any", "tags": ["%s"]}',
    b'{"task": "t.any", "queue": "%s"}',
    b'{"task": "%s"}',
    b'{"task": "t.any", "%s": 1}',
    b'{"task": "t.any", "run_at": "%s"}',
    b'{"task": "t.any", "timeout": "1s%s"}',
]
OTHERS = {
    "/queues": [b'{"name": "%s"}'],
    "/queues/default/pause": [b'{"reason": "%s"}', b'{"%s": ""}'],
    "/dead-letters/replay": [b'{"ids": ["%s"]}', b'{"filter": {"error_type": "%s"}}', b'{"filter": {"tag": "%s"}}'],
    "/dead-letters/purge": [b'{"filter": {"task": "%s"}}'],
}
PATHS = [
    "/jobs?tag=%s", "/jobs?task=%s", "/jobs?state=%s", "/jobs?cursor=%s", "/jobs?created_after=%s", "/jobs?%s=1",
    "/dead-letters?error_type=%s", "/jobs/%s", "/jobs/%s/artifacts/a", "/logs/%s", "/logs/{id}?after=%s",
    "/queues/%s", "/jobs/{id}/artifacts/%s",
]  # fmt: skip


async def test_what_a_client_sends_is_refused(house: House, report: Report) -> None:
    """Every text of every body: 400 or 422, nothing is stored, and neighbours in a batch do not suffer."""
    asked = 0
    bodies = [("/jobs", body) for body in SUBMIT] + [(path, body) for path in OTHERS for body in OTHERS[path]]
    failed = await house.failed()
    bodies.append((f"/jobs/{failed}/replay", b'{"payload": {"a": "%s"}}'))
    for bad in WRITTEN:
        for path, body in bodies:
            answer = await house.http.post(path, content=body.replace(b"%s", bad), headers=JSON)
            assert answer.status_code in {400, 422}, (path, body, bad, answer.text)
            asked += 1
    for body in SUBMIT[:3]:
        both = b'{"jobs": [{"task": "t.any"}, ' + body.replace(b"%s", b"\\u0000") + b"]}"
        answer = await house.http.post("/jobs/batch", content=both, headers=JSON)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"].startswith("/jobs/1/payload")
    assert await house.count() == 1
    report("B42", scale=f"{len(bodies)} places, {len(WRITTEN)} texts", faults=asked)


async def test_what_a_client_asks_for_is_refused(house: House, report: Report) -> None:
    """In paths, parameters and headers: never a 5xx, and never another's job."""
    asked, job_id = 0, await house.failed()
    for bad in ("%00", "a%00b", "%ff", "%ed%a0%80", "%c0%80", "%F0%9F%92%A9"):
        for path in PATHS:
            answer = await house.http.get(path.replace("%s", bad).replace("{id}", job_id))
            # An error's type may be any printable text, and nothing has this one.
            found = answer.json()["items"] if "error_type" in path and answer.is_success else None
            assert found == [] or 400 <= answer.status_code < 500, (path, bad, answer.text)
            asked += 1
    for key in (b"\0", b"a\0b", b"\xff", b"\xc3\xa9", b'"\\\0"'):
        answer = await house.http.post("/jobs", json={"task": "t.any"}, headers={b"idempotency-key": key})
        assert answer.status_code in {400, 422}, key
        asked += 1
    report("B42", scale=f"{len(PATHS)} paths and parameters, one header", faults=asked)


async def test_what_is_strange_and_valid_is_kept_as_it_was(house: House, report: Report) -> None:
    """Byte for byte, as payload and as metadata."""
    texts = ["\u2028\u2029", "💩" * 50, "\ufffe\uffff", "\u200b\u202e", "'; DROP TABLE jobs; --", "%s {} \\N \\", "e\u0301",
             "\x7f\x80\x9f", "\t\n\r\b\f", "\u0001\u001f"]  # fmt: skip
    for one in texts:
        made = await house.submit(payload={one: one}, metadata={one: [one]})
        found = await house.get(made["id"])
        assert (found["payload"], found["metadata"]) == ({one: one}, {one: [one]})
    report("B42", scale="strange texts that are valid", faults=len(texts))


SHOWN = {"nul": ("\\u0000", "\\x00", "U+0000"), "surrogate": ("\\ud800", "half of a surrogate pair")}


def raised(make: Callable[[str], BaseException], bad: str) -> Ending:
    """How a run ends that raises."""
    try:
        raise make(bad)
    except BaseException as error:
        return ending_of_error(text, error)


ENDINGS: list[Callable[[str], Ending]] = [
    ending_of_value,
    lambda bad: ending_of_value({bad: [bad]}),
    lambda bad: ending_of_value([{"a": {"b": bad}}]),
    lambda bad: raised(ValueError, bad),
    lambda bad: raised(lambda words: KeyError({words: words}), bad),
    lambda bad: raised(lambda words: ExceptionGroup(words, [ValueError(words)]), bad),
    lambda bad: raised(lambda words: type("Odd", (Exception,), {"__str__": lambda _: words})(), bad),
]


@pytest.mark.parametrize("kind", BAD)
async def test_a_run_that_says_it_is_closed_in_one_attempt(
    kind: str, store: StateStore, tmp_path: Path, report: Report
) -> None:
    """Whatever it returned, raised, logged, reported or kept."""
    bad, me = BAD[kind], await worker(store)
    for ending in ENDINGS:
        claim = await claimed(store, me, max_attempts=1)
        [settled] = await store.settle([decide(claim, ending(bad), RetryPolicy())])
        found = await shown(store, claim.id)
        assert (settled.state, found.state, len(found.attempts)) == (State.FAILED, State.FAILED, 1)
        assert found.error is not None
        assert any(shown in found.error.message for shown in SHOWN[kind])
    lines: list[bytes] = []
    writer, claim = ProgressWriter(store), await claimed(store, me)
    async with LocalArtifacts(tmp_path / "objects") as objects:
        effects = RunEffects(Lines(lines), writer, store, objects, "ns")
        effects.log(claim, "info", bad, {bad: bad, "deep": [{bad: bad}], "odd": object()}, bad)
        effects.log(claim, "info", bad * 20_000, {bad * 500: bad * 20_000}, bad)
        effects.log(claim, "info", 7, {bad: bad, **{str(n): "x" * 900 for n in range(30)}}, bad)  # type: ignore[arg-type]
        effects.progress(claim, 0.5, bad)
        await writer.once()
        await effects.put(claim, "kept", b"x", bad)
        with pytest.raises(ValueError, match="artifact name"):
            await effects.put(claim, bad, b"x", "text/plain")
    assert [artifact.name for artifact in await store.artifacts(claim.id)] == ["kept"]
    assert json.loads((await shown(store, claim.id)).progress or "")["fraction"] == 0.5
    for line in lines:
        assert b"\0" not in line
        line.decode()
        assert "\0" not in json.dumps(json.loads(line), ensure_ascii=False)
    report("B42", scale=f"{len(ENDINGS)} endings, logs, progress and files, {kind}", faults=len(ENDINGS) + 5)


class Lines:
    """Log lines in a list."""

    def __init__(self, kept: list[bytes]) -> None:
        self._kept = kept

    def append(self, job_id: str, epoch: int, line: bytes) -> None:
        self._kept.append(line)


def test_from_outside(system: System, report: Report) -> None:
    """Handlers that say it wherever a handler can: one attempt each, and what can be shown is."""
    wrong = {"result": "UnstorableResult", "key": "UnstorableResult", "error": "ValueError", "cause": "ValueError",
             "artifact": "ValueError"}  # fmt: skip
    right = ["log", "logging", "print", "progress", "content_type"]
    jobs = {
        (where, kind): system.submit("bug.text", {"where": where, "kind": kind}, max_attempts=1)
        for where in [*wrong, *right]
        for kind in BAD
    }
    for (where, kind), job_id in jobs.items():
        found: dict[str, Any] = system.job(job_id, wait=20)
        assert len(found["attempts"]) == 1, (where, kind, found)
        assert (found["error"] or {}).get("type") == wrong.get(where), (where, kind, found)
        if where in {"log", "print"}:
            assert "a\\u0000b" in (said := system.http.get(f"/logs/{job_id}").text) or "\\ud800" in said
    report("B42", scale=f"{len(jobs)} handlers", faults=len(jobs))
