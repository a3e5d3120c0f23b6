"""Pages that are made of the code: `python -m tests.docs.reference` writes them, a test compares them."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from taskflow.cli.app import app
from taskflow.core.job import State
from taskflow.core.lifecycle import TRANSITIONS
from taskflow.roles.api.problems import TITLES, URN
from tests.api.house import opened

DOCS: Final = Path(__file__).parents[2] / "docs"
WHY: Final[Mapping[tuple[State, State], str]] = {
    (State.SCHEDULED, State.QUEUED): "due",
    (State.WAITING, State.QUEUED): "a worker knows its task",
    (State.QUEUED, State.RUNNING): "claimed",
    (State.QUEUED, State.WAITING): "nobody knows its task",
    (State.RUNNING, State.SUCCEEDED): "returned",
    (State.RUNNING, State.FAILED): "no attempt left, or hopeless",
    (State.RUNNING, State.RETRYING): "raised, or out of time",
    (State.RUNNING, State.QUEUED): "interrupted",
    (State.RUNNING, State.SCHEDULED): "snoozed",
    (State.RETRYING, State.QUEUED): "due",
    (State.FAILED, State.QUEUED): "replayed by hand",
}
WHAT_TO_DO: Final[Mapping[str, tuple[int, str]]] = {
    "bad-request": (400, "Mend the parameter or header that `errors` names."),
    "malformed-json": (400, "Send JSON: no duplicate keys, no NaN, no NUL, at most 64 levels deep."),
    "bad-cursor": (400, "A cursor belongs to the filter that it came with: start the list again."),
    "unauthorized": (401, "Send `Authorization: Bearer KEY` with one of `api.keys`."),
    "cross-origin": (403, "Ask from your own server, or from a page of the API's address."),
    "not-found": (404, "Look at the id; finished jobs go after `retention.finished`."),
    "method-not-allowed": (405, "`Allow` says which methods there are."),
    "request-timeout": (408, "Send the body without long pauses."),
    "conflict": (409, "Look at the job's state: it changed before you asked."),
    "too-large": (413, "Payloads are 1 MiB at most, batches 16 MiB: keep what is larger elsewhere, and send where."),
    "uri-too-long": (414, "Ask with fewer filters."),
    "unsupported-media-type": (415, "Send `Content-Type: application/json` in UTF-8, uncompressed."),
    "invalid": (422, "Mend each field that `errors` points to."),
    "idempotency-key-reused": (422, "A key names one request: take a new one for another body."),
    "rate-limited": (429, "Wait for `Retry-After` seconds."),
    "headers-too-large": (431, "Send fewer or shorter headers."),
    "internal": (500, "A bug of ours: the log has the reason under the request's id."),
    "store-unavailable": (503, "Send it again after `Retry-After`, with the same `Idempotency-Key`."),
    "artifacts-unavailable": (503, "Ask again after `Retry-After`; jobs run on."),
}
NOTE: Final = "<!-- Made of the code by `python -m tests.docs.reference`: change that. -->\n"


def lifecycle() -> str:
    """The chart of states."""
    arrows = [
        f"    {source} --> {target}{f': {why}' if (why := WHY.get((source, target))) else ''}"
        for source, targets in TRANSITIONS.items()
        for target in sorted(targets, key=list(State).index)
    ]
    ends = [f"    {state} --> [*]" for state, targets in TRANSITIONS.items() if not targets]
    starts = [f"    [*] --> {state}" for state in (State.QUEUED, State.SCHEDULED)]
    chart = "\n".join(["stateDiagram-v2", *starts, *arrows, *ends])
    return f"""# The life of a job

{NOTE}
Every arrow there is. The same table is in the code
([core/lifecycle.py](../taskflow/core/lifecycle.py)), where `decide` uses it, and in the database, which refuses any other change.

```mermaid
{chart}
```

