"""Points: which of them a replica keeps, and what two lists of them prove."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.changes import NO_POINT, Point
from model.exceptions import prove

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from model.replica import Replica
    from model.world import World


def thinned(points: Iterable[Point], newest: int, needed: Collection[Point], spread: int = 2) -> tuple[Point, ...]:
    """Keep the `newest` points, those `needed`, and of the others the fewer the older they are.

    Which ones is decided by their numbers, so that two replicas that thin apart keep points in common.
    """
    ascending = sorted(set(points))
    top = ascending[-1].number
    return tuple(point for point in ascending if _stays(point, top - point.number, newest, needed, spread))


def _stays(point: Point, age: int, newest: int, needed: Collection[Point], spread: int) -> bool:
    if age < newest or point in needed:
        return True
    return point.number % (1 << max(0, (age // spread).bit_length() - 1)) == 0


def thin(world: World, replica: Replica, origin: int, points: Iterable[Point]) -> tuple[Point, ...]:
    """Thin the points of one origin as `replica` does."""
    newest = world.options.newest_points * (4 if origin == replica.id else 1)
    needed: set[Point] = set()
    if "peers" in world.parts:
        needed = {peer.vector[origin] for peer in replica.peers.values() if origin in peer.vector}
    return thinned(points, newest, needed)


def greatest_common(one: Sequence[Point], other: Sequence[Point]) -> Point:
    """Return the greatest point that is in both lists."""
    return max(set(one) & set(other), default=NO_POINT, key=lambda point: point.stamp)


def move_tip(world: World, replica: Replica) -> None:
    """Record that a replica has logged changes of its own: a new point, with a fresh mark."""
    mark = world.random.getrandbits(64) if "marks" in world.parts else 0
    tip = Point(replica.entry(replica.id).number + 1, replica.clock, mark)
    replica.vector[replica.id] = tip
    known = replica.points.get(replica.id, ())
    replica.points[replica.id] = thin(world, replica, replica.id, (*known, tip))
    prove(world, replica)
