"""Every store keeps the laws of a job under thousands of orders of everything that can be done to it.

`TASKFLOW_TEST_FULL=1` runs thousands of sequences, new ones each time, instead of the same few.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar, Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.models import stores
from tests.models.lifecycle_machine import LifecycleMachine
from tests.models.stores import House
from tests.support import FULL

STEPS: Final = 50
_WORDS: Final = (
    "succeeded failed cancelled snoozed crashed interrupted lost died rescued isolated zombie repeat wished "
    "duplicate replay promoted expired parked unparked retained in_grace"
)
MET: Final = frozenset(_WORDS.split())
"""What sequences in memory must have come upon, or they prove little."""


@pytest.mark.parametrize(
    ("house", "examples", "in_full"),
    [
        pytest.param(stores.memory, 120, 5_000, id="memory"),
        pytest.param(stores.sqlite, 16, 1_000, id="sqlite", marks=pytest.mark.adapter("sqlite")),
        pytest.param(stores.postgresql, 6, 300, id="postgresql", marks=pytest.mark.adapter("postgresql")),
    ],
)
def test_the_laws_of_a_job_hold(
    tmp_path: Path, house: Callable[[Path], AbstractContextManager[House]], examples: int, in_full: int
) -> None:
    """Whatever happens in whatever order."""
    with house(tmp_path) as opened:

        class Machine(LifecycleMachine):
            twin = house is not stores.memory
            happened: ClassVar[Counter[str]] = Counter()

        Machine.house = opened
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=in_full if FULL else examples,
                stateful_step_count=STEPS,
                derandomize=not FULL,
                # Making a failure short takes minutes.
                phases=(Phase.generate, Phase.shrink) if FULL else (Phase.generate,),
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    if FULL or house is stores.memory:
        assert {name for name in MET if not Machine.happened[name]} == set()
