"""No moment is a bad one for a fault, and each guard is there for something."""

from __future__ import annotations

from typing import Final

import pytest

from tests.models.lifecycle_check import GUARDS, Guard, explore
from tests.support import FULL

FAULTS: Final = 4 if FULL else 3
NEEDED_BY: Final[dict[Guard, tuple[int, str]]] = {
    "standing": (2, "stuck"),
    "alive": (1, "token for a worker that was declared dead"),
    "audit": (1, "stuck"),
    "draw": (1, "stuck"),
    "cancel": (1, "started after an accepted cancel"),
    "token": (1, "settled by a zombie"),
    "unpark": (1, "stuck"),
}


def test_a_job_comes_to_its_end_from_everywhere() -> None:
    """Nothing that must not happen can, and whatever has gone wrong, what is left leads to an end."""
    explored = explore(FAULTS)
    assert explored.states > 50_000
    assert (explored.stuck, explored.wrong) == (None, {})


@pytest.mark.parametrize("guard", GUARDS)
def test_without_this_guard_it_does_not(guard: Guard) -> None:
    """The check finds what the guard is for, after no more faults than it takes, and tells how it comes about."""
    faults, what = NEEDED_BY[guard]
    others = frozenset(GUARDS) - {guard}
    explored = explore(faults, others)
    found = explored.wrong | ({"stuck": explored.stuck} if explored.stuck else {})
    assert set(found) == {what}
    print(f"without {guard!r} ({GUARDS[guard]}): {what}: {' > '.join(found[what])}")  # noqa: T201 - for `pytest -s`
    fewer = explore(faults - 1, others)
    assert (fewer.stuck, fewer.wrong) == (None, {})
