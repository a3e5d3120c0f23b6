"""Every state that one job, one worker process and the sweeps can get into, with a few faults at any moment.

The steps are those of the statements and loops as they are written: what a guard of the product does stands here under
the name of that guard, so that it can be left out to see what it is for. `explore` walks all states breadth first, hence
each trace it tells is a shortest one. Time is not modelled: what a lease, a beat or a retry waits for may happen at any
moment. The deadline of a run, which rescues whatever else fails, is left out lest it hide a hole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

Guard = Literal["standing", "alive", "audit", "draw", "cancel", "token", "unpark"]
GUARDS: Final[dict[Guard, str]] = {
    "standing": "the sweep rescues rows of whoever is not alive, not only of those it has just declared dead",
    "alive": "a claim and a draw demand that the worker's row is alive",
    "audit": "a beat gives back rows that the worker does not run",
    "draw": "a worker asks the table itself",
    "cancel": "whatever takes a row out of running to a live state writes `cancelled` where that was wished",
    "token": "a settlement matches epoch and worker",
    "unpark": "a sweep and a registration bring parked rows back",
}
TICKETS_SEEN: Final = 2
"""More tickets than this do what this many do."""
EPOCHS_MOST: Final = 9
"""More starts than so few faults explain."""


class World(NamedTuple):
    """Job, queue, database, broker and worker process at one moment.

    Attributes:
        job: its state.
        epoch: of its last claim.
        owner: who claimed it last, by incarnation.
        wished: whether a cancel was accepted.
        tickets: in the broker.
        paused: the queue.
        alive: incarnations whose worker rows say so.
        declared: whom a sweep has just declared dead and not rescued yet.
        process: the worker's.
        incarnation: the worker's present id.
        wire: a claim or draw on its way to the database: by whom.
        asking: whether the worker waits for its answer, and with a ticket in hand or without.
        answer: an answer on its way back: the epoch that was claimed.
        runs: the epoch that the worker's one slot runs.
        ended: the epoch whose end it is writing, and `as_` what.
        faults: how many may still happen.
        wrong: what must never happen and did.
    """

    job: str = "queued"
    epoch: int = 0
    owner: int = 0
    wished: bool = False
    tickets: int = 1
    paused: bool = False
    alive: frozenset[int] = frozenset({1})
    declared: int = 0
    process: str = "up"
    incarnation: int = 1
    wire: int = 0
    asking: str = ""
    answer: int = 0
    runs: int = 0
    ended: int = 0
    as_: str = ""
    faults: int = 0
    wrong: str = ""


TERMINAL: Final = frozenset({"succeeded", "cancelled"})
Step = tuple[str, World]
Actor = Callable[[World, Collection[Guard]], Iterator[Step]]


def queued(world: World) -> World:
    """The row may run, and its ticket goes out."""
    return world._replace(job="queued", tickets=min(TICKETS_SEEN, world.tickets + 1))


def given_back(world: World, guards: Collection[Guard]) -> World:
    """Out of running, to run again; a wished cancel wins, in the statement itself."""
    return world._replace(job="cancelled") if world.wished and "cancel" in guards else queued(world)


def claimer(world: World, guards: Collection[Guard]) -> Iterator[Step]:
    """The worker's way to a run: by ticket, or by draw where no ticket is at hand."""
    if world.process != "up":
        return
    free = not (world.asking or world.runs or world.wire)
    if free and world.tickets:
        yield (
            "claim sent",
            world._replace(tickets=world.tickets - 1, asking="with a ticket", wire=world.incarnation),
        )
    elif free and "draw" in guards:
        yield "draw sent", world._replace(asking="without a ticket", wire=world.incarnation)
    if world.answer:
        yield "answer read, handler started", world._replace(runs=world.answer, answer=0, asking="")


