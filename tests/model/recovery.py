"""Recovery: adopt what a run that was cut off had applied, and remember what it may still write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.exceptions import prove
from model.points import move_tip
from model.recording import log_over_missing, record
from model.replica import Intended, Late

if TYPE_CHECKING:
    from model.replica import Replica
    from model.world import World

LATE_UNTIL = 600
"""How long a write of a run that lost its lease may take."""


def recover(world: World, replica: Replica) -> bool:
    """Deal with the intent of a run that did not end; return whether there was one."""
    if not replica.intent:
        return False
    world.counts["intents found"] += 1
    if "clock" in world.parts:
        stamps = (intended.change.stamp for intended in replica.intent.values())
        replica.clock = max(replica.clock, *stamps)
    own = False
    for key, intended in replica.intent.items():
        if _was_applied(world, replica, key, intended):
            own = _adopt(world, replica, key, intended) or own
        elif "late" in world.parts and world.options.late:
            replica.remembered.append(Late(key, intended, world.time + LATE_UNTIL))
    replica.intent = {}
    if own:
        move_tip(world, replica)
    prove(world, replica)
    return True


def _was_applied(world: World, replica: Replica, key: str, intended: Intended) -> bool:
    return (
        "adopt" in world.parts
        and replica.found(key) == intended.change.value
        and is_news(world, replica, key, intended)
    )


def is_news(world: World, replica: Replica, key: str, intended: Intended) -> bool:
    """Whether a change beats what is logged of its key."""
    logged = replica.log.get(key)
    return logged is None or world.order(logged) < world.order(intended.change)


def _adopt(world: World, replica: Replica, key: str, intended: Intended) -> bool:
    """Log a change that was applied; return whether it is one of the replica's own."""
    if intended.point is None:
        log_over_missing(world, replica, key)
        record(world, replica, key, intended.change)
        return True
    adopt(world, replica, key, intended)
    return False


def adopt(world: World, replica: Replica, key: str, intended: Intended) -> None:
    """Log a change of another replica that was found applied, as an exception: the vector does not move."""
    assert intended.point is not None
    world.counts["adopted"] += 1
    log_over_missing(world, replica, key)
    record(world, replica, key, intended.change)
    replica.exceptions[intended.change.dot] = intended.point
