"""The beat's answer against what runs here, both ways."""

from __future__ import annotations

from taskflow.flow.reconcile import differences
from taskflow.ports.store import Held


def held(job: str, *, cancel: bool = False, age: float = 100) -> Held:
    return Held(job, 1, cancel_requested=cancel, age=age)


def test_in_step_nothing_is_done() -> None:
    """A run that both know stays."""
    found = differences([held("a")], {("a", 1): 5.0}, (), asked=10.0, patience=10)
    assert (found.cancel, found.lost, found.release) == ([], [], [])


def test_a_row_that_nobody_runs_is_given_back_after_two_beats() -> None:
    """A claim whose reply was lost; a young one may still be on its way."""
    found = differences([held("old"), held("young", age=3)], {}, (), asked=10.0, patience=10)
    assert found.release == [("old", 1)]


def test_a_row_whose_end_is_being_written_is_not_given_back() -> None:
    """Settling counts as holding."""
    assert differences([held("a")], {}, {("a", 1)}, asked=10.0, patience=10).release == []


def test_a_run_that_the_store_does_not_list_is_lost_unless_it_began_after_the_question() -> None:
    """A beat's answer is as old as its question."""
    found = differences([], {("old", 1): 5.0, ("new", 2): 11.0}, (), asked=10.0, patience=10)
    assert found.lost == [("old", 1)]


def test_a_wished_cancel_reaches_the_run() -> None:
    """By the beat at the latest."""
    assert differences([held("a", cancel=True)], {("a", 1): 5.0}, (), asked=10.0, patience=10).cancel == [("a", 1)]
