"""A run: its steps in their order, each write of which may be the last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.changes import ABSENT
from model.commit import commit_found, commit_given, log_outcomes
from model.delta import Outcome, exchange_of
from model.finalise import Final
from model.lives import compare_lives
from model.policies import Refused
from model.push import intend, plan, push
from model.recovery import recover
from model.world import Cut

if TYPE_CHECKING:
    from model.delta import Exchange
    from model.push import Inbound
    from model.replica import Replica
    from model.world import World

Sides = tuple["Replica", "Replica"]


def run(world: World, source: Replica, target: Replica, crash: float = 0.0) -> bool:
    """Make two replicas equal; return whether anything moved, or may have."""
    world.counts["runs"] += 1
    world.note("run", world.number(source), world.number(target))
    world.plan_cut(crash)
    try:
        return _steps(world, (source, target))
    except Cut:
        world.note("cut")
    except Refused:
        world.counts["refused by policy"] += 1
    finally:
        world.plan_cut(0)
    return True


def commit(world: World, replica: Replica) -> None:
    """Log what was written to one storage."""
    recover(world, replica)
    commit_found(world, [replica])


def _steps(world: World, sides: Sides) -> bool:
    policy = "latest" if world.calm else world.random.choice(world.options.policies)
    moved = _recover(world, sides)
    moved = _compare(world, sides) or moved
    commit_found(world, sides)
    if world.happens(world.options.given):
        commit_given(world, sides[0], _given(world, sides[0]))
    before = tuple(side.state() for side in sides)
    exchange = exchange_of(world, *sides, policy)
    _log_outcomes(world, sides, exchange)
    inbound = plan(world, sides, exchange)
    intend(world, inbound, exchange)
    moved = moved or any(one.planned for one in inbound)
    final = Final(world, inbound, exchange, before, moved=moved)
    _apply(world, inbound, final)
    return final.moved()


def _apply(world: World, inbound: tuple[Inbound, Inbound], final: Final) -> None:
    """Move values and finalise: each side as soon as it has what it gets, or both at the end."""
    first, second = world.random.sample((0, 1), 2)
    early = world.random.random() < 0.3
    push(world, [inbound[first]] if early else list(inbound))
    final.write(first)
    if early:
        push(world, [inbound[second]])
    final.write(second)


def _recover(world: World, sides: Sides) -> bool:
    found = False
    for side in sides:
        found = recover(world, side) or found
        world.step(*sides)
    return found


def _compare(world: World, sides: Sides) -> bool:
    """Compare lives on copies, which are one write a side."""
    source, target = (side.copy() for side in sides)
    changed = compare_lives(world, source, target)
    for side, after in zip(sides, (source, target), strict=True):
        world.step(*sides)
        after.store = side.store
        side.become(after)
    return changed


def _given(world: World, side: Replica) -> dict[str, Outcome]:
    """Return what the caller gives: a value or a delete for some keys."""
    given = {}
    for key in sorted(side.log):
        if world.random.random() < 0.5 and side.found(key) == side.expected(key):
            cell = world.written(side, key, deletes=side.found(key) != ABSENT and world.random.random() < 0.3)
            if cell is not None and cell.value != side.found(key):
                world.ghost.due.discard(cell.write)
                given[key] = Outcome(cell.value, cell.write)
    return given


def _log_outcomes(world: World, sides: Sides, exchange: Exchange) -> None:
    """Log decisions, each on the side that holds its outcome; copies are written first."""
    if exchange.copies:
        clock = max(side.clock for side in sides)
        for side in sides:
            side.clock = max(side.clock, clock)
        copies = {key: outcome for key, outcome in exchange.copies.items() if sides[0].found(key) != outcome.value}
        world.ghost.told.update(outcome.write for outcome in copies.values())
        commit_given(world, sides[0], copies)
        exchange.parts[0].outcomes.update(copies)
    for side, part in zip(sides, exchange.parts, strict=True):
        outcomes = {key: outcome for key, outcome in part.outcomes.items() if key not in exchange.copies}
        if outcomes:
            log_outcomes(world, side, outcomes, max(one.clock for one in sides))
        world.step(*sides)
