"""Arithmetic over durations and exponents that overflows before it is clamped, in the very code that handles an error.

Seen in procrastinate#1462: a factor of 5 left datetime's range after some 16 attempts, and the job was gone.
Right: a delay is clamped first, whatever the policy; a job that always fails uses its whole budget and ends as failed.
"""

from __future__ import annotations

import sys
from itertools import count, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskflow.adapters.rabbitmq.calls import pause
from taskflow.core.job import Outcome, State
from taskflow.core.lifecycle import Ending, decide
from taskflow.core.limits import ATTEMPTS_MAX, HORIZON_SECONDS
from taskflow.core.outage import backoff
from taskflow.core.retry import RetryPolicy
from taskflow.ports.store import StateStore
from taskflow.testing.store_facts import T0, at, job, shown, worker
from tests.bug_report import Report
from tests.support import FULL

EXAMPLES = 20_000 if FULL else 200
ATTEMPTS = ATTEMPTS_MAX if FULL else 60
HUGE = sys.float_info.max
EDGES = st.sampled_from([0.0, sys.float_info.min, 1e-300, 1e-9, 1.0, 5.0, 1e9, 1e200, 1e300, HUGE])
FACTORS = st.sampled_from([1.0, 1.0000001, 2.0, 5.0, 1e6, 1e100, 1e154, 1e200, HUGE]) | st.floats(1, HUGE)


def test_no_policy_overflows(report: Report) -> None:
    """Bases and caps from the smallest float to the largest, attempts far beyond any budget."""
    seen = count()

    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(EDGES | st.floats(0, HUGE), FACTORS, EDGES | st.floats(0, HUGE), st.integers(1, 10**300), st.floats(0, 1))
    def holds(base: float, factor: float, cap: float, attempt: int, chance: float) -> None:
        next(seen)
        policy = RetryPolicy(attempts=ATTEMPTS_MAX, base=base, factor=factor, cap=cap)
        for number in (attempt, 1, 2, 3, 4, 53, ATTEMPTS_MAX):
            assert 0 <= policy.delay(number, lambda: chance) <= min(cap, HORIZON_SECONDS)

    holds()
    report("B10", scale=f"{EXAMPLES} policies, attempts to 10**300", faults=next(seen))


def test_what_no_float_holds_is_refused_where_it_is_written(report: Report) -> None:
    """By the one error that such a policy raises, never by the arithmetic behind it."""
    wrong: list[Any] = [10**400, float("inf"), float("nan"), -1, True]
    for name, value in product(("base", "factor", "cap"), wrong):
        with pytest.raises(ValueError, match=name):
            RetryPolicy(**{name: value})
    report("B10", scale="3 settings of a policy", faults=3 * len(wrong))


def test_pauses_of_loops_are_clamped_first(report: Report) -> None:
    """Also after an outage of years."""
    failures = [*range(1, 1_200), 10**6, 10**18, 10**300]
    for number in failures:
        assert 0 < backoff(number) <= 15
        assert 0 < pause(number) <= 3
    report("B10", scale="two infra backoffs, to 10**300 failures", faults=len(failures))


async def test_a_job_that_always_fails_uses_its_budget(store: StateStore, report: Report) -> None:
    """Base 5 s, factor 5 and no cap to speak of: each delay is one that the store can add to its clock."""
    policy = RetryPolicy(attempts=ATTEMPTS, base=5, factor=5, cap=HUGE)
    me, new, now = await worker(store), job(max_attempts=ATTEMPTS), 0.0
    await store.insert([new], now=T0)
    for number in range(1, ATTEMPTS + 1):
        [claim] = await store.claim(me, [new.id], ["t"], now=at(now))
        settled = decide(claim, Ending(outcome=Outcome.FAILED), policy)
        assert (await store.settle([settled], now=at(now)))[0].state == settled.state
        assert claim.attempt == number
        assert settled.state is (State.FAILED if number == ATTEMPTS else State.RETRYING)
        if settled.delay is not None:
            now += settled.delay + 1
            assert len((await store.promote(now=at(now))).tickets) == 1
    end = await shown(store, new.id)
    assert (end.state, end.attempt, end.reason, len(end.attempts)) == ("failed", ATTEMPTS, "attempts_used_up", ATTEMPTS)
    report("B10", scale=f"{ATTEMPTS} attempts of one job", faults=ATTEMPTS)
