"""Random histories: what applications, runs, backups and owners of storages do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from model.changes import ABSENT
from model.commit import ClaimedError
from model.lives import FORGOTTEN
from model.parts import PARTS
from model.replica import Cell
from model.run import commit, run
from model.verdict import verdict
from model.world import Options, World

if TYPE_CHECKING:
    from model.replica import Replica


@dataclass
class History:
    """A history under way.

    Attributes:
        edges: pairs of storages that are synced.
        backups: (number of a storage, copy of it).
    """

    world: World
    keys: list[str]
    edges: list[tuple[int, int]]
    backups: list[tuple[int, Replica]] = field(default_factory=list)


def play(
    seed: int, options: Options, parts: frozenset[str] = PARTS, *, story: bool = False
) -> tuple[World, str | None]:
    """Play the history of a seed; return its world and what was wrong at its end, or None."""
    world = World(seed, options, parts)
    world.story = [] if story else None
    history = _begin(world)
    try:
        for _ in range(world.random.choice([25, 40, 60] if options.dense else [8, 15, 25, 40])):
            _event(history)
        return world, verdict(world)
    except ClaimedError:
        return world, "claimed"


def _begin(world: World) -> History:
    random = world.random
    count = random.choice([2, 3, 3, 4, 5])
    world.replicas = [world.new_replica() for _ in range(count)]
    keys = [f"k{i}" for i in range(random.choice([1, 2, 3, 4]))]
    tree = [(i, random.randrange(i)) for i in range(1, count)]
    more = [(i, j) for i in range(count) for j in range(i) if random.random() < 0.3]
    return History(world, keys, tree + more)


def _event(history: History) -> None:
    world, random = history.world, history.world.random
    world.time += random.choice([0, 1, 1, 2, 10])
    if world.flights and random.random() < 0.3:
        world.land()
    (what,) = random.choices(EVENTS, DENSE if world.options.dense else USUAL)
    what(history, random.randrange(len(world.replicas)))


def _write(history: History, number: int) -> None:
    world, random = history.world, history.world.random
    world.write(world.replicas[number], random.choice(history.keys), deletes=random.random() < 0.35)


def _commit(history: History, number: int) -> None:
    commit(history.world, history.world.replicas[number])


def _run(history: History, _: int) -> None:
    world, random = history.world, history.world.random
    source, target = random.sample(random.choice(history.edges), 2)
    run(world, world.replicas[source], world.replicas[target], world.options.crash)


def _back_up(history: History, number: int) -> None:
    history.backups.append((number, history.world.replicas[number].copy()))
    history.world.note("backup", number)


def _run_clock_ahead(history: History, number: int) -> None:
    world = history.world
    if world.timed and world.random.random() < 0.3:
        world.replicas[number].clock += 50
        world.note("clock runs ahead", number)


def _restore(history: History, _: int) -> None:
    world = history.world
    if world.options.restores and history.backups:
        number, backup = world.random.choice(history.backups)
        if world.happens(world.options.torn):
            backup = _with_later_values(history, number, backup)
        world.note("restore", number)
        world.replace(number, backup)


def _with_later_values(history: History, number: int, backup: Replica) -> Replica:
    """Return a backup whose index was copied first, and whose values only later.

    Of a key that such an index has never heard of nobody can tell that it was deleted meanwhile.
    """
    position = next(i for i, (_, other) in enumerate(history.backups) if other is backup)
    later = [other for other_number, other in history.backups[position:] if other_number == number]
    torn = backup.copy()
    store = history.world.random.choice(later).store
    torn.store = {key: cell for key, cell in store.items() if cell.value or key in torn.log}
    for key in torn.log.keys() - torn.store.keys():
        torn.store[key] = Cell(ABSENT, history.world.ghost.write([], deletes=True, due=False))
    return torn


def _copy(history: History, number: int) -> None:
    world = history.world
    if world.options.restores and len(world.replicas) > 2:
        to = world.random.choice([i for i in range(len(world.replicas)) if i != number])
        world.note("copy", number, to)
        world.replace(to, world.replicas[number])


def _replace_or_forget(history: History, number: int) -> None:
    """Have a new storage take a place, with something in it; or have a peer forgotten."""
    world, random = history.world, history.world.random
    if not world.options.newcomers:
        return
    if random.random() < 0.4:
        world.note("newcomer", number)
        world.replace(number, world.new_replica())
        for key in history.keys:
            if random.random() < 0.5:
                world.write(world.replicas[number], key)
        return
    replica, other = world.replicas[number], random.choice(world.replicas)
    if other.id != replica.id:
        world.note("forget", world.number(other), "by", number)
        replica.gone[other.id] = FORGOTTEN


def _long_life(history: History, _: int) -> None:
    """Have two or three storages be busy while the others are away."""
    world, random = history.world, history.world.random
    first, second = random.choice(history.edges)
    third = random.randrange(len(world.replicas))
    for _ in range(random.choice([3, 8, 20, 40])):
        world.time += 1
        replicas = world.replicas
        world.write(replicas[first], random.choice(history.keys), deletes=random.random() < 0.3)
        if random.random() < 0.5:
            run(world, replicas[first], replicas[second], world.options.crash / 3)
        elif third != second and random.random() < 0.5:
            run(world, replicas[second], replicas[third], world.options.crash / 3)


EVENTS = (_write, _commit, _run, _back_up, _restore, _copy, _replace_or_forget, _long_life, _run_clock_ahead)
USUAL = (34, 6, 32, 10, 7, 3, 2, 4, 2)
DENSE = (30, 20, 24, 9, 12, 4, 2, 0, 2)
"""How often each event happens: long lives between restores, or many restores."""
