"""Load as many clients make it, over HTTP: submits, looks, lists, cancels and replays, in the shares that the weights say.

    locust -f bench/locustfile.py --host http://127.0.0.1:8000                                     # with a page, on port 8089
    locust -f bench/locustfile.py --host http://127.0.0.1:8000 --headless -u 50 -r 10 -t 60s       # without

A wrong answer is a failure, and so is a job that ends in another state than it must. Both make locust end with 1.
"""

from __future__ import annotations

import json
import random
from argparse import ArgumentParser
from collections import deque
from typing import Any, Final

from locust import HttpUser, between, events, task

KEPT: Final = 100
"""Jobs of its own that a client remembers."""
BATCH: Final = 20
WAIT: Final = 20
"""Seconds that a client waits for the end of a job."""


@events.init_command_line_parser.add_listener
def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--api-key", default="", env_var="LOCUST_API_KEY", help="a bearer key, where the API wants one")
    parser.add_argument("--job", default="demo.echo", env_var="LOCUST_JOB", help="the task of what is submitted")
    parser.add_argument("--payload", default="{}", env_var="LOCUST_PAYLOAD", help="and its payload, a JSON object")


class Client(HttpUser):
    """One that submits and looks at what became of it."""

    wait_time = between(0.05, 0.25)

    def on_start(self) -> None:
        """Begin with one job, so that there is something to look at."""
        options = self.environment.parsed_options
        if options.api_key:
            self.client.headers["Authorization"] = f"Bearer {options.api_key}"
        self._job = {"task": options.job, "payload": json.loads(options.payload)}
        self._mine: deque[str] = deque(maxlen=KEPT)
        self.submit()

    @task(10)
    def submit(self) -> None:
        """One job."""
        self._ask("POST", "/jobs", 202, json=self._job)

    @task(2)
    def submit_batch(self) -> None:
        """Twenty in one request."""
        answer = self._ask("POST", "/jobs/batch", 207, json={"jobs": [self._job] * BATCH})
        for item in answer.get("items", ()):
            self._remember(item.get("job"))

    @task(6)
    def poll(self) -> None:
        """The document of a job."""
        if self._mine:
            self._ask("GET", f"/jobs/{random.choice(self._mine)}", 200, name="/jobs/{id}")

    @task(2)
    def wait(self) -> None:
        """A job from its submit to its end."""
        job = self._ask("POST", "/jobs", 202, json=self._job)
        if "id" in job:
            self._end(job["id"], "succeeded")

    @task(2)
    def list_jobs(self) -> None:
        """A page of what succeeded."""
        self._ask("GET", "/jobs?state=succeeded&limit=50", 200, name="/jobs?state")

    @task(1)
    def cancel(self) -> None:
        """A job that is not due for long."""
        job = self._ask("POST", "/jobs", 202, json={**self._job, "delay": 3_600})
        if "id" in job:
            self._ask("POST", f"/jobs/{job['id']}/cancel", 200, name="/jobs/{id}/cancel")
            self._end(job["id"], "cancelled")

    @task(1)
    def replay(self) -> None:
        """A job that failed, once more."""
        job = self._ask(
            "POST", "/jobs", 202, json={"task": "demo.fail", "payload": {"message": "as asked"}, "max_attempts": 1}
        )
        if "id" in job:
            self._end(job["id"], "failed")
            self._ask("POST", f"/jobs/{job['id']}/replay", 200, name="/jobs/{id}/replay")

    def _end(self, job_id: str, state: str) -> None:
        headers = {"Prefer": f"wait={WAIT}"}
        with self.client.get(
            f"/api/v1/jobs/{job_id}",
            headers=headers,
            name="/jobs/{id} (wait)",
            catch_response=True,
            timeout=WAIT + 10,
        ) as answer:
            if answer.status_code != 200:
                answer.failure(f"{answer.status_code}: {answer.text[:200]}")
            elif (found := answer.json()["state"]) != state:
                answer.failure(f"a job is {found} that had to be {state}")

    def _ask(self, method: str, path: str, wanted: int, *, name: str = "", **more: Any) -> dict[str, Any]:
        """A document, where the answer is the one that was wanted."""
        with self.client.request(
            method, f"/api/v1{path}", name=name or path, catch_response=True, timeout=WAIT + 10, **more
        ) as answer:
            if answer.status_code != wanted:
                answer.failure(f"{answer.status_code}: {(answer.text or '')[:200]}")
                return {}
            document: dict[str, Any] = answer.json()
        self._remember(document)
        return document

    def _remember(self, job: dict[str, Any] | None) -> None:
        if job and "state" in job:
            self._mine.append(job["id"])
