"""Pages that are made of the code say what the code says."""

from __future__ import annotations

import pytest

from taskflow.core.lifecycle import TRANSITIONS
from taskflow.roles.api.problems import TITLES
from tests.docs.reference import DOCS, PAGES, WHAT_TO_DO, WHY


@pytest.mark.parametrize("name", PAGES)
def test_it_is_what_the_code_says(name: str) -> None:
    """Made anew: `python -m tests.docs.reference`."""
    assert (DOCS / name).read_text() == PAGES[name]()


def test_each_problem_says_what_to_do() -> None:
    """And none that is there no longer."""
    assert set(WHAT_TO_DO) == set(TITLES)


def test_each_arrow_that_is_explained_is_there() -> None:
    """In the table of transitions."""
    assert all(target in TRANSITIONS[source] for source, target in WHY)