- A new job is `queued`, or `scheduled` if it has a delay or a time. A queued one is `waiting` while no worker that lives knows its task.
- `succeeded`, `cancelled` and `expired` are final. `failed` is until somebody replays the job: [dead letters](how-to/retries.md#dead-letters).
- `cancelled` comes at once where a job waits for something; a run is asked to stop first.
- `expired` is a job that neither ran nor was over when its `expires_at` came, or was to run again later.
- The document of a job says why it is in a state (`reason`): `no_worker`, `snoozed`, `interrupted`, `crashed`, `replayed`; `failed` and
  `timeout` while it is `retrying`; `attempts_used_up`, `not_retryable`, `unstorable`, `poison`, `crashed_too_often`,
  `interrupted_too_often`, `snoozed_too_often` where it has `failed`; `cancelled`, `expired`.
"""


def errors() -> str:
    """The problems that the API answers with."""
    rows = [
        f"| {status} | `{URN}{slug}` | {TITLES[slug]} | {todo} |"
        for slug, (status, todo) in sorted(WHAT_TO_DO.items(), key=lambda item: item[1][0])
    ]
    return "\n".join(
        [
            "# Errors\n",
            NOTE,
            "Every error is a problem document (RFC 9457, `application/problem+json`): `type`, `title`, `status`, `detail`, `instance` (the id of",
            "the request, as in `X-Request-Id` and in the log), and `errors` with a `pointer` and a `detail` for each field that is wrong. Types stay",
            "the same; titles and details are for people and may change.\n",
            "| status | type | title | what to do |",
            "|---|---|---|---|",
            *rows,
            "\n## Exit codes of the command line\n",
            "| code | |",
            "|---|---|",
            "| 0 | done; with `--wait`, the job succeeded |",
            "| 1 | the job did not succeed |",
            "| 2 | wrong use |",
            "| 3 | there is no such thing |",
            "| 4 | nobody answers |",
            "| 70 | a process ended itself, and its log says why: start it again |",
            "| 124 | the wait ran out |",
            "",
        ]
    )


def api() -> str:
    """The operations, by what they are about."""
    document = asyncio.run(_openapi())
    lines = [
        "# The API\n",
        NOTE,
        "A running API explains itself in full at `/docs` (Swagger UI), `/redoc` and `/openapi.json`. This is the short form.",
    ]
    for tag in document["tags"]:
        lines += [f"\n## {tag['name'].capitalize()}\n", tag["description"]]
        lines += [line for operation in _of(document, tag["name"]) for line in operation]
    return "\n".join(lines) + "\n"


def commands() -> str:
    """The command line."""
    with patch.object(sys, "argv", ["taskflow"]):  # which it takes for the command's name
        text = app.generate_docs(output_format="markdown", recursive=True, include_hidden=False)
    head, _, body = text.partition("\n")
    return f"{head.replace('taskflow', 'The command line')}\n\n{NOTE}{body}"


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "lifecycle.md": lifecycle,
    "reference/errors.md": errors,
    "reference/api.md": api,
    "reference/cli.md": commands,
}


async def _openapi() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        async with opened(Path(directory)) as house:
            document: dict[str, Any] = (await house.http.get("http://here/openapi.json")).json()
            return document


def _of(document: Mapping[str, Any], tag: str) -> Iterator[list[str]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                yield [
                    f"\n### `{method.upper()} {path}`\n",
                    f"{operation['summary']}. {operation['description']}".strip(),
                ]
                yield _parameters(operation)
                answers = ", ".join(status for status in operation["responses"] if status < "500")
                yield [f"\nAnswers: {answers}."]


def _parameters(operation: Mapping[str, Any]) -> list[str]:
    asked = [parameter for parameter in operation["parameters"] if parameter["in"] != "path"]
    if not asked:
        return []
    rows = [f"| `{each['name']}` | {each['in']} | {each['description']} |" for each in asked]
    return ["\n| | in | |", "|---|---|---|", *rows]


if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).parent.mkdir(exist_ok=True)
        (DOCS / name).write_text(page())