def database(world: World, guards: Collection[Guard]) -> Iterator[Step]:
    """A claim or draw arrives: soon, or after its worker has died."""
    if not world.wire:
        return
    arrived = world._replace(wire=0)
    may = world.job == "queued" and not world.paused and ("alive" not in guards or world.wire in world.alive)
    if not may:
        yield "nothing claimed", arrived._replace(asking="")
        return
    wrong = world.wrong
    if world.wished:
        wrong = "started after an accepted cancel"
    elif world.wire not in world.alive:
        wrong = "token for a worker that was declared dead"
    elif world.epoch == EPOCHS_MOST:
        wrong = "starts without end"
    started = arrived._replace(job="running", epoch=world.epoch + 1, owner=world.wire, wrong=wrong)
    yield "claimed", started._replace(answer=started.epoch if world.asking else 0)
    if world.asking and world.faults:
        # The ticket is acked all the same.
        yield "claimed, reply lost", started._replace(asking="", faults=world.faults - 1)


def runner(world: World, _: Collection[Guard]) -> Iterator[Step]:
    """The handler ends; of two ends the first one is written first."""
    if world.process == "up" and world.runs and not world.ended:
        yield "handler returned", world._replace(runs=0, ended=world.runs, as_="succeeded")
        if world.faults:
            yield "handler failed", world._replace(runs=0, ended=world.runs, as_="failed", faults=world.faults - 1)


def settler(world: World, guards: Collection[Guard]) -> Iterator[Step]:
    """Its end is written, again and again until that is answered."""
    if world.process != "up" or not world.ended:
        return
    holds = (world.job, world.epoch) == ("running", world.ended)
    if not (holds or ("token" not in guards and world.job == "running")):
        yield "settlement was made before, or is a zombie's", world._replace(ended=0)
        return
    written = given_back(world, guards)
    if world.as_ == "succeeded":
        written = world._replace(job="succeeded")
    elif world.as_ == "failed" and written.job == "queued":
        written = world._replace(job="retrying")
    if not holds:
        written = written._replace(wrong="settled by a zombie")
    yield "settled", written._replace(ended=0)
    if world.faults:
        yield "settled, reply lost", written._replace(faults=world.faults - 1)


def heart(world: World, guards: Collection[Guard]) -> Iterator[Step]:
    """A beat: refused, the worker fences its run and takes a new id; accepted, it compares what it hears."""
    if world.process != "up":
        return
    me = world.incarnation
    stops = world.runs and not world.ended
    fenced = world._replace(runs=0, ended=world.runs, as_="interrupted") if stops else world
    if me not in world.alive:
        reborn = fenced._replace(incarnation=me + 1, alive=world.alive | {me + 1})
        yield "beat refused: fenced, registered anew", unparked(reborn, guards)
        return
    if "audit" not in guards:
        return
    listed = world.epoch if (world.job, world.owner) == ("running", me) else 0
    if listed and listed not in {world.runs, world.answer, world.ended}:
        yield "beat gives back what does not run", given_back(world, guards)
    if stops and world.runs != listed:
        yield "beat stops a run that is no longer ours", fenced


def sweeper(world: World, guards: Collection[Guard]) -> Iterator[Step]:
    """Who is silent is dead; whose rows nobody runs are rescued; what nobody can run waits."""
    for worker in world.alive:
        if not (worker == world.incarnation and world.process == "up"):
            yield "sweep declares a worker dead", world._replace(alive=world.alive - {worker}, declared=worker)
    orphan = world.job == "running" and world.owner not in world.alive
    if orphan and ("standing" in guards or world.declared == world.owner):
        yield "sweep rescues its row", given_back(world, guards)._replace(declared=0)
    if world.declared and world.faults:
        yield "sweeper killed", world._replace(declared=0, faults=world.faults - 1)
    if world.job == "queued" and not world.alive:
        yield "sweep parks the row", world._replace(job="waiting")
    if world.job == "waiting" and world.alive and "unpark" in guards:
        yield "sweep brings the row back", queued(world)
    if world.job == "retrying":
        yield "promoted", queued(world)


