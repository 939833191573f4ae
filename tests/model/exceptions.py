"""Exceptions: changes that a replica holds ahead of its vector, since it adopted them from a run that was cut off.

Each comes with a point of the history that it belongs to, at or after the change. Wherever a vector would cover the
change, that point has to be in the list of the origin's points; else the vector speaks of another life.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.changes import Change, Dot, Point, branch_name
from model.recording import rename, rename_unreconciled

if TYPE_CHECKING:
    from model.replica import Replica
    from model.world import World


def point_of(world: World, giver: Replica, change: Change) -> Point:
    """Return the point that proves which history a change of the giver belongs to: the least one at or after it."""
    if change.dot in giver.exceptions:
        return giver.exceptions[change.dot]
    if "least" not in world.parts:
        return giver.vector[change.origin]
    later = (point for point in giver.points[change.origin] if point.stamp >= change.stamp)
    return min(later, key=lambda point: point.stamp, default=giver.entry(change.origin))


def knows(world: World, replica: Replica, change: Change, giver: Replica) -> bool:
    """Whether a replica knows a change of another one: its vector covers it, or a proven exception names it."""
    if replica.covers(change):
        return True
    point = replica.exceptions.get(change.dot)
    if point is None or "exceptions-cover" not in world.parts:
        return False
    proven = point == giver.exceptions.get(change.dot) or point in giver.points.get(change.origin, ())
    return proven or "exception-proof" not in world.parts


def prove(world: World, replica: Replica, against: Replica | None = None) -> bool:
    """Prove the exceptions that a vector covers, or rename them; return whether any was renamed.

    The vector is that of the other side, or, where it has just moved, the replica's own: what that covers is no
    exception any more.
    """
    vouching = against or replica
    renamed = False
    for dot, point in list(replica.exceptions.items()):
        origin, stamp = dot
        if vouching.entry(origin).stamp < stamp:
            continue
        if "exception-proof" not in world.parts or point in vouching.points[origin]:
            if against is None:
                del replica.exceptions[dot]
            continue
        renamed = True
        _rename_exception(world, replica, dot, point)
    return renamed


def _rename_exception(world: World, replica: Replica, dot: Dot, point: Point) -> None:
    """Give the change of an exception a name of its own life, as whose exception it stays."""
    origin, stamp = dot
    name = branch_name(origin, point)
    world.counts["exceptions renamed"] += 1
    world.note("exception", origin, stamp, point, name)
    del replica.exceptions[dot]
    if "rename" not in world.parts:
        return
    keys = [key for key, change in replica.log.items() if change.dot == dot]
    for key in keys:
        rename(world, replica, key, name)
    if dot in replica.unreconciled:
        rename_unreconciled(replica, replica.unreconciled[dot][1], name)
    if keys and replica.entry(name).stamp < stamp:
        replica.exceptions[name, stamp] = point
