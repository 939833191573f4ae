"""Collection: when tombstones are dropped, and what is told of those who never saw them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.changes import Change
    from model.replica import Peer, Replica
    from model.world import World


def floor_over(world: World, below: Replica, above: Replica) -> int:
    """Return the greatest stamp of a tombstone collected `above` that `below` may never have seen; 0: there is none."""
    if "floor" not in world.parts:
        return 0
    unseen = (
        stamp
        for origin, stamp in above.collected.items()
        if below.entry(origin).stamp < stamp and below.collected.get(origin, 0) < stamp
    )
    return max(unseen, default=0)


class Doubt(NamedTuple):
    """A change of one side at a key at which the other side, below or above a floor, has nothing.

    Attributes:
        covered: the other side knows the change: so it was deleted there, and that was collected.
        old: the change is not after the newest tombstone that was collected.
    """

    key: str
    change: Change
    covered: bool
    old: bool


def doubts(holder: Replica, other: Replica, floor: int, unknown: dict[str, Change]) -> Iterator[Doubt]:
    """Yield what `holder` has and `other` has nothing for; `unknown` are the changes that `other` does not know."""
    for key, change in holder.log.items():
        if key not in other.log:
            yield Doubt(key, change, key not in unknown, change.stamp <= floor)


def collect(world: World, replica: Replica) -> None:
    """Drop the tombstones that everybody who counts is known to have."""
    if world.options.collect == "none":
        return
    peers = [peer for id_, peer in replica.peers.items() if counts(world, replica, id_, peer)]
    for key, change in list(replica.log.items()):
        if not change.value and _may_go(world, replica, key, change, peers):
            del replica.log[key]
            replica.graves.add((key, change.write))
            replica.collected[change.origin] = max(replica.collected.get(change.origin, 0), change.stamp)
            world.counts["collected"] += 1


def counts(world: World, replica: Replica, id_: int, peer: Peer) -> bool:
    """Whether tombstones and dead origins have to wait for a peer."""
    known = peer.met or "known" in world.parts
    return known and id_ != replica.id and id_ not in replica.gone


def _may_go(world: World, replica: Replica, key: str, change: Change, peers: list[Peer]) -> bool:
    if change.dot in replica.exceptions or not replica.covers(change):
        return False
    if key in replica.missing and "missing-tombstone" in world.parts:
        return False
    if "unreconciled-tombstone" in world.parts and any(key == other for other, _ in replica.unreconciled.values()):
        return False
    if world.options.collect == "eager":
        return world.random.random() < 0.5
    return all(_acknowledged(world, replica, change, peer) for peer in peers)


def _acknowledged(world: World, replica: Replica, change: Change, peer: Peer) -> bool:
    point = peer.vector.get(change.origin)
    if point is None or point.stamp < change.stamp:
        return False
    return point in replica.points[change.origin] or "acknowledged-marks" not in world.parts


def merged_floor(one: Replica, other: Replica) -> dict[int, int]:
    """Return the greatest floor of each origin."""
    floor = dict(one.collected)
    for origin, stamp in other.collected.items():
        floor[origin] = max(floor.get(origin, 0), stamp)
    return floor
