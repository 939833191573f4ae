"""Lives: whether the histories of an origin that two replicas know are one, and what to do if that is not proven."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.changes import NO_POINT, Point, branch_name, is_branch
from model.exceptions import prove
from model.points import greatest_common
from model.recording import rename, rename_unreconciled

if TYPE_CHECKING:
    from model.replica import Replica
    from model.world import World

REPLACED, FORGOTTEN, STRUCK = 1, 2, 3
"""Why an id is gone: its replica took another, somebody said so, or another one was met in its place."""


def compare_lives(world: World, source: Replica, target: Replica) -> bool:
    """Make all that the two sides claim true of one history an origin; return whether anything changed."""
    changed = False
    if source.id == target.id and "same-id" in world.parts:
        target.id, target.place = world.new_id(), world.new_id()
        changed = True
    elif source.place == target.place and "place" in world.parts:
        target.place = world.new_id()
    tips = [side.vector.get(side.id) for side in (source, target)]
    for origin in sorted(source.vector.keys() & target.vector.keys()):
        changed = _compare_origin(world, source, target, origin) or changed
    for side, other in ((source, target), (target, source)):
        changed = prove(world, side, against=other) or changed
    for side, other, tip in ((source, target, tips[0]), (target, source, tips[1])):
        if _needs_fresh_id(world, side, other, tip):
            take_fresh_id(world, side, other)
            changed = True
    return changed


def _compare_origin(world: World, source: Replica, target: Replica, origin: int) -> bool:
    """Have the lesser side branch, unless its point is proven to be one of the greater side's history."""
    ours, theirs = source.vector[origin], target.vector[origin]
    if ours == theirs:
        return False
    swapped = (ours.stamp, ours.mark) > (theirs.stamp, theirs.mark)
    lesser, greater = (target, source) if swapped else (source, target)
    point = lesser.vector[origin]
    proven = point in greater.points[origin] if "proof" in world.parts else point.stamp < greater.vector[origin].stamp
    if not proven:
        branch(world, lesser, origin, greatest_common(source.points[origin], target.points[origin]))
    return not proven


def branch(world: World, replica: Replica, origin: int, common: Point) -> None:
    """Rename all that a replica knows of an origin after the common point: that is another life of it."""
    entry = replica.vector[origin]
    name = branch_name(origin, entry) if "hash" in world.parts else branch_name(origin, Point(0, 0, world.new_id()))
    world.counts["branches"] += 1
    world.note("branch", origin, common, entry, name)
    moved = "rename" in world.parts and _rename_after(world, replica, origin, common.stamp, name)
    if moved and entry not in replica.points.get(name, ()):
        replica.vector[name], replica.points[name] = entry, (entry,)
    if "branch-floor" in world.parts:
        _branch_floor(replica, origin, common.stamp, name)
    if "cap" in world.parts:
        _cap(replica, origin, common)


def _rename_after(world: World, replica: Replica, origin: int, stamp: int, name: int) -> int:
    keys = [
        key
        for key, change in replica.log.items()
        if change.origin == origin and change.stamp > stamp and change.dot not in replica.exceptions
    ]
    for key in keys:
        rename(world, replica, key, name)
    if "unreconciled-names" in world.parts:
        for _, change in list(replica.unreconciled.values()):
            if change.origin == origin and change.stamp > stamp and change.dot not in replica.exceptions:
                rename_unreconciled(replica, change, name)
    world.counts["renamed changes"] += len(keys)
    return len(keys)


def _branch_floor(replica: Replica, origin: int, stamp: int, name: int) -> None:
    """Let what was collected after the common point belong to the branch."""
    floor = replica.collected.get(origin, 0)
    if floor <= stamp:
        return
    replica.collected[name] = max(replica.collected.get(name, 0), floor)
    if stamp:
        replica.collected[origin] = stamp
    else:
        del replica.collected[origin]


def _cap(replica: Replica, origin: int, common: Point) -> None:
    if common == NO_POINT:
        del replica.vector[origin], replica.points[origin]
        return
    replica.vector[origin] = common
    replica.points[origin] = tuple(point for point in replica.points[origin] if point.stamp <= common.stamp)


def _needs_fresh_id(world: World, side: Replica, other: Replica, tip: Point | None) -> bool:
    """Whether a side would go on with a life that is not, or may not be, its own."""
    if "fresh-id" not in world.parts:
        return False
    theirs = other.vector.get(side.id)
    if side.vector.get(side.id) != tip or (theirs and (tip is None or theirs.stamp > tip.stamp)):
        return True
    if side.id in side.gone or side.id in other.gone:
        return True
    if "fresh-id-for-exception" not in world.parts:
        return False
    own = side.points.get(side.id, ())
    claimed = {**side.exceptions, **other.exceptions}.items()
    return any(origin == side.id and point not in own for (origin, _), point in claimed)


def take_fresh_id(world: World, side: Replica, other: Replica) -> None:
    """Go on under a new id; the old one is an origin like any other from now on."""
    world.counts["fresh ids"] += 1
    if STRUCK in {side.gone.get(side.id), other.gone.get(side.id)} and "place" in world.parts:
        # Somebody else is alive in this place, so this is a copy.
        side.place = world.new_id()
    if "replaced" in world.parts:
        side.gone[side.id] = REPLACED
        side.peers.pop(side.id, None)
    side.id = world.new_id()


def strike_same_place(side: Replica, met: Replica) -> None:
    """Take other ids in the place of a replica that was met for former ones of it, which a restore has undone."""
    for id_, peer in list(side.peers.items()):
        if id_ not in {met.id, side.id} and peer.place == met.place:
            side.gone.setdefault(id_, STRUCK)
            if side.gone[id_] != FORGOTTEN:
                del side.peers[id_]


def unused_branches(used: set[int], origins: set[int]) -> set[int]:
    """Return those branches among `origins` whose name no change bears that is logged."""
    return {origin for origin in origins if is_branch(origin) and origin not in used}
