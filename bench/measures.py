"""How the way of many jobs through a system is timed."""

from __future__ import annotations

import time
from typing import Final

from bench.load import pace, send
from bench.systems import BATCH, System

STUCK: Final = 120.0
RATE: Final = 100
SECONDS: Final = 12
WARM: Final = 2
"""Seconds of a steady rate that do not count."""


def measure(system: System, jobs: int) -> dict[str, float]:
    """Jobs a second of a system that was just entered: submit, batch and drain."""
    one = system.one()
    system.take()
    send(system.port, one, jobs // 20, accept=202)
    submit = send(system.port, one, jobs, accept=202)
    batch = send(system.port, system.many(), jobs // BATCH, accept=207, connections=4)
    total = jobs // 20 + jobs + jobs // BATCH * BATCH
    system.work()
    until_finished(system, total)
    return {"submit": jobs / submit, "batch": jobs // BATCH * BATCH / batch, "drain": rate_of(system.finishes())}


def rate_of(finishes: list[float]) -> float:
    """Jobs a second without the start and the end of a drain."""
    first, last = round(0.15 * len(finishes)), round(0.98 * len(finishes))
    return (last - first) / (finishes[last] - finishes[first])


def end_to_end(system: System, jobs: int) -> dict[str, float]:
    """Jobs a second of a system that was just entered, with everything in one process."""
    system.both()
    through(system, jobs // 20)
    return {"end to end": through(system, jobs)}


def through(system: System, jobs: int) -> float:
    """Jobs a second of a system that works and has nothing to do, from the first request to the last end."""
    before, begun = system.finished(), time.time()
    send(system.port, system.one(), jobs, accept=202)
    until_finished(system, before + jobs)
    return jobs / (system.finishes()[-1] - begun)


def by_batch(system: System, jobs: int) -> dict[str, float]:
    """The same, by whole batches on a few connections."""
    count = jobs // BATCH
    system.both()
    send(system.port, system.many(), 1, accept=207, connections=1)
    until_finished(system, BATCH)
    begun = time.time()
    send(system.port, system.many(), count, accept=207, connections=4)
    until_finished(system, (count + 1) * BATCH)
    return {"by batch": count * BATCH / (system.finishes()[-1] - begun)}


def steady(system: System, _: int = 0) -> dict[str, float]:
    """Milliseconds from a request to the end of its job, at 100 requests a second: the median, and what 99 % stay below."""

    def now() -> bytes:
        return system.one({"user_id": time.time_ns()})

    system.both()
    pace(system.port, now, RATE, SECONDS, accept=202)
    until_finished(system, RATE * SECONDS)
    took = sorted((at - asked) / 1e6 for asked, at in sorted(system.spans())[RATE * WARM :])
    return {"p50 ms": took[len(took) // 2], "p99 ms": took[len(took) * 99 // 100]}


def until_finished(system: System, count: int) -> None:
    """Wait until so many jobs are; looks seldom, since looking costs the system too."""
    seen, deadline = -1, time.monotonic() + STUCK
    while (now := system.finished()) < count:
        if now > seen:
            seen, deadline = now, time.monotonic() + STUCK
        if time.monotonic() > deadline:
            raise RuntimeError(f"{system.name}: {now} of {count} jobs finished, and no more for {STUCK:.0f} s")
        time.sleep(0.25)
