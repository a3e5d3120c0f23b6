"""The draw: how long it sleeps, and when it does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from taskflow.core.job import Claim, Lane, LaneKey, RunsIn
from taskflow.flow.claim import Slots
from taskflow.flow.draw import UNLINKED, Drawer
from taskflow.flow.intake import Intake
from taskflow.ports.store import Claims


class Table:
    """Answers draws with what it was given, once."""

    def __init__(self) -> None:
        self.rows: list[Claim] = []

    async def draw(self, worker: str, lanes: Sequence[LaneKey], *_: Any, **__: Any) -> list[Claim]:
        """All of it."""
        rows, self.rows = self.rows, []
        return rows


def drawer(table: Table, *, linked: bool) -> Drawer:
    """A drawer of an idle worker."""
    return Drawer(
        cast("Claims", table),
        Intake(lambda: None),
        Slots(lambda _: 5),
        worker=lambda: "w",
        tasks=lambda kind: ["t"] if kind is RunsIn.ASYNC else [],
        lanes=lambda: [LaneKey("default", Lane.NORMAL)],
        isolation_free=lambda: True,
        start=lambda _: None,
        linked=lambda: linked,
    )


async def test_it_backs_off_while_it_finds_nothing_and_tickets_could_come() -> None:
    """Idle workers cost the database next to nothing; a find brings the next draw at once."""
    table = Table()
    idle = drawer(table, linked=True)
    assert [await idle.once() for _ in range(4)] == [2, 4, 5, 5]
    table.rows = [cast("Claim", object())]
    assert [await idle.once() for _ in range(3)] == [0, 2, 4]


async def test_without_a_broker_the_table_is_the_queue() -> None:
    """Nobody else says that there is work."""
    assert [await drawer(Table(), linked=False).once() for _ in range(3)] == [UNLINKED] * 3
