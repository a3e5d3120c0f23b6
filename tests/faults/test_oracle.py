"""The oracle finds each kind of fault, and nothing wrong in a story that holds."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.effects import Effect
from tests.faults.harness.clients import note, purge
from tests.faults.harness.http import Http, Reply
from tests.faults.harness.ledger import Entry, Ledger, Told
from tests.faults.harness.oracle import Account, Row, account

Story = tuple[Ledger, dict[str, list[Effect]], dict[str, list[Row]]]
RAN = [Effect("k0", 1, "S", 1.0), Effect("k0", 1, "E", 2.0)]


def story() -> Story:
    """One job that succeeded in its second epoch, after a crash."""
    ledger = Ledger(entries={"k0": Entry("k0", "work.run", Told.ACCEPTED, "j0")})
    effects = {"k0": [Effect("k0", 1, "S", 1.0), Effect("k0", 2, "S", 5.0), Effect("k0", 2, "E", 6.0)]}
    row = Row("j0", "finished", "succeeded", "k0", 2, '"k0"', None, {1: "crashed", 2: "succeeded"})
    return ledger, effects, {"j0": [row]}


def judged(change: Callable[[Entry, list[Effect], Row, Story], object]) -> Account:
    """The account of that story, changed."""
    told = story()
    ledger, effects, rows = told
    change(ledger.entries["k0"], effects["k0"], rows["j0"][0], told)
    return account(*told)


def test_a_story_that_holds_is_clean() -> None:
    """A run that a crash repeated is counted, and is no fault."""
    found = judged(lambda *_: None)
    assert found.clean, list(found.complaints())
    assert (found.attempted, found.accepted, found.stored, found.runs, found.reruns) == (1, 1, 1, 2, 1)


def change(what: object, **fields: object) -> object:
    """Set fields."""
    for name, value in fields.items():
        setattr(what, name, value)
    return what


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        pytest.param("lost", lambda entry, effects, row, told: (told[2].clear(), effects.clear()), id="nowhere"),
        pytest.param("lost", lambda entry, effects, row, told: effects.pop(), id="success without its effect"),
        pytest.param("lost", lambda entry, effects, row, told: effects.append(effects.pop()._replace(epoch=1)), id="of another epoch"),
        pytest.param("closed_twice", lambda entry, effects, row, told: told[2]["j0"].append(row), id="in two tables"),
        pytest.param("closed_twice", lambda entry, effects, row, told: row.outcomes.update({1: "succeeded"}), id="two successes"),
        pytest.param("closed_twice", lambda entry, effects, row, told: row.outcomes.pop(1), id="an epoch without a record"),
        pytest.param("stuck", lambda entry, effects, row, told: change(row, table="jobs", state="queued"), id="queued"),
        pytest.param("overlapping", lambda entry, effects, row, told: effects.append(Effect("k0", 2, "O", 5.0)), id="overlap"),
        pytest.param("unexpected", lambda entry, effects, row, told: change(row, state="failed", table="jobs", outcomes={1: "crashed", 2: "failed"}), id="failed"),
        pytest.param("unexpected", lambda entry, effects, row, told: change(entry, told=Told.REFUSED), id="refused and there"),
        pytest.param("unexpected", lambda entry, effects, row, told: change(entry, job_id="j1"), id="under another id"),
        pytest.param("unexpected", lambda entry, effects, row, told: effects.insert(0, RAN[0]), id="an epoch started twice"),
        pytest.param("unexpected", lambda entry, effects, row, told: change(entry, cancelled_at=1.0), id="cancelled and done"),
        pytest.param("unexpected", lambda entry, effects, row, told: (change(entry, cancelled_at=4.0), change(row, state="cancelled", outcomes={1: "crashed", 2: "cancelled"})), id="started after a cancel"),
        pytest.param("unexpected", lambda entry, effects, row, told: change(entry, seen={"state": "cancelled", "epoch": 1}), id="was over as something else"),
        pytest.param("unexpected", lambda entry, effects, row, told: told[1].update({"k9": RAN}), id="nobody asked"),
        pytest.param("unexpected", lambda entry, effects, row, told: told[2].update({"j9": [Row("j9", "finished", "succeeded", "k0", 1, None, None, {1: "succeeded"})]}), id="two jobs of one request"),
        pytest.param("unexpected", lambda entry, effects, row, told: change(row, result='"k1"'), id="the result of another"),
        pytest.param("unexpected", lambda entry, effects, row, told: told[0].surprise("500"), id="a surprised client"),
    ],
)  # fmt: skip
def test_each_fault_is_found(kind: str, broken: Callable[[Entry, list[Effect], Row, Story], object]) -> None:
    """Under its name."""
    found = judged(broken)
    assert getattr(found, kind), list(found.complaints())


def test_a_job_that_is_made_again_begins_anew() -> None:
    """Its client asks by its key until it is told, and meanwhile somebody purges it, and the key with it."""

    def made_again(entry: Entry, effects: list[Effect], *_: object) -> None:
        entry.kind, entry.purges = "work.dead", [object()]
        effects.insert(0, RAN[0])
        effects.insert(0, Effect("k0", 5, "S", 0.5))

    found = judged(made_again)
    assert found.clean, list(found.complaints())


def test_a_purge_that_is_refused_takes_no_other_back() -> None:
    """A job may be purged by somebody else while somebody is told that it cannot be: it is not lost then."""
    entry, over = Entry("k0", "work.dead", Told.ACCEPTED, "j0"), threading.Event()

    class Told409(Http):
        def ask(self, *_: object) -> Reply:
            purge(Told200([1], Ledger(), over), entry, "j0")
            return Reply(207, {"items": [{"status": 409}]})

    class Told200(Http):
        def ask(self, *_: object) -> Reply:
            return Reply(207, {"items": [{"status": 200}]})

    purge(Told409([1], Ledger(), over), entry, "j0")
    assert entry.purged


def test_a_key_whose_job_was_purged_may_be_refused() -> None:
    """Only where somebody did purge it; the client is told to send the request again."""
    refusal = {"detail": "the job of this key was deleted just now; send the request again"}
    ledger, entry = Ledger(), Entry("k0", "work.dead")
    note(ledger, entry, 409, refusal)
    assert len(ledger.surprises) == 1
    entry.purges.append(object())
    note(ledger, entry, 409, refusal)
    assert (len(ledger.surprises), entry.told) == (1, Told.UNKNOWN)
