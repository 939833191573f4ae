"""The world of a history: replicas, time, randomness, and what goes wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from model.changes import ABSENT, order, order_by_name
from model.ghost import Ghost
from model.parts import PARTS
from model.replica import Cell, Replica

if TYPE_CHECKING:
    from model.changes import Change
    from model.replica import Intended

CUTS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 20)


@dataclass(frozen=True)
class Options:
    """What may happen in a history; each number is a probability.

    Attributes:
        collect: which tombstones are dropped: those that all have (acked), half of all (eager), or none.
        crash: a run is cut off.
        refuse: a storage refuses a value.
        race: an application writes between two steps of a run.
        late: the last write of a run that was cut off lands later.
        given: changes are given to a run instead of being found by its scan.
        inexact: a scan cannot tell when a delete was made.
        contents: applications write one of so many values to a key; 0: every value is new.
        policies: one of them decides the conflicts of each run.
        restores: storages are restored and copied.
        newcomers: storages are replaced by new ones, and forgotten.
        torn: a backup holds an index that is older than its values.
        dense: many restores and copies, and no long lives between them.
        newest_points: how many of the newest points are always kept.
    """

    collect: str = "acked"
    crash: float = 0.0
    refuse: float = 0.0
    race: float = 0.0
    late: float = 0.0
    given: float = 0.0
    inexact: float = 0.0
    contents: int = 0
    policies: tuple[str, ...] = ("latest",)
    restores: bool = True
    newcomers: bool = True
    torn: float = 0.0
    dense: bool = False
    newest_points: int = 2


def mixed(seed: int) -> Options:
    """Return options in which everything may happen, or not, as the seed says."""
    random = Random(-seed - 1)
    every = ("latest", "source", "target", "keep-both", "fail")
    return Options(
        collect=random.choice(["acked", "acked", "eager"]),
        crash=random.choice([0, 0.3, 0.6]),
        refuse=random.choice([0, 0, 0.15]),
        race=random.choice([0, 0, 0.05]),
        late=random.choice([0, 0.8]),
        given=random.choice([0, 0.4]),
        inexact=random.choice([0, 0.6]),
        contents=random.choice([0, 0, 0, 3]),
        policies=random.choice([("latest",), every, every]),
        dense=random.random() < 0.6,
        torn=random.choice([0, 0, 0.5]),
    )


class Cut(Exception):
    """A run ends here, between two of its writes."""


@dataclass(frozen=True)
class Flight:
    """A write of a run that was cut off, on its way to a storage; it lands unless something else was written there."""

    number: int
    key: str
    was: Cell | None
    change: Change


class World:
    """Everything that a history is played on."""

    def __init__(self, seed: int, options: Options, parts: frozenset[str] = PARTS) -> None:
        self.random = Random(seed)
        self.options = options
        self.parts = parts
        self.timed = self.random.random() < 0.5
        self.time = 1 << 20
        self.replicas: list[Replica] = []
        self.ghost = Ghost()
        self.counts: Counter[str] = Counter()
        self.story: list[tuple[object, ...]] | None = None
        self.flights: list[Flight] = []
        self.calm = False
        self._until_cut: int | None = None

    def note(self, *what: object) -> None:
        """Add to the story, if one is told."""
        if self.story is not None:
            self.story.append(what)

    def number(self, replica: Replica) -> int:
        """Return the position of a replica."""
        return next(i for i, one in enumerate(self.replicas) if one is replica)

    def new_id(self) -> int:
        return self.random.getrandbits(40)

    def new_replica(self) -> Replica:
        """Return a replica that knows nothing."""
        skew = self.random.choice([0, 0, -3, 5]) if self.timed else 0
        return Replica(self.new_id(), place=self.new_id(), skew=skew)

    def happens(self, probability: float) -> bool:
        """Whether something happens that may; nothing does once all is to settle."""
        return bool(probability) and not self.calm and self.random.random() < probability

    def order(self, change: Change) -> tuple[int, int, int]:
        """Sort the changes of a key."""
        return order(change) if "content-order" in self.parts else order_by_name(change)

    def now(self, replica: Replica) -> int:
        """Return the time by a replica's clock; where clocks are stuck, stamps only count."""
        return self.time + replica.skew if self.timed else 0

    # Steps

    def plan_cut(self, probability: float) -> None:
        """Choose whether the run that begins is cut, and where."""
        self._until_cut = self.random.choice(CUTS) if self.happens(probability) else None

    def step(self, *sides: Replica) -> None:
        """Between two writes of a run: it may end here, or an application may write."""
        if sides and self.happens(self.options.race):
            self._race(self.random.choice(sides))
        if self._until_cut is None:
            return
        if self._until_cut == 0:
            self._until_cut = None
            self.counts["crashes"] += 1
            raise Cut
        self._until_cut -= 1

    def _race(self, replica: Replica) -> None:
        """Have an application write while a run is under way.

        It does not delete what that run has just brought where nothing was: if the run is then cut off, nobody can tell
        that from a value that was never brought, and it is brought again. That is a known limit.
        """
        if not replica.log:
            return
        key = self.random.choice(sorted(replica.log))
        cell = replica.store.get(key)
        deletes = self.random.random() < 0.3
        if deletes and not (cell and cell.value and replica.expected(key) and self._is_logged(cell.write)):
            return
        parents = [cell.write] if cell else []
        value = ABSENT if deletes else len(self.ghost.parents) + 1 + self.options.contents
        replica.store[key] = Cell(value, self.ghost.write(parents, deletes=deletes))
        self.note("write meanwhile", self.number(replica), key, replica.store[key])

    def _is_logged(self, write: int) -> bool:
        return any(change.write == write for replica in self.replicas for change in replica.log.values())

    # Applications

    def write(self, replica: Replica, key: str, *, deletes: bool = False) -> None:
        """Have an application write or delete a key; nothing is logged yet."""
        if deletes and not replica.found(key):
            return
        cell = self.written(replica, key, deletes=deletes)
        if cell is not None:
            replica.store[key] = cell
            self.note("write", self.number(replica), key, cell)

    def written(self, replica: Replica, key: str, *, deletes: bool = False) -> Cell | None:
        """Return what an application writes at a key, or None if that is what is there already."""
        cell = replica.store.get(key)
        contents = self.options.contents
        value = ABSENT if deletes else self.random.randint(1, contents) if contents else len(self.ghost.parents) + 1
        if value == replica.found(key):
            return None
        parents = [cell.write] if cell else []
        if not replica.found(key):
            parents += [write for other, write in replica.graves if other == key and write not in parents]
        if value == replica.expected(key):
            # No scan can tell that anything was written: what it stands on was undone.
            return self._undo(replica, key, value, parents)
        return Cell(value, self.ghost.write(parents, deletes=deletes))

    def _undo(self, replica: Replica, key: str, value: int, parents: list[int]) -> Cell | None:
        logged = replica.log.get(key)
        if logged is not None and key not in replica.missing:
            self.ghost.link(logged.write, parents[0])
            return Cell(value, logged.write)
        replica.store[key] = Cell(value, self.ghost.write([], deletes=not value, due=False))
        self.ghost.forget_what_is_gone(self.replicas)
        return None

    # Late writes

    def leave_in_flight(self, replica: Replica, key: str, intended: Intended) -> None:
        """Have the write that a cut run was just doing land later."""
        self.flights.append(Flight(self.number(replica), key, replica.store.get(key), intended.change))

    def land(self) -> None:
        """Land what is in flight, where nothing else was written meanwhile."""
        for flight in self.flights:
            replica = self.replicas[flight.number]
            if replica.store.get(flight.key) is flight.was:
                replica.store[flight.key] = Cell(flight.change.value, flight.change.write)
                self.counts["landed late"] += 1
                self.note("landed", flight.number, flight.key, flight.change)
        self.flights.clear()

    # Restores

    def replace(self, number: int, by: Replica) -> None:
        """Put a copy in the place of a storage: from a backup, or of another one."""
        self.replicas[number] = by.copy()
        self.ghost.forget_what_is_gone(self.replicas)
        self.ghost.expect_all(self.replicas)
