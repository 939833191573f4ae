"""Random histories: replicas, pairs, changes, crashes and compaction, all from one seed."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import kvsync
from world import WAIT, Fuse, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsync.types import Conflict

KEYS = "abcdef"
MODES = ("killed", "raises", "lost", "killed-after")
STEPS = 18


def merging(_conflict: Conflict, source: bytes | None, target: bytes | None) -> bytes:
    """Merge two values into one that neither side holds, the same from either side."""
    return b"+".join(sorted(value for value in (source, target) if value is not None))[:64]


POLICIES: tuple[Any, ...] = ("latest", "source", "target", "keep-both", merging)


def steady(world: World) -> None:
    """Let a moment pass."""
    world.now += world.random.choice((0.0, 0.001, 1.0, 30.0))


def backwards(world: World) -> None:
    """Let a moment pass, or one machine's clock step back by up to an hour."""
    steady(world)
    if world.random.random() < 0.3:
        world.replicas[0].skew -= world.random.choice((0.5, 60.0, 600.0))


def play(
    seed: int,
    policies: tuple[Any, ...] = ("latest",),
    skews: Callable[[World], list[float]] | None = None,
    steps: Callable[[World], None] = steady,
    *,
    crashes: float = 0.4,
) -> World:
    """Play one history and settle it; any broken promise raises."""
    world = World(seed, 2 + seed % 5, transactional=True)
    crashing = seed % 2 == 0
    if skews is not None:
        for replica, skew in zip(world.replicas, skews(world), strict=True):
            replica.skew = skew
    chance = world.random
    for _ in range(STEPS):
        steps(world)
        fuse = Fuse(chance.randrange(1, 32), chance.choice(MODES)) if crashing and chance.random() < crashes else Fuse()
        kind = chance.random()
        one, other = chance.sample(world.replicas, 2)
        if kind < 0.45:
            world.change(one, KEYS, chance.randrange(1, 4), fuse)
        elif kind < 0.93:
            world.sync(one, other, fuse, conflict=chance.choice(policies))
        else:
            with world.survives(fuse):
                kvsync.compact(one.wire(fuse), wait_seconds=WAIT, environment=world.environment(one))
            world.check(one)
    world.now += 10_000
    pairs = list(combinations(range(len(world.replicas)), 2))
    # Rounds over every pair: each is a full exchange, so the bound of a mesh (diameter 1) and one for late decisions.
    world.settle(pairs, 2 * len(world.replicas) + 1, lambda: chance.choice(policies))
    world.check_equal()
    quiet(world, pairs)
    return world


def quiet(world: World, pairs: list[tuple[int, int]]) -> None:
    """Predicate 8: once all agree, a run reads one object a side and writes none."""
    for i, j in pairs:
        result = world.sync(world.replicas[i], world.replicas[j])
        for operations in result.operations.values():
            assert operations == {"load": 1}, operations


def ring(seed: int, policies: tuple[Any, ...] = POLICIES) -> None:
    """Let everybody on a ring change the same keys at once, each pair with a policy of its own, and converge."""
    count = 3 + seed % 6
    world = World(seed, count)
    chance = world.random
    for replica in world.replicas:
        world.change(replica, KEYS, 4)
    edges = [(i, (i + 1) % count) for i in range(count)]
    rules = {edge: chance.choice(policies) for edge in edges}
    for _ in range(2 * (count // 2) + 1):
        # Every other pair first: decisions made apart, at the same time, are what must not be decided again.
        for i, j in edges[::2] + edges[1::2]:
            world.sync(world.replicas[i], world.replicas[j], conflict=rules[i, j])
    world.settle(edges, 0)
    world.check_equal()
