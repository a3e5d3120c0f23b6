"""Delays: clamped, jittered, never overflowing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.core.durations import seconds
from taskflow.core.ids import is_id, new_id
from taskflow.core.retry import RetryPolicy


def test_delays_grow_to_the_cap() -> None:
    """1, 2, 4 … seconds, an hour at most, half to all of it."""
    policy = RetryPolicy()
    assert [policy.ceiling(n) for n in (1, 2, 3, 12, 13, 1_000)] == [1, 2, 4, 2_048, 3_600, 3_600]
    assert policy.delay(3, lambda: 0.0) == 2
    assert policy.delay(3, lambda: 0.999) == pytest.approx(4, rel=0.01)


@given(
    st.integers(1, 10**9), st.floats(0, 1e6), st.floats(1, 1e6), st.floats(0, 1e9), st.floats(0, 1, exclude_max=True)
)
def test_no_delay_overflows(attempt: int, base: float, factor: float, cap: float, chance: float) -> None:
    """Whatever the attempt and the policy, the delay is between 0 and the cap (the whole kind of a field bug)."""
    assert 0 <= RetryPolicy(base=base, factor=factor, cap=cap).delay(attempt, lambda: chance) <= cap


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"attempts": 1_001},
        {"attempts": True},
        {"factor": 0.5},
        {"factor": float("nan")},
        {"base": -1},
        {"cap": "soon"},
        {"give_up_on": (1,)},
    ],
)
def test_a_wrong_policy_is_refused_where_it_is_written(wrong: dict[str, Any]) -> None:
    """The message names the setting."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RetryPolicy(**wrong)


@pytest.mark.parametrize(
    ("text", "value"), [(30, 30), ("30", 30), ("1h30m", 5_400), ("1.5s", 1.5), ("250ms", 0.25), ("2d", 172_800)]
)
def test_durations(text: float | str, value: float) -> None:
    """Seconds, or units in a row."""
    assert seconds(text) == value


@pytest.mark.parametrize("wrong", ["", "soon", "-1", -1, "1x", "nan", float("inf"), True, "1h 30m"])
def test_what_is_no_duration(wrong: float | str) -> None:
    """Refused with the value."""
    with pytest.raises(ValueError, match="is no duration"):
        seconds(wrong)


def test_ids_are_unique_ordered_and_canonical() -> None:
    """A later millisecond sorts later."""
    ids = [new_id() for _ in range(2_000)]
    assert len(set(ids)) == 2_000
    assert all(is_id(text) and text[14] == "7" for text in ids)
    assert [text[:13] for text in ids] == sorted(text[:13] for text in ids)
    assert not is_id("nope")
