"""Finalise: one write a side says what it holds and knows from now on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.changes import Change, Dot
from model.collection import collect, merged_floor
from model.delta import has_reconciled
from model.exceptions import prove
from model.lives import FORGOTTEN, strike_same_place, unused_branches
from model.points import thin
from model.pruning import prune
from model.recording import record, rename
from model.replica import Peer

if TYPE_CHECKING:
    from model.changes import Point
    from model.delta import Exchange
    from model.push import Inbound
    from model.replica import Replica, Vector
    from model.world import World

Unreconciled = dict[Dot, tuple[str, Change]]


@dataclass
class Merged:
    """What both sides know from now on."""

    vector: Vector
    points: dict[int, tuple[Point, ...]]
    collected: dict[int, int]
    exceptions: dict[Dot, Point]
    peers: dict[int, Peer]
    gone: dict[int, int]
    graves: set[tuple[str, int]]


def merged(world: World, one: Replica, other: Replica) -> Merged:
    """Merge what two sides know."""
    vector = dict(one.vector)
    for origin, point in other.vector.items():
        if point.stamp > vector.get(origin, point._replace(stamp=-1)).stamp:
            vector[origin] = point
    gone = dict(one.gone)
    for id_, why in other.gone.items():
        gone[id_] = min(why, gone.get(id_, why))
    return Merged(
        vector,
        {origin: _merged_points(world, one, other, origin, point) for origin, point in vector.items()},
        merged_floor(one, other),
        {**one.exceptions, **other.exceptions},
        _merged_peers(world, one, other, gone),
        gone,
        one.graves | other.graves,
    )


def _merged_points(world: World, one: Replica, other: Replica, origin: int, top: Point) -> tuple[Point, ...]:
    ours, theirs = one.points.get(origin, ()), other.points.get(origin, ())
    if "union" in world.parts:
        return tuple(sorted({*ours, *theirs}))
    return ours if one.vector.get(origin) == top else theirs


def _merged_peers(world: World, one: Replica, other: Replica, gone: dict[int, int]) -> dict[int, Peer]:
    peers = dict(one.peers)
    for id_, peer in other.peers.items():
        if id_ not in peers or peers[id_].clock < peer.clock:
            peers[id_] = peer
    retained = "retain" in world.parts
    return {id_: peer for id_, peer in peers.items() if id_ not in gone or (retained and gone[id_] == FORGOTTEN)}


class Final:
    """The last writes of a run, prepared before values move: what both sides will know does not depend on that."""

    def __init__(
        self,
        world: World,
        inbound: tuple[Inbound, Inbound],
        exchange: Exchange,
        before: tuple[object, ...],
        *,
        moved: bool,
    ) -> None:
        self.world = world
        self.inbound = inbound
        self.exchange = exchange
        self.before = before
        self.sides = inbound[0].side, inbound[1].side
        self.clock = max(side.clock for side in self.sides)
        self.known = merged(world, *self.sides)
        self.unreconciled = _unreconciled(world, inbound, exchange)
        self.logs = [_log_after(one, exchange, i) for i, one in enumerate(inbound)]
        self._moved = moved
        self._drop_unused()

    def _drop_unused(self) -> None:
        known = self.known
        if "drop" in self.world.parts:
            used = {change.origin for log in self.logs for change in log.values()}
            for origin in unused_branches(used, set(known.vector)):
                del known.vector[origin], known.points[origin]
        for one in self.inbound if "prune" in self.world.parts else ():
            prune(self.world, one.side, one.giver, known, _used(known, self.logs, self.unreconciled))

    def moved(self) -> bool:
        """Whether anything has changed on either side."""
        return self._moved or self.before != tuple(side.state() for side in self.sides)

    def write(self, i: int) -> None:
        """Write one side."""
        one, dropped = self.inbound[i], self.exchange.parts[i].dropped
        graves = {(key, one.side.log[key].write) for key in dropped}
        _write(self.world, one, self.known, self.logs[i], self.unreconciled[i])
        one.side.clock = self.clock
        one.side.graves |= graves
        if self.moved():
            _acknowledge(self.world, one, self.known)
            collect(self.world, one.side)
        self.world.step(*self.sides)


def _used(known: Merged, logs: list[dict[str, Change]], unreconciled: tuple[Unreconciled, ...]) -> set[int]:
    """Return the origins whose name something bears."""
    used = {change.origin for log in logs for change in log.values()}
    used.update(origin for origin, _ in known.exceptions)
    return used | {origin for entries in unreconciled for origin, _ in entries}


def _log_after(one: Inbound, exchange: Exchange, i: int) -> dict[str, Change]:
    """Return what a side logs at the end of the run."""
    log = dict(one.side.log)
    for key, origin in one.same.items():
        log[key] = log[key]._replace(origin=origin)
    log.update((key, intended.change) for key, intended in one.planned.items())
    for key in exchange.parts[i].dropped:
        del log[key]
    return log


def _write(world: World, one: Inbound, known: Merged, log: dict[str, Change], unreconciled: Unreconciled) -> None:
    side = one.side
    for key, origin in one.same.items():
        rename(world, side, key, origin)
    for key, intended in one.planned.items():
        side.missing.pop(key, None)
        record(world, side, key, intended.change)
    for key in one.backfill.keys() & log.keys():
        side.missing.pop(key, None)
        record(world, side, key, side.log[key])
    side.missing.update(one.failed)
    side.log = dict(log)
    side.unreconciled = dict(unreconciled)
    side.vector, side.points = dict(known.vector), dict(known.points)
    if "merge-floor" in world.parts:
        side.collected = dict(known.collected)
    side.graves = set(known.graves)
    side.intent = {}
    side.exceptions = dict(known.exceptions)
    prove(world, side)


def _acknowledge(world: World, one: Inbound, known: Merged) -> None:
    """Record what the other side knows now, and what it has told of others; thin the points."""
    side, giver = one.side, one.giver
    if "gossip" in world.parts:
        met = {id_ for id_, peer in side.peers.items() if peer.met}
        side.peers = {id_: peer._replace(met=id_ in met) for id_, peer in known.peers.items() if id_ != side.id}
        side.gone = dict(known.gone)
    side.peers[giver.id] = Peer(side.clock, dict(known.vector), met=True, place=giver.place)
    if "place" in world.parts:
        strike_same_place(side, giver)
    side.points = {origin: thin(world, side, origin, points) for origin, points in side.points.items()}


# What stays unreconciled


def _unreconciled(
    world: World, inbound: tuple[Inbound, Inbound], exchange: Exchange
) -> tuple[Unreconciled, Unreconciled]:
    """Return what is unreconciled on each side; what one learns from the other is so there, too."""
    left = [_left(world, one, exchange.parts[i].reconciled) for i, one in enumerate(inbound)]
    ours, theirs = (
        {**left[i], **{dot: entry for dot, entry in left[1 - i].items() if not inbound[i].side.covers(entry[1])}}
        for i in (0, 1)
    )
    return ours, theirs


def _left(world: World, one: Inbound, reconciled: set[Dot]) -> Unreconciled:
    left = {dot: entry for dot, entry in one.side.unreconciled.items() if dot not in reconciled}
    for key, entry in one.side.missing.items():
        intended = one.planned.get(key)
        replaced = intended is not None and intended.change.value != entry.change.value
        if replaced and not has_reconciled(one.giver, entry.change) and "unreconciled" in world.parts:
            left[entry.change.dot] = key, entry.change
    return left
