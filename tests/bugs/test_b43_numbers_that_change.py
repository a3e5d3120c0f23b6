"""Large integers come back rounded, and NaN or an infinity makes JSON that nobody can read.

Seen in faktory#380, riverui#593, dspy#10143 and bullmq#2234. Right: an integer is exact to the last digit from the request
through store and handler to the answer; what JSON has no number for is refused by 4xx, and in a result is a clean failure.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from taskflow.core.job import Outcome
from taskflow.core.limits import RESULT_BYTES
from taskflow.tasks import jsonread
from taskflow.tasks.ending import ending_of_value
from tests.acceptance.system import System
from tests.api.house import House
from tests.bug_report import Report
from tests.support import FULL

EXACT = [
    "1970670598291982290", "9007199254740993", "9223372036854775807", "9223372036854775808", "-9223372036854775809",
    "18446744073709551616", "1" + "0" * 400, "-" + "9" * 1_000, "0", "-0.0", "0.1", "5e-324", "1.7976931348623157e308",
    "2.2250738585072014e-308", "123456789.123456789e-3",
]  # fmt: skip
REFUSED = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e400",
    "1" * 10_000,
    "01",
    "+1",
    "0x10",
    "1_000",
    ".5",
    "1.",
    "1e",
]
FIELDS = ["priority", "max_attempts", "timeout", "delay", "run_at", "tags", "task", "payload"]
JSON = {"content-type": "application/json"}


def post(body: str) -> dict[str, Any]:
    """A submit of this text."""
    return {"content": body.encode(), "headers": JSON}


async def test_numbers_are_kept_to_the_last_digit(house: House, report: Report) -> None:
    """As text, in payload and result, in the document and in lists, live and finished."""
    for number in EXACT:
        member = f'"n":{number}'
        answer = await house.http.post("/jobs", **post(f'{{"task":"t.any","payload":{{{member}}}}}'))
        assert answer.status_code == 202
        job_id = answer.json()["id"]
        claim = await house.claim(job_id)
        assert claim.payload == f"{{{member}}}"
        value = jsonread.loads(claim.payload)
        await house.end(claim, result=ending_of_value(value).result or "")
        text = (await house.http.get(f"/jobs/{job_id}")).text
        assert f'"payload":{{{member}}}' in text
        found = json.loads(text)["result"]["n"]
        # Of a float its text tells zero from minus zero.
        assert repr(found) == repr(json.loads(number))
        assert member in (await house.http.get("/jobs?limit=1")).text
    report("B43", scale=f"{len(EXACT)} numbers through a store", faults=len(EXACT))


async def test_what_is_no_number_is_refused(house: House, report: Report) -> None:
    """Wherever it stands: in payload, metadata and every field; alone and in a batch; in a replay."""
    places = ['{"task":"t.any","payload":{"n":%s}}', '{"task":"t.any","payload":{"n":[[%s]]}}',
              '{"task":"t.any","metadata":{"n":%s}}'] + [f'{{"task":"t.any","{name}":%s}}' for name in FIELDS]  # fmt: skip
    failed, asked = await house.failed(), 0
    for number in REFUSED:
        for place in places:
            answer = await house.http.post("/jobs", **post(place.replace("%s", number)))
            assert answer.status_code in {400, 422}, (place, number, answer.text)
            asked += 1
        answer = await house.http.post(f"/jobs/{failed}/replay", **post(f'{{"payload":{{"n":{number}}}}}'))
        assert answer.status_code in {400, 422}
    assert await house.count() == 1
    report("B43", scale=f"{len(places)} places, {len(REFUSED)} texts", faults=asked)


async def test_no_field_takes_a_number_beyond_its_range(house: House, report: Report) -> None:
    """422 that names it; what a database or datetime would choke on never gets there."""
    huge = [
        "1" + "0" * 400,
        "9223372036854775808",
        "-1",
        "1e308",
        "-0.5",
        "true",
        "null",
        '"1e5"',
        '"nan"',
        '"inf"',
        '"9"',
    ]
    asked = 0
    for field in ("priority", "max_attempts", "timeout", "delay"):
        for number in huge[: -1 if field in {"timeout", "delay"} else None]:
            answer = await house.http.post("/jobs", **post(f'{{"task":"t.any","{field}":{number}}}'))
            assert answer.status_code == 422, (field, number, answer.text)
            assert [error["pointer"] for error in answer.json()["errors"]] == [f"/{field}"]
            asked += 1
    for query in ("limit=1e2", "limit=" + "9" * 400, "limit=-1", "limit=٣", "cursor=" + "9" * 60):
        assert (await house.http.get(f"/jobs?{query}")).status_code == 400
        asked += 1
    job_id = await house.finished()
    for query in ("epoch=" + "9" * 400, "epoch=-1", "epoch=1.0", "after=" + "9" * 400):
        assert (await house.http.get(f"/logs/{job_id}?{query}")).status_code == 400, query
        asked += 1
    report("B43", scale="4 fields, 5 parameters", faults=asked)


def test_any_value_comes_back_or_is_refused(report: Report) -> None:
    """Whatever a handler returns: what is written reads back as it was, or the run fails and says why."""
    numbers = st.integers() | st.integers(-(10**400), 10**400) | st.floats()
    words = st.text(max_size=5)
    values = st.recursive(
        numbers | words,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
        max_leaves=8,
    )
    seen = {Outcome.SUCCEEDED: 0, Outcome.FAILED: 0}

    @settings(max_examples=5_000 if FULL else 300, deadline=None, database=None)
    @given(values)
    @example([float("nan")])
    def holds(value: Any) -> None:
        ending = ending_of_value(value)
        seen[ending.outcome] += 1
        if ending.outcome is Outcome.SUCCEEDED:
            assert ending.result is not None
            assert repr(jsonread.loads(ending.result)) == repr(value)
            assert len(ending.result.encode()) <= RESULT_BYTES

    holds()
    report("B43", scale=f"{sum(seen.values())} results", faults=seen[Outcome.FAILED])


def test_from_outside(system: System, report: Report) -> None:
    """A handler is given the very number and gives it back."""
    for number in EXACT[:8]:
        answer = system.http.post("/jobs", **post(f'{{"task":"demo.echo","payload":{{"n":{number}}}}}'))
        job = system.http.get(f"/jobs/{answer.json()['id']}", headers={"Prefer": "wait=20"})
        assert f'"result":{{"n":{number}}}' in job.text
        assert f'"payload":{{"n":{number}}}' in job.text
    report("B43", scale="8 integers of up to 1,000 digits through a handler", faults=8)


def test_what_handlers_say_that_is_no_number(system: System, report: Report) -> None:
    """In a result a clean failure in one attempt, in a log line a text, as progress the nearest there is."""
    cases = [
        (where, kind)
        for where in ("result", "log", "progress")
        for kind in ("nan", "infinity", "minus", "huge", "zero")
    ]
    jobs = {
        case: system.submit("bug.number", dict(zip(("where", "kind"), case, strict=True)), max_attempts=1)
        for case in cases
    }
    for (where, kind), job_id in jobs.items():
        job = system.job(job_id, wait=20)
        lost = where == "result" and kind in {"nan", "infinity", "minus"}
        assert (job["state"], len(job["attempts"])) == ("failed" if lost else "succeeded", 1), (where, kind, job)
        assert (job["error"] or {}).get("type") == ("UnstorableResult" if lost else None)
        if where == "progress":
            assert job["progress"]["fraction"] == (1.0 if kind in {"infinity", "huge"} else 0.0)
        system.http.get(f"/logs/{job_id}").raise_for_status()
    report("B43", scale=f"{len(cases)} handlers", faults=len(cases))
