"""Commit: log what a scan finds, and what the caller gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.changes import Change
from model.exceptions import prove
from model.points import move_tip
from model.recording import log_over_missing, record
from model.recovery import adopt, is_news
from model.replica import Cell, Intended

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from model.delta import Outcome
    from model.replica import Late, Replica
    from model.world import World


class ClaimedError(Exception):
    """A log claims a value of a key at which there never was anything."""


def scan(replica: Replica) -> list[str]:
    """Return the keys at which there is not what was there when the last run ended."""
    return sorted(key for key in {*replica.store, *replica.log} if replica.found(key) != replica.expected(key))


def commit_found(world: World, sides: Sequence[Replica]) -> None:
    """Log what is found on the sides of a run; both are scanned before either is written.

    A key that was changed on both at a time that nobody knows has one stamp on either side.
    """
    found = [_attributed(world, side) for side in sides]
    first = max(world.now(sides[0]), *(side.clock + 1 for side in sides))
    places = {key: first + i for i, key in enumerate(sorted({key for keys in found for key in keys}))}
    for side, keys in zip(sides, found, strict=True):
        if keys:
            _log_found(world, side, {key: places[key] for key in keys})
        world.step(*sides)
    for side, other in zip(sides, reversed(sides), strict=True) if "late-proof" in world.parts else ():
        if side is not other:
            prove(world, side, against=other)


def _log_found(world: World, side: Replica, stamps: Mapping[str, int]) -> None:
    for key, stamp in stamps.items():
        cell = side.store.get(key)
        if cell is None:
            raise ClaimedError(key)
        inexact = not cell.value and world.happens(world.options.inexact)
        log_over_missing(world, side, key)
        record(world, side, key, Change(stamp, side.id, cell.value, cell.write, inexact=inexact))
        side.clock = max(side.clock, stamp)
    move_tip(world, side)


def _attributed(world: World, side: Replica) -> list[str]:
    """Return the keys that an application changed; what a run was late to write is adopted."""
    side.remembered = [late for late in side.remembered if late.until > world.time]
    return [key for key in scan(side) if not _filled_in(world, side, key) and not _landed_late(world, side, key)]


def _filled_in(world: World, side: Replica, key: str) -> bool:
    """Whether a run that was cut off has filled in the value that was missing."""
    entry = side.missing.get(key)
    if entry is None or key not in side.log or side.found(key) != entry.change.value:
        return False
    del side.missing[key]
    record(world, side, key, side.log[key])
    return True


def _landed_late(world: World, side: Replica, key: str) -> bool:
    for late in side.remembered:
        if late.key == key and late.intended.change.value == side.found(key) and _explains(world, side, late):
            world.counts["adopted late"] += 1
            adopt(world, side, key, late.intended)
            prove(world, side)
            return True
    return False


def _explains(world: World, side: Replica, late: Late) -> bool:
    """Whether a late write is that of an intent, and not a change that somebody has made again."""
    change, point = late.intended
    if point is None or not is_news(world, side, late.key, late.intended):
        return False
    return not side.covers(change) or point not in side.points[change.origin]


def commit_given(world: World, side: Replica, outcomes: Mapping[str, Outcome]) -> None:
    """Write values, then log them: the intent first, so that a crash leaves no value that nobody can explain."""
    admitted = {key: outcome for key, outcome in outcomes.items() if side.found(key) == side.expected(key)}
    if not admitted:
        return
    stamp = max(side.clock + 1, world.now(side))
    changes = {key: Change(stamp + i, side.id, *outcome) for i, (key, outcome) in enumerate(sorted(admitted.items()))}
    side.intent = {key: Intended(change, None) for key, change in changes.items()}
    world.step()
    for key, change in changes.items():
        side.store[key] = Cell(change.value, change.write)
        world.ghost.due.add(change.write)
        world.step()
    for key, change in changes.items():
        log_over_missing(world, side, key)
        record(world, side, key, change)
    side.clock = max(change.stamp for change in changes.values())
    side.intent = {}
    move_tip(world, side)
    world.step()


def log_outcomes(world: World, side: Replica, outcomes: Mapping[str, Outcome], clock: int) -> None:
    """Log decisions, and what is logged anew, past both clocks."""
    side.clock = max(side.clock, clock)
    for key, outcome in sorted(outcomes.items()):
        side.clock += 1
        change = Change(side.clock, side.id, *outcome)
        entry = side.missing.get(key)
        if entry is not None and entry.change.value == outcome.value and "missing-restamp" in world.parts:
            side.missing[key] = entry._replace(change=change)
        elif entry is not None:
            log_over_missing(world, side, key)
        record(world, side, key, change)
    move_tip(world, side)
