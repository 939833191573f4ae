"""Small worlds of three replicas that have met: a good one, the peer that is forged, and another good one."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import kvsync
from kvsync import Delete, Put
from kvsync.environment import Environment

START_SECONDS = 1_750_000_000.0
KEYS = tuple("abcdefgh")
DAY_SECONDS = 86_400.0


class Clock:
    """A clock that goes on by itself."""

    def __init__(self) -> None:
        self.now = START_SECONDS

    def __call__(self) -> float:
        self.now += 0.25
        return self.now


def environment_of(seed: int) -> Environment:
    """Return time and randomness that depend on the seed alone."""
    clock = Clock()
    return Environment(clock=clock, monotonic=clock, sleep=_skip(clock), random=random.Random(seed))


def _skip(clock: Clock) -> Any:
    def sleep(seconds: float) -> None:
        clock.now += seconds

    return sleep


@dataclass
class World:
    """Three dicts, by name, and what they share.

    Attributes:
        good: the replica that meets the forged one, and must not be harmed by it.
        forged: what a forger rewrites before they meet.
        other: a good replica, which `good` meets afterwards.
    """

    environment: Environment
    good: dict[str, bytes] = field(default_factory=dict)
    forged: dict[str, bytes] = field(default_factory=dict)
    other: dict[str, bytes] = field(default_factory=dict)

    def sync(self, source: dict[str, bytes], target: dict[str, bytes], *changes: Put | Delete, **options: Any) -> Any:
        """Sync two of them."""
        return kvsync.sync(source, target, changes, environment=self.environment, create="both", **options)

    def copy(self) -> World:
        """Return the same world, to be spoilt."""
        clock = Clock()
        clock.now = self.environment.clock()
        chance = random.Random(int(clock.now))
        environment = Environment(clock=clock, monotonic=clock, sleep=_skip(clock), random=chance)
        return World(environment, dict(self.good), dict(self.forged), dict(self.other))


def values_of(replica: dict[str, bytes]) -> dict[str, bytes]:
    """Return what the application sees."""
    return {key: value for key, value in replica.items() if not key.startswith(".kvsync/")}


def index_of(replica: dict[str, bytes]) -> dict[str, bytes]:
    """Return the index objects, but for the lease."""
    names = (key for key in replica if key.startswith(".kvsync/") and key != ".kvsync/lease")
    return {name: replica[name] for name in names}


@cache
def world_of(seed: int) -> World:
    """Return a world with changes, deletes, conflicts, a restored or copied replica, and segments of all sizes."""
    chance = random.Random(seed)
    world = World(environment_of(seed))
    replicas = [world.good, world.forged, world.other]
    backups: list[tuple[int, dict[str, bytes]]] = []
    for step in range(chance.randrange(4, 16)):
        source, target = chance.sample(replicas, 2)
        changes = [_change(chance, step) for _ in range(chance.choice([0, 1, 1, 2, 5]))]
        grace = chance.choice(["30d", 0])
        world.sync(
            source, target, *_by_key(changes), tombstone_grace=grace, conflict=chance.choice(["latest", "target"])
        )
        event = chance.random()
        if event < 0.15:
            at = chance.randrange(3)
            backups.append((at, dict(replicas[at])))
        elif event < 0.25 and backups:
            at, backup = chance.choice(backups)
            replicas[at].clear()
            replicas[at].update(backup)
    if chance.random() < 0.3:
        many = [Put(f"many/{i:04}", b"%d" % i) for i in range(400)]
        world.sync(world.forged, world.good, *many)
    for one, two in ((world.good, world.other), (world.good, world.forged)):
        world.sync(one, two)
    for replica in (world.good, world.forged):
        kvsync.commit(replica, _by_key([_change(chance, 99)]), environment=world.environment)
    return world


def _change(chance: random.Random, step: int) -> Put | Delete:
    key = chance.choice(KEYS)
    return Delete(key) if chance.random() < 0.3 else Put(key, b"%s %d" % (key.encode(), step))


def _by_key(changes: list[Put | Delete]) -> list[Put | Delete]:
    return list({change.key: change for change in changes}.values())
