"""Pruning: forget origins that nobody will use again, once all who count are known to be past them.

Whoever knows a point of a replica's history knows all that the replica knew when it made that point. So a replica notes
when the last change of a dead origin left its log, and waits until all who count know a later point of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.changes import NO_POINT, Point, is_branch
from model.collection import counts

if TYPE_CHECKING:
    from model.finalise import Merged
    from model.replica import Replica
    from model.world import World


def prune(world: World, side: Replica, giver: Replica, known: Merged, used: set[int]) -> None:
    """Drop what is known of dead origins; `used` are those whose name something still bears."""
    origins = known.vector.keys() | known.collected.keys()
    dead = {origin for origin in origins if (is_branch(origin) or origin in known.gone) and origin not in used}
    own = side.entry(side.id)
    side.emptied = {origin: side.emptied.get(origin, own.number) for origin in dead - {side.id, giver.id}}
    acknowledged = _acknowledged(world, side, giver, known)
    for origin, number in side.emptied.items():
        if number < acknowledged.number:
            _forget(side, known, origin, acknowledged)
            world.counts["origins pruned"] += 1


def _acknowledged(world: World, side: Replica, giver: Replica, known: Merged) -> Point:
    """Return the greatest point of a side that all who count know."""
    least = side.entry(side.id)
    for id_, peer in known.peers.items():
        if id_ != giver.id and counts(world, side, id_, peer):
            point = peer.vector.get(side.id, NO_POINT)
            least = min(least, point if point in side.points.get(side.id, ()) else NO_POINT)
    return least


def _forget(side: Replica, known: Merged, origin: int, acknowledged: Point) -> None:
    """Forget an origin. Whoever has seen what was collected of it knows the acknowledged point, too."""
    known.vector.pop(origin, None)
    known.points.pop(origin, None)
    if known.collected.pop(origin, 0):
        known.collected[side.id] = max(known.collected.get(side.id, 0), acknowledged.stamp)
