"""Intend and push: list what each side gets, then write the values, in any order and both ways."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from model.delta import has_reconciled
from model.exceptions import point_of
from model.recording import put
from model.replica import Intended, Missing
from model.world import Cut

if TYPE_CHECKING:
    from model.changes import Change
    from model.delta import Exchange
    from model.replica import Replica
    from model.world import World


@dataclass
class Inbound:
    """What one side gets.

    Attributes:
        side: that side.
        giver: the other side.
        planned: changes that it has to log.
        backfill: changes that it has logged, and whose value the other side has.
        failed: changes of both kinds whose value could not be applied.
        same: changes that it holds under another name, which it takes over.
    """

    side: Replica
    giver: Replica
    planned: dict[str, Intended] = field(default_factory=dict)
    backfill: dict[str, Change] = field(default_factory=dict)
    failed: dict[str, Missing] = field(default_factory=dict)
    same: dict[str, int] = field(default_factory=dict)


def plan(world: World, sides: tuple[Replica, Replica], exchange: Exchange) -> tuple[Inbound, Inbound]:
    """Return what each side gets: by now the greatest change of each key is what wins."""
    source, target = sides
    inbound = Inbound(source, target), Inbound(target, source)
    news = [part.unknown.keys() | part.outcomes.keys() for part in exchange.parts]
    for key in sorted(news[0] | news[1]):
        _plan_key(world, inbound, key, news)
    for one in inbound:
        _keep_held(world, one, exchange)
        one.backfill = {key: entry.change for key, entry in one.side.missing.items() if _may_fill(one, key)}
    return inbound


def _plan_key(world: World, inbound: tuple[Inbound, Inbound], key: str, news: list[set[str]]) -> None:
    ours, theirs = (one.side.log.get(key) for one in inbound)
    for taker, change, other, known in ((inbound[1], ours, theirs, news[0]), (inbound[0], theirs, ours, news[1])):
        if change is not None and key in known and (other is None or world.order(other) < world.order(change)):
            taker.planned[key] = Intended(change, point_of(world, taker.giver, change))
            return
    if ours is None or theirs is None or ours.outcome != theirs.outcome:
        world.counts["beaten sent"] += 1
    elif ours.origin != theirs.origin and "same-name" in world.parts:
        greater = max(ours, theirs, key=world.order).origin
        for one in inbound:
            one.same[key] = greater


def _keep_held(world: World, one: Inbound, exchange: Exchange) -> None:
    """Keep what a change is about to replace that was made in ignorance of it, though no vector shows that.

    It was, where a missing change stands between the two whose value its maker never held: whoever has that value, and
    could make it a conflict, may be gone for good.
    """
    for key, intended in one.planned.items() if "keep-held" in world.parts else ():
        if key in one.side.store and one.side.found(key) != intended.change.value and _is_ignorant(one, key):
            held = one.side.store[key].write
            exchange.told.add(held)
            exchange.beaten.append((intended.change.write, held))
            world.counts["held instead, and kept"] += 1


def _is_ignorant(one: Inbound, key: str) -> bool:
    if key in one.side.missing:
        return not has_reconciled(one.giver, one.side.missing[key].change)
    logged = one.side.log.get(key)
    return logged is not None and any(
        key == other and logged.stamp <= change.stamp for other, change in one.giver.unreconciled.values()
    )


def _may_fill(one: Inbound, key: str) -> bool:
    wanted = one.side.missing[key].change.value
    return key not in one.planned and key not in one.giver.missing and one.giver.found(key) == wanted


def intend(world: World, inbound: tuple[Inbound, Inbound], exchange: Exchange) -> None:
    """Store the intents; they also list what the user is told, so that it is told even if this run ends here."""
    ghost = world.ghost
    ghost.told |= exchange.told
    for winner, loser in exchange.beaten:
        ghost.beaten.setdefault(winner, set()).add(loser)
    for child, parent in exchange.links:
        ghost.link(child, parent)
    for one in inbound:
        one.side.intent = dict(one.planned)
        world.step(one.side, one.giver)


def push(world: World, inbound: list[Inbound]) -> None:
    """Write the values."""
    todo = [(one, key, intended.change) for one in inbound for key, intended in one.planned.items()]
    todo += [(one, key, change) for one in inbound for key, change in one.backfill.items()]
    world.random.shuffle(todo)
    for i, (one, key, change) in enumerate(todo):
        try:
            world.step(one.side, one.giver)
        except Cut:
            _leave_in_flight(world, todo[i:])
            raise
        _apply(world, one, key, change)
    world.step(inbound[0].side, inbound[0].giver)


def _leave_in_flight(world: World, rest: list[tuple[Inbound, str, Change]]) -> None:
    """Have some of what a cut run had still to write be written later."""
    for one, key in [(one, key) for one, key, _ in rest if key in one.planned]:
        there = one.side.found(key)
        admitted = there == one.side.expected(key) and there != one.planned[key].change.value
        if admitted and world.happens(world.options.late):
            world.leave_in_flight(one.side, key, one.planned[key])


def _apply(world: World, one: Inbound, key: str, change: Change) -> None:
    """Write one value, unless it cannot be had, or somebody else wrote at its key, or the storage refuses it."""
    there = one.side.found(key)
    if there == change.value:
        put(world, one.side, key, change)
        return
    lacking = bool(change.value) and (key in one.giver.missing or one.giver.found(key) != change.value)
    edited = there != one.side.expected(key)
    if lacking or edited or world.happens(world.options.refuse):
        world.counts["left missing"] += 1
        one.failed[key] = Missing(change, one.side.expected(key))
    else:
        put(world, one.side, key, change)
