"""Random histories: replicas, pairs, changes, crashes and compaction, all from one seed."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import kvsync
from kvsync.testing import FAULT_MODES, Fault
from kvsync.testing.simulation.machines import WAIT_SECONDS
from kvsync.testing.simulation.wire import ValueFault
from world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsync.types import Conflict
    from world import Replicated

KEYS = "abcdef"
STEPS = 18
SLOW_OFTEN = 0.03
"""How often an operation of a run takes long, so that a lease is renewed."""
SCANNING: dict[str, Any] = {"scan": True, "max_delete": "100%"}
"""A run that finds what was written behind its back; in so small a world any part of the keys may be touched."""


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
    world = World(seed, 2 + seed % 5, transactional=True, marking=True, dying=True)
    crashing = seed % 2 == 0
    if skews is not None:
        for replica, skew in zip(world.replicas, skews(world), strict=True):
            replica.skew = skew
    chance = world.random
    for _ in range(STEPS):
        steps(world)
        fault = (
            Fault(chance.randrange(1, 32), chance.choice(FAULT_MODES))
            if crashing and chance.random() < crashes
            else Fault()
        )
        kind = chance.random()
        one, other = chance.sample(world.replicas, 2)
        if kind < 0.45:
            world.change(one, KEYS, chance.randrange(1, 4), fault)
        elif kind < 0.65:
            given = world.fresh(KEYS, chance.randrange(1, 4))
            world.give(one, other, given, fault, conflict=chance.choice(policies))
        elif kind < 0.93:
            world.sync(one, other, fault, conflict=chance.choice(policies))
        else:
            compact(world, one, fault)
    world.now += 10_000
    pairs = list(combinations(range(len(world.replicas)), 2))
    # Rounds over every pair: each is a full exchange, so the bound of a mesh (diameter 1) and one for late decisions.
    world.settle(pairs, 2 * len(world.replicas) + 1, lambda: chance.choice(policies))
    world.check_equal()
    world.check_kept()
    quiet(world, pairs)
    return world


def edited(seed: int, policies: tuple[Any, ...] = POLICIES) -> World:
    """Play a history in which applications write straight into the storages, also during a run, and runs look for it.

    A run that scans protects what the application writes at any moment of it, by conditions. So does one with
    guard="check", which writes on condition of what it looked at. A write of a run that was cut off may land between
    two others, and a scan finds it soon. Some storages tell when a value was written.
    """
    world = World(seed, 2 + seed % 4, transactional=True, marking=True, dying=True, dated=True)
    crashing = seed % 2 == 0
    chance = world.random
    for _ in range(STEPS):
        steady(world)
        for replica in world.land() if chance.random() < 0.5 else ():
            world.sync(replica, chance.choice([each for each in world.replicas if each is not replica]), **SCANNING)
        fault = broken(world) if crashing and chance.random() < 0.5 else Fault()
        kind = chance.random()
        one, other = chance.sample(world.replicas, 2)
        if kind < 0.3:
            world.edit(one, KEYS, chance.randrange(1, 4))
        elif kind < 0.4:
            world.change(one, KEYS, chance.randrange(1, 3), fault)
        elif kind < 0.85:
            fault.before = partial(meddle, world, (one, other), chance.choice((0.0, 0.03, 0.1)))
            given = world.fresh(KEYS, chance.choice((0, 0, 1, 3)))
            world.give(one, other, given, fault, conflict=chance.choice(policies), **SCANNING)
        elif kind < 0.95:
            fault.before = partial(meddle, world, (one, other), chance.choice((0.0, 0.03, 0.1)))
            world.sync(one, other, fault, conflict=chance.choice(policies), guard="check")
        else:
            compact(world, one, fault)
    world.now += 10_000
    pairs = list(combinations(range(len(world.replicas)), 2))
    world.settle(pairs, 2 * len(world.replicas) + 1, lambda: chance.choice(policies), **SCANNING)
    world.check_equal()
    world.check_kept()
    quiet(world, pairs)
    return world


def broken(world: World) -> Fault:
    """Return a fault at any operation, or one that kills the run at one of its first values."""
    if world.random.random() < 0.3:
        return ValueFault(mode="killed", left=world.random.randrange(1, 4))
    return Fault(world.random.randrange(1, 40), world.random.choice(FAULT_MODES))


def meddle(world: World, where: tuple[Replicated, ...], often: float, _operation: int) -> None:
    """Let an application write, or time pass, in between two operations of a run."""
    if world.random.random() < often:
        world.edit(world.random.choice(where), KEYS, 1)
    if world.random.random() < SLOW_OFTEN:
        world.now += world.random.choice((5.0, 25.0))


def compact(world: World, at: Replicated, fault: Fault) -> None:
    environment = world.environment(at)
    with world.survives(fault, environment):
        kvsync.compact(at.wire(fault), wait_seconds=WAIT_SECONDS, environment=environment)
    world.check(at)


def quiet(world: World, pairs: list[tuple[int, int]]) -> None:
    """Predicate 8: once all agree, a run reads one object a side and writes none."""
    for i, j in pairs:
        one, other = world.replicas[i], world.replicas[j]
        before = dict(one.data), dict(other.data)
        result = world.sync(one, other)
        assert (one.data, other.data) == before
        for operations in result.operations.values():
            assert operations == {"load": 1}, operations


def ring(seed: int, policies: tuple[Any, ...] = POLICIES) -> None:
    """Let everybody on a ring change the same keys at once, each pair with a policy of its own, and converge."""
    count = 3 + seed % 6
    world = World(seed, count, marking=True)
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