def unparked(world: World, guards: Collection[Guard]) -> World:
    """A registration brings back what waited for it."""
    return queued(world) if world.job == "waiting" and "unpark" in guards else world


def people(world: World, _: Collection[Guard]) -> Iterator[Step]:
    """One cancel at any moment; a paused queue is resumed one day."""
    if not world.wished and world.job not in TERMINAL:
        at_once = world.job if world.job == "running" else "cancelled"
        yield CANCEL, world._replace(wished=True, job=at_once)
    if world.paused:
        yield "queue resumed", world._replace(paused=False)


def machine(world: World, guards: Collection[Guard]) -> Iterator[Step]:
    """What stands still goes on, what is down comes up again."""
    if world.process == "stopped":
        yield "SIGCONT", world._replace(process="up")
    if world.process == "down":
        new = world.incarnation + 1
        yield (
            "worker starts again",
            unparked(world._replace(process="up", incarnation=new, alive=world.alive | {new}), guards),
        )


def faults(world: World, _: Collection[Guard]) -> Iterator[Step]:
    """What goes wrong all by itself."""
    if not world.faults:
        return
    hit = world._replace(faults=world.faults - 1)
    if world.process == "up":
        yield "SIGSTOP", hit._replace(process="stopped")
    if world.process != "down":
        # An unacked ticket returns; a statement that was sent may still arrive.
        back = min(TICKETS_SEEN, world.tickets + (world.asking == "with a ticket"))
        yield "SIGKILL", hit._replace(process="down", tickets=back, asking="", answer=0, runs=0, ended=0)
    if world.tickets:
        yield "tickets purged", hit._replace(tickets=0)
    if not world.paused:
        yield "queue paused", hit._replace(paused=True)
    if world.process == "up" and world.incarnation in world.alive:
        yield (
            "beats lost for a lease",
            hit._replace(alive=world.alive - {world.incarnation}, declared=world.incarnation),
        )


CANCEL: Final = "cancel accepted"
ACTORS: Final[tuple[Actor, ...]] = (
    claimer, database, runner, settler, heart, sweeper, people, machine, faults,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Explored:
    """What a walk found. `stuck` and `wrong` are the shortest traces to a state from which nothing but another fault or
    a cancel leads to an end, and to each thing that must never happen."""

    states: int
    stuck: tuple[str, ...] | None
    wrong: dict[str, tuple[str, ...]]


def explore(most_faults: int, guards: Collection[Guard] = frozenset(GUARDS)) -> Explored:
    """Walk through every reachable state."""
    start = World(faults=most_faults)
    came_from: dict[World, tuple[World, str] | None] = {start: None}
    leads_here: dict[World, list[World]] = {}
    waiting = deque([start])
    while waiting:
        world = waiting.popleft()
        if world.job in TERMINAL or world.wrong:
            continue
        for actor in ACTORS:
            for name, after in actor(world, guards):
                if name != CANCEL and after.faults == world.faults:
                    leads_here.setdefault(after, []).append(world)
                if after not in came_from:
                    came_from[after] = (world, name)
                    waiting.append(after)
    ends = {world for world in came_from if world.job in TERMINAL or world.wrong}
    waiting.extend(ends)
    while waiting:
        for before in leads_here.get(waiting.popleft(), ()):
            if before not in ends:
                ends.add(before)
                waiting.append(before)
    # Insertion order is the order of the walk: the first one found is the nearest.
    stuck = next((world for world in came_from if world not in ends), None)
    wrong: dict[str, tuple[str, ...]] = {}
    for world in came_from:
        if world.wrong and world.wrong not in wrong:
            wrong[world.wrong] = trace(world, came_from)
    return Explored(len(came_from), None if stuck is None else trace(stuck, came_from), wrong)


def trace(world: World, came_from: dict[World, tuple[World, str] | None]) -> tuple[str, ...]:
    """How the walk came here."""
    names: list[str] = []
    while (step := came_from[world]) is not None:
        world, name = step
        names.append(name)
    return tuple(reversed(names))
