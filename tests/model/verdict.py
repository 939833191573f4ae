"""The end of a history: all replicas meet until nothing moves any more, and the ghost says what went wrong."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from model.run import commit, run

if TYPE_CHECKING:
    from model.replica import Replica
    from model.world import World

ROUNDS_MAX = 12


def verdict(world: World) -> str | None:
    """Let all replicas meet; return what is wrong then, or None."""
    if not settle(world):
        return "never quiet"
    _count_what_is_left(world)
    return _unequal(world.replicas) or _unheld(world.replicas) or _lost(world)


def _count_what_is_left(world: World) -> None:
    """Count what a long life would pile up."""
    alive = {replica.id for replica in world.replicas}
    for replica in world.replicas:
        world.counts["left: origins"] += len(replica.vector)
        world.counts["left: floors"] += len(replica.collected)
        world.counts["left: exceptions"] += len(replica.exceptions)
        world.counts["left: unreconciled"] += len(replica.unreconciled)
        world.counts["left: tombstones"] += sum(not change.value for change in replica.log.values())
        world.counts["left: peers that are no more"] += len(replica.peers.keys() - alive - replica.gone.keys())
        world.counts["left: gone"] += len(replica.gone)


def settle(world: World) -> bool:
    """Let all replicas meet, in any order, until nothing moves; return whether that happened."""
    world.calm = True
    world.land()
    pairs = list(combinations(world.replicas, 2))
    if not pairs:
        commit(world, world.replicas[0])
    for _ in range(ROUNDS_MAX):
        world.random.shuffle(pairs)
        moved = False
        for pair in pairs:
            source, target = world.random.sample(pair, 2)
            moved = run(world, source, target) or moved
        if not moved:
            return True
    return False


def _unequal(replicas: list[Replica]) -> str | None:
    values = [{key: change.value for key, change in replica.log.items() if change.value} for replica in replicas]
    return "diverged" if any(other != values[0] for other in values[1:]) else None


def _unheld(replicas: list[Replica]) -> str | None:
    """Whether a value is claimed that is not there, or is missing though somebody has it."""
    for replica in replicas:
        for key in {*replica.log, *replica.store}:
            if replica.found(key) != replica.expected(key):
                return "claimed"
        for key, entry in replica.missing.items():
            if key not in replica.log or replica.log[key] != entry.change:
                return "misnamed"
            if any(other.holds(key, entry.change) for other in replicas if key in other.log):
                return "not filled in"
    return None


def _lost(world: World) -> str | None:
    lost = world.ghost.lost(world.replicas)
    if lost:
        return "lost delete" if lost <= world.ghost.deletes else "lost write"
    if world.options.contents:
        return None  # a value that was written again looks like one that has come back
    return "revived" if world.ghost.revived(world.replicas) else None
