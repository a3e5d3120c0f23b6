"""Objects that are gone are told; what is deleted is old by the store's clock, named by no row, and surely nobody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from taskflow.flow.doctor import Severity
from taskflow.flow.doctor.objects import objects
from taskflow.ports.artifacts import Listed
from tests.flow.doctor_house import House


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "spool")


@pytest.mark.parametrize("everything", [False, True])
async def test_an_object_that_is_gone(house: House, everything: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of logs and of files; over pages where all are asked for."""
    monkeypatch.setattr("taskflow.flow.doctor.objects.PAGE", 2)
    house.everything = everything
    house.store.logs = [f"ns/logs/{number}" for number in range(5)]
    house.store.files = [(("j1", name), f"ns/artifacts/j1/1-a/{name}") for name in "abc"]
    for key in (*house.store.logs, *(key for _, key in house.store.files)):
        await house.objects.put(key, b"")
    assert await house.told(objects) == []
    await house.objects.delete("ns/logs/0", "ns/artifacts/j1/1-a/a")
    [found] = await house.told(objects)
    assert (found.severity, found.ids) == (Severity.PROBLEM, ["ns/logs/0", "ns/artifacts/j1/1-a/a"])


async def test_old_objects_that_no_row_names_are_deleted(house: House) -> None:
    """Not young ones, not named ones, not others' beside the namespace; and not one that was named since."""
    deep = "ns/artifacts/j1/1-a/artifacts/x/a"
    house.store.logs = ["ns/logs/named"]
    house.store.files = [(("j1", "a"), "ns/artifacts/j1/1-a/a"), (("j1", "artifacts/x/a"), deep)]
    spare = ["ns/logs/old", "ns/artifacts/j1/1-b/a", "ns/artifacts/gone/1-a/a"]
    kept = [deep, "ns/logs/named", "ns/artifacts/j1/1-a/a", "other/logs/old", "nsx/logs/old"]
    await house.objects.aged(*kept, *spare)
    await house.objects.put("ns/logs/young", b"")
    [found] = await house.told(objects)
    assert (found.severity, sorted(found.ids)) == (Severity.WARNING, sorted(spare))
    house.store.logs.append("ns/logs/old")
    assert await house.mended([found]) == ["deleted 2 objects"]
    assert set(house.objects.kept) == {*kept, "ns/logs/young", "ns/logs/old"}


@pytest.mark.parametrize(
    ("unnamed", "old", "young", "deleted"),
    [(10, 0, 0, True), (11, 0, 0, False), (60, 600, 0, True), (61, 600, 0, False), (500, 600, 0, False),
     (11, 0, 600, False)],
)  # fmt: skip
async def test_what_looks_like_somebody_elses_objects_is_not_deleted(
    house: House, unnamed: int, old: int, young: int, deleted: bool
) -> None:
    """A few, or few beside those that rows name, are ours; what is young speaks for nobody."""
    await house.objects.aged(*(f"ns/logs/unnamed-{number}" for number in range(unnamed)))
    house.store.logs = [f"ns/logs/named-{number}" for number in range(old + young)]
    await house.objects.aged(*house.store.logs[:old])
    for key in house.store.logs[old:]:
        await house.objects.put(key, b"")
    [found] = await house.told(objects)
    assert f" and {unnamed - 3} more" in found.what
    assert (found.repair is not None) == deleted
    if not deleted:
        assert f"{unnamed} are too many beside {old} old ones" in found.advice
        assert "another deployment" in found.advice


@pytest.mark.parametrize("ahead", [-2, 0, 2])
async def test_only_the_object_stores_clock_says_what_is_old(house: House, ahead: int) -> None:
    """Not this host's, which may be hours away from it, either way."""
    house.objects.ahead = timedelta(hours=ahead)
    await house.objects.aged("ns/logs/old")
    await house.objects.put("ns/logs/young", b"")
    [found] = await house.told(objects)
    assert found.ids == ["ns/logs/old"]
    assert await house.mended([found]) == ["deleted 1 objects"]
    assert list(house.objects.kept) == ["ns/logs/young"], "nor is anything left behind by asking"


async def test_an_object_that_is_stored_again_meanwhile_is_kept(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """After it was asked for and before it would be deleted."""
    await house.objects.aged("ns/logs/again", "ns/logs/old")
    [found] = await house.told(objects)
    ask = house.store.named

    async def asked(keys: Sequence[str], job_ids: Sequence[str]) -> set[str]:
        named = await ask(keys, job_ids)
        await house.objects.put("ns/logs/again", b"new")
        return named

    monkeypatch.setattr(house.store, "named", asked)
    assert await house.mended([found]) == ["deleted 1 objects"]
    assert house.objects.kept == {"ns/logs/again": b"new"}


async def test_no_more_is_deleted_than_was_told_of(house: House) -> None:
    """Whatever happened to the rows since."""
    house.store.logs = [f"ns/logs/{number}" for number in range(20)]
    await house.objects.aged(*house.store.logs, "ns/logs/a", "ns/logs/b")
    [found] = await house.told(objects)
    assert found.ids == ["ns/logs/a", "ns/logs/b"]
    house.store.logs = []
    assert await house.mended([found]) == ["deleted 2 objects"]


async def test_all_objects_are_looked_at_page_by_page(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, a page of them is in memory, and some of the keys that are told."""
    monkeypatch.setattr("taskflow.flow.doctor.unnamed.PAGE", 4)
    monkeypatch.setattr("taskflow.flow.doctor.unnamed.LISTED", 4)
    monkeypatch.setattr("taskflow.flow.doctor.unnamed.LIMIT", 3)
    house.everything = True
    await house.objects.aged(*(f"ns/logs/{number:03}" for number in range(70)))
    house.store.logs = [f"ns/logs/{number:03}" for number in range(63)]
    held, most = 0, 0
    ask, show = house.store.named, house.objects.listed

    async def asked(keys: Sequence[str], job_ids: Sequence[str]) -> set[str]:
        nonlocal held
        held -= len(keys)
        return await ask(keys, job_ids)

    async def shown(prefix: str) -> AsyncIterator[Listed]:
        nonlocal held, most
        async for each in show(prefix):
            held += 1
            most = max(most, held)
            yield each

    monkeypatch.setattr(house.store, "named", asked)
    monkeypatch.setattr(house.objects, "listed", shown)
    [found] = await house.told(objects)
    assert (held, most) == (0, 4)
    assert (list(found.ids), found.what.endswith("and 4 more")) == ([f"ns/logs/0{n}" for n in (63, 64, 65)], True)
    assert await house.mended([found]) == ["deleted 7 objects"]
    assert sorted(house.objects.kept) == house.store.logs
