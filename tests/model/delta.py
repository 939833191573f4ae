"""What each side misses, which keys are in conflict or in doubt, and what is decided; nothing is written here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from model.changes import ABSENT, Change, Dot
from model.collection import Doubt, doubts, floor_over
from model.exceptions import knows
from model.policies import judge

if TYPE_CHECKING:
    from model.replica import Replica
    from model.world import World


class Outcome(NamedTuple):
    """What a side logs with a fresh stamp: a decision, or something that is logged anew."""

    value: int
    write: int
    decided: bool = False
    inexact: bool = False

    @classmethod
    def of(cls, change: Change, *, decided: bool = False) -> Outcome:
        """Return the outcome of a change that the side holds already."""
        return cls(change.value, change.write, decided, inexact=change.inexact and not decided)


@dataclass
class Part:
    """One side's part in an exchange.

    Attributes:
        unknown: its changes that the other side does not know.
        outcomes: what it logs anew.
        dropped: keys of tombstones that it drops in the end.
        reconciled: its unreconciled changes whose conflict is decided now.
    """

    unknown: dict[str, Change] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    reconciled: set[Dot] = field(default_factory=set)


@dataclass
class Exchange:
    """What two sides are about to do.

    Attributes:
        parts: of the source and of the target.
        copies: losing values that get a key of their own, in the source.
        told: writes that the user hears of.
        beaten: (winner, loser) for each that was told.
        links: (write, other) that turned out to be one outcome.
    """

    parts: tuple[Part, Part] = field(default_factory=lambda: (Part(), Part()))
    copies: dict[str, Outcome] = field(default_factory=dict)
    told: set[int] = field(default_factory=set)
    beaten: list[tuple[int, int]] = field(default_factory=list)
    links: list[tuple[int, int]] = field(default_factory=list)


def exchange_of(world: World, source: Replica, target: Replica, policy: str) -> Exchange:
    """Compare two sides."""
    exchange = Exchange()
    sides = source, target
    floors = floor_over(world, source, target), floor_over(world, target, source)
    full = _damaged(world, source, target, floors)
    for part, side, other in zip(exchange.parts, sides, reversed(sides), strict=True):
        part.unknown = {k: c for k, c in side.log.items() if full or not knows(world, other, c, side)}
        _meet_graves(world, exchange, part, other)
    for i in (0, 1) if any(floors) else ():
        world.counts["below a floor"] += 1
        _find_doubts(world, exchange, sides, i, floors[i])
    for key in _conflicting(world, exchange, source, target):
        _decide(world, exchange, key, sides, policy, full=full)
    return exchange


def _damaged(world: World, source: Replica, target: Replica, floors: tuple[int, int]) -> bool:
    """Whether two sides that claim to know the same hold different values."""
    if "digest" not in world.parts or source.vector != target.vector or any(floors):
        return False
    if source.exceptions or target.exceptions or _values(source) == _values(target):
        return False
    world.counts["digests differed"] += 1
    return True


def _values(side: Replica) -> dict[str, tuple[int, int]]:
    return {key: change.outcome for key, change in side.log.items() if change.value}


def _meet_graves(world: World, exchange: Exchange, part: Part, other: Replica) -> None:
    """(Ghost: a delete meets one that was collected there: both had one outcome.)"""
    for key, change in part.unknown.items():
        if not change.value and key not in other.log:
            exchange.links += [(change.write, write) for write in graves_of(other, key)]


def graves_of(side: Replica, key: str) -> list[int]:
    """Return the writes of the tombstones of a key that were collected on a side."""
    return [write for grave, write in side.graves if grave == key]


# Doubts


def _find_doubts(world: World, exchange: Exchange, sides: tuple[Replica, Replica], i: int, floor: int) -> None:
    if not floor:
        return
    holder, other = sides[i], sides[1 - i]
    for doubt in doubts(holder, other, floor, exchange.parts[i].unknown):
        if not doubt.covered:
            _keep_in_doubt(world, exchange, other, i, doubt)
        elif "covered" in world.parts:
            _delete_covered(world, exchange, sides, i, doubt)


def _keep_in_doubt(world: World, exchange: Exchange, other: Replica, i: int, doubt: Doubt) -> None:
    """Keep what may have been deleted there, and tell it; nobody can know."""
    key, change = doubt.key, doubt.change
    if change.value and "tell" in world.parts:
        world.counts["told in doubt"] += 1
        exchange.told.add(change.write)
        exchange.beaten += [(change.write, write) for write in graves_of(other, key)]
    if doubt.old and "restamp" in world.parts:
        exchange.parts[i].outcomes[key] = Outcome.of(change)


def _delete_covered(world: World, exchange: Exchange, sides: tuple[Replica, Replica], i: int, doubt: Doubt) -> None:
    """Take over a delete that was collected: the other side held the change once."""
    key, change = doubt.key, doubt.change
    holder, other = sides[i], sides[1 - i]
    if change.value:
        world.counts["deleted again"] += 1
        write = world.ghost.write(graves_of(other, key), deletes=True, due=False)
        exchange.parts[1 - i].outcomes[key] = Outcome(ABSENT, write, inexact=True)
    elif "old-tombstone" in world.parts and not (key in holder.missing and "missing-tombstone" in world.parts):
        exchange.parts[i].dropped.add(key)


# Conflicts


def _conflicting(world: World, exchange: Exchange, source: Replica, target: Replica) -> list[str]:
    """Return the keys that both sides changed unknown to each other, ascending."""
    ours, theirs = exchange.parts
    keys = ours.unknown.keys() & theirs.unknown.keys()
    for part, side, other in ((ours, source, target), (theirs, target, source)):
        keys |= _unreconciled_conflicts(part, side, other)
        if "collected-conflict" in world.parts:
            exchange.told |= _collected_conflicts(side, other)
    return sorted(keys)


def has_reconciled(side: Replica, change: Change) -> bool:
    """Whether a change is known on a side, and either its value was held there or its conflict was decided."""
    if any(entry.change.dot == change.dot for entry in side.missing.values()):
        return False
    return side.covers(change) and change.dot not in side.unreconciled


def _unreconciled_conflicts(part: Part, side: Replica, other: Replica) -> set[str]:
    """Return the keys of a conflict that no vector shows: `side` replaced a change that `other` held."""
    keys = set()
    for dot, (key, change) in side.unreconciled.items():
        if has_reconciled(other, change):
            part.reconciled.add(dot)
            if key in side.log and key in other.log and other.log[key].dot == dot:
                keys.add(key)
    return keys


def _collected_conflicts(side: Replica, other: Replica) -> set[int]:
    """Return the deletes that `side` replaced, and that `other` held and collected: what replaced them is later."""
    return {
        change.write
        for key, change in side.unreconciled.values()
        if not change.value and has_reconciled(other, change) and key in side.log and key not in other.log
    }


def _decide(
    world: World, exchange: Exchange, key: str, sides: tuple[Replica, Replica], policy: str, *, full: bool
) -> None:
    """Decide what becomes of a key that both sides changed."""
    changes = sides[0].log[key], sides[1].log[key]
    greater = 0 if world.order(changes[0]) > world.order(changes[1]) else 1
    if _equal(world, *changes):
        exchange.links.append((changes[greater].write, changes[1 - greater].write))
        return
    lacking = any(key in side.missing for side in sides)
    verdict = judge(world, policy, key, changes, greater, lacking=lacking)
    winner, loser = changes[verdict.side], changes[1 - verdict.side]
    _count(world, winner, loser)
    exchange.told.add(loser.write)
    exchange.beaten.append((winner.write, loser.write))
    if verdict.side != greater:
        exchange.parts[verdict.side].outcomes[key] = Outcome.of(winner, decided=True)
    elif full:
        exchange.parts[verdict.side].outcomes[key] = Outcome.of(winner)
    copy = f"{key}~{loser.stamp}-{loser.value}"
    if verdict.copies and not any(copy in side.log and "copy-once" in world.parts for side in sides):
        exchange.copies[copy] = Outcome(loser.value, loser.write, decided=True)


def _equal(world: World, one: Change, other: Change) -> bool:
    return one.value == other.value and (bool(one.value) or "equal" in world.parts)


def _count(world: World, winner: Change, loser: Change) -> None:
    world.counts["conflicts"] += 1
    if world.ghost.related(winner.write, loser.write):
        world.counts["false conflicts"] += 1
        if winner.write in world.ghost.ancestors([loser.write]):
            world.counts["an old value beat its successor"] += 1
