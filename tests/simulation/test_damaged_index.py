"""Damage every byte of every index object in turn, and remove every object in turn: each is mended, or told.

After the repair three storages meet. They are equal, and hold what they would hold without the damage. Where they do
not, the key was named, by the repair or as a conflict, and a value that lost is kept.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from variants import amount

import kvsync
from kvsync.index import compaction
from kvsync.index.inventory import Inventory
from kvsync.index.manifest import Manifest
from kvsync.index.objects import INVENTORY, PIECE_PREFIX
from kvsync.native import Segment
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import Fault, FaultyStorage, virtual_environment
from kvsync.testing.faults import Killed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvsync.audit.values import Verification
    from kvsync.environment import Environment

INDEX = ".kvsync/"
HEAD_BYTES = 24
WAIT_SECONDS = 200
START = 1_700_000_000.0


@pytest.fixture(autouse=True)
def _small_inline_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let segments of a few changes be objects of their own."""
    monkeypatch.setattr(compaction, "INLINE_BYTES_MAX", 300)


@dataclass
class World:
    """Three storages; the index of the first one is damaged."""

    a: dict[str, bytes] = field(default_factory=dict)
    b: dict[str, bytes] = field(default_factory=dict)
    c: dict[str, bytes] = field(default_factory=dict)
    now: float = START

    def environment(self) -> Environment:
        return virtual_environment(self.now, seed=int(self.now))

    def sync(self, one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
        """Sync two storages, and return the keys of conflicts."""
        self.now += 100
        result = kvsync.sync(
            one, other, scan=True, max_delete="100%", wait_seconds=WAIT_SECONDS, environment=self.environment()
        )
        return [conflict.key for conflict in result.conflicts]

    def meet(self) -> set[str]:
        """Let all storages meet, and return the keys of conflicts."""
        pairs = [(self.a, self.b), (self.b, self.c), (self.a, self.c), (self.a, self.b)]
        return {key for one, other in pairs for key in self.sync(one, other)}

    def commit(self, *changes: kvsync.Put | kvsync.Delete) -> None:
        self.now += 100
        kvsync.commit(self.a, changes, wait_seconds=WAIT_SECONDS, environment=self.environment())

    def repaired(self) -> Verification:
        self.now += 100
        return kvsync.verify(self.a, repair=True, wait_seconds=WAIT_SECONDS, environment=self.environment())


def values(data: dict[str, bytes]) -> dict[str, bytes]:
    return {key: value for key, value in data.items() if not key.startswith(INDEX)}


def settled() -> World:
    """Three storages that have met, and changes that were made since."""
    world = World()
    world.commit(*(kvsync.Put(f"k{number}", b"%d" % number) for number in range(6)))
    world.meet()
    world.a["k1"], world.b["k1"] = b"one", b"other"
    kvsync.sync(world.a, world.b, scan=True, conflict="target", environment=world.environment())
    world.commit(kvsync.Put("k3", b"unsynced"), kvsync.Delete("k0"))
    world.b["k4"] = b"elsewhere"
    del world.c["k5"]
    name = "unkept/" + "0" * 32
    row = ("k2", 7, 1, 0, 1, bytes(32), 0)
    world.a[INDEX + name] = Segment.from_rows([row]).encode(name)
    return world


def killed() -> World:
    """A run was killed while it wrote values: its lease is held, and its intent is there."""
    for at in range(1, 100):
        world = settled()
        world.b["k6"], world.b["k7"] = b"6", b"7"
        storage = FaultyStorage(MappingStorage(world.a), Fault(at, "killed-after"))
        with pytest.raises(Killed):
            kvsync.sync(world.b, storage, scan=True, environment=world.environment())
        if "k6" in world.a:
            return world
    raise AssertionError


def taken_over() -> World:
    """Another run took the lease over, and remembers what the killed one may still write."""
    world = killed()
    del world.a["k6"]
    world.commit(kvsync.Put("k8", b"8"))
    return world


WORLDS = {"settled": settled, "killed": killed, "taken over": taken_over}


def damages(data: dict[str, bytes], known: dict[str, bytes]) -> Iterator[tuple[str, bytes | None]]:
    """Yield index objects with what takes their place: bytes flipped in turn, cut short, swapped, none.

    In the long variant every byte is flipped, but for those of an object that is `known`, since they were elsewhere.
    In the short one that is every byte of the head, and some of the rest.
    """
    names = [name for name in data if name.startswith(INDEX)]
    for name in names:
        whole = data[name]
        yield name, None
        step = amount(3, 1) if name not in known else 29 if known[name] == whole else 7
        head = 0 if name in known else min(HEAD_BYTES, len(whole))
        for at in (*range(head), *range(head, len(whole), step)):
            yield name, whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        for cut in (0, 1, 23, 24, len(whole) // 2, len(whole) - 1):
            yield name, whole[:cut]
        yield from ((name, data[other]) for other in names if other != name)


def outcome(data: dict[str, bytes], found: Verification) -> tuple[object, ...]:
    """Return what decides how storages go on after a repair: what is logged, remembered and told."""
    logged = [(change.key, change.stamp, change.digest, change.flags) for change in kvsync.log(data)]
    notes = [note.partition(": ")[2] for note in found.notes]
    return (*logged, *notes, *sorted(name for name in data if not name.startswith(f"{INDEX}damaged/")))


def expected(world: World) -> dict[str, bytes]:
    undamaged = copy.deepcopy(world)
    undamaged.meet()
    return values(undamaged.a)


def garbage_of(world: World) -> set[str]:
    """Return the objects that the first storage does not need any more."""
    listed = Manifest.decode(world.a[INDEX + "manifest"], "a").garbage
    inventory = Inventory.decode(world.a[INDEX + INVENTORY], "a")
    pieces = {name for name in world.a if name.startswith(INDEX + PIECE_PREFIX)}
    return {INDEX + name for name in listed} | pieces - {INDEX + entry.name for entry in inventory.stored}


def check_end(world: World, wanted: dict[str, bytes], notes: list[str], what: object) -> None:
    """Let all meet after a repair, and check that nothing is lost without a word."""
    conflicts = world.meet()
    end = values(world.a)
    assert end == values(world.b) == values(world.c), what
    kept = {(value.key, value.value) for data in (world.a, world.b, world.c) for value in kvsync.lost(data)}
    for key in sorted(end.keys() | wanted.keys()):
        if end.get(key) != wanted.get(key):
            assert key in conflicts or any(repr(key) in note for note in notes), (what, key)
            assert key not in wanted or (key, wanted[key]) in kept, (what, key)


@pytest.mark.parametrize("make", WORLDS.values(), ids=WORLDS.keys())
def test_every_damage_is_mended_or_told(make: Callable[[], World]) -> None:
    before = make()
    wanted, garbage = expected(before), garbage_of(before)
    seen: dict[str, set[tuple[object, ...]]] = {}
    for name, data in damages(before.a, {} if make is settled else settled().a):
        world = copy.deepcopy(before)
        if data is None:
            del world.a[name]
        else:
            world.a[name] = data
        what = f"{name} is {'removed' if data is None else data.hex()}"
        found = world.repaired()
        assert found.intact, what
        assert values(world.a) == values(before.a), what
        assert data is None or found.mended or found.findings or name in garbage, what
        if outcome(world.a, found) not in seen.setdefault(name, set()):
            seen[name].add(outcome(world.a, found))
            check_end(world, wanted, found.notes, what)
    assert len(seen) > 5
