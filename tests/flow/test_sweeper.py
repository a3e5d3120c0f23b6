"""The sweeper: at once again while there is more than one sweep takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from taskflow.flow.publish import Publisher
from taskflow.flow.upkeep import BATCH, Sweeper
from taskflow.ports.store import Swept, Upkeep
from tests.flow.fakes import Followers
from tests.flow.test_promoter import Tickets

PERIOD = 5.0


@dataclass
class Wrong:
    """A store in which so much stands wrong."""

    swept: Swept

    async def sweep(self, gap: float, *, limit: int) -> Swept:
        return self.swept


@pytest.mark.parametrize(
    ("much", "pause"),
    [
        ({}, PERIOD),
        ({"rescued": BATCH - 1, "expired": 1}, PERIOD),
        ({"rescued": BATCH}, 0.0),
        # Several conditions rescue, a batch each.
        ({"rescued": BATCH + 7}, 0.0),
        ({"rescued": 3 * BATCH}, 0.0),
        ({"expired": BATCH}, 0.0),
        ({"parked": BATCH}, 0.0),
        ({"unparked": BATCH}, 0.0),
    ],
)
async def test_a_full_batch_is_followed_by_the_next(much: dict[str, Any], pause: float) -> None:
    """And so is more than one."""
    store = cast("Upkeep", Wrong(Swept(**much)))
    sweeper = Sweeper(store, cast("Publisher", Tickets()), Followers(), period=PERIOD, gap=15.0)
    assert await sweeper.once() == pause
