"""A replica: a storage with its index. A backup or a copy takes all of it along."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import NamedTuple

from model.changes import ABSENT, NO_POINT, Change, Dot, Point

Vector = dict[int, Point]


class Cell(NamedTuple):
    """What is at a key of the storage; `write` is ghost state."""

    value: int
    write: int


class Intended(NamedTuple):
    """A change that a run is about to write, and a point of the giver's history at or after it."""

    change: Change
    point: Point | None


class Late(NamedTuple):
    """An intent of a run that lost its lease and may still write: remembered until a time."""

    key: str
    intended: Intended
    until: int


class Missing(NamedTuple):
    """A change that is logged and whose value is not held; `held` is what is there instead."""

    change: Change
    held: int


class Peer(NamedTuple):
    """What another replica knew when this one heard of it last; `met`: from itself; `place`: where it is."""

    clock: int
    vector: Vector
    met: bool
    place: int = 0


@dataclass(slots=True)
class Replica:
    """One storage with its index.

    Attributes:
        id: under which its own changes are logged.
        place: stays the same when the id changes.
        skew: how far its clock is off.
        clock: the greatest stamp that it has seen.
        store: what is at each key.
        log: the newest change of each key.
        vector: for each origin the point up to which all of its changes are known.
        points: for each origin of the vector some points of its history, ascending, ending in the entry.
        collected: for each origin the greatest stamp of a tombstone that was dropped.
        exceptions: changes held ahead of the vector, each with a point of its history at or after it.
        intent: what the last run was about to write, if it did not end.
        remembered: intents of runs that may still write.
        missing: changes whose value is not held.
        unreconciled: changes that were replaced here by somebody who did not know of them.
        peers: what is known of other replicas.
        gone: ids that nobody will use again.
        emptied: for each dead origin the number of the own commit after which nothing bore its name here.
        graves: ghost state: (key, write) of the tombstones that were dropped.
    """

    id: int
    place: int = 0
    skew: int = 0
    clock: int = 0
    store: dict[str, Cell] = field(default_factory=dict)
    log: dict[str, Change] = field(default_factory=dict)
    vector: Vector = field(default_factory=dict)
    points: dict[int, tuple[Point, ...]] = field(default_factory=dict)
    collected: dict[int, int] = field(default_factory=dict)
    exceptions: dict[Dot, Point] = field(default_factory=dict)
    intent: dict[str, Intended] = field(default_factory=dict)
    remembered: list[Late] = field(default_factory=list)
    missing: dict[str, Missing] = field(default_factory=dict)
    unreconciled: dict[Dot, tuple[str, Change]] = field(default_factory=dict)
    peers: dict[int, Peer] = field(default_factory=dict)
    gone: dict[int, int] = field(default_factory=dict)
    emptied: dict[int, int] = field(default_factory=dict)
    graves: set[tuple[str, int]] = field(default_factory=set)

    def copy(self) -> Replica:
        """Return a copy of all that is stored."""
        other = Replica(self.id)
        other.become(self)
        return other

    def become(self, other: Replica) -> None:
        """Hold what `other` holds."""
        for name in SCALARS:
            setattr(self, name, getattr(other, name))
        for name in CONTAINERS:
            setattr(self, name, getattr(other, name).copy())

    def state(self) -> tuple[object, ...]:
        """Return what a run without any news leaves as it is."""
        parts = self.log, self.vector, self.collected, self.exceptions, self.missing, self.unreconciled
        return tuple(part.copy() for part in parts)

    def entry(self, origin: int) -> Point:
        """Return the point up to which this replica knows an origin."""
        return self.vector.get(origin, NO_POINT)

    def covers(self, change: Change) -> bool:
        """Whether the vector says that a change is known here."""
        return change.stamp <= self.entry(change.origin).stamp

    def found(self, key: str) -> int:
        """Return the value that is at a key."""
        cell = self.store.get(key)
        return cell.value if cell else ABSENT

    def expected(self, key: str) -> int:
        """Return the value that is at a key if nobody wrote behind kvsync's back."""
        if key in self.missing:
            return self.missing[key].held
        change = self.log.get(key)
        return change.value if change else ABSENT

    def holds(self, key: str, change: Change) -> bool:
        """Whether the value of a change that is logged here is there, too."""
        return key not in self.missing and self.found(key) == change.value


SCALARS = ("id", "place", "skew", "clock")
CONTAINERS = tuple(one.name for one in fields(Replica) if one.name not in SCALARS)
