"""Damage to the index of a storage, and the way out: its values stay, and its index is removed."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from kvsync.testing.simulation.ghosts import NOTHING, Holding
from kvsync.types import ANY

if TYPE_CHECKING:
    from kvsync.storages.contract import Storage
    from kvsync.testing.simulation.events import Damage
    from kvsync.testing.simulation.world import Place, World

__all__ = ["damage", "forget_index", "remember_objects"]

LOG = frozenset({"manifest", "segment", "inventory", "piece"})
DAMAGED = {"flip": LOG, "older": LOG, "remove": LOG, "swap": frozenset({"segment", "inventory"})}
"""Which objects. With the manifest of another storage a storage claims a log that it never had, and only the budget
tells: docs/correctness.md."""


def damage(world: World, event: Damage) -> str:
    """Damage an object; return what was done in words, nothing if there was nothing to damage."""
    place, other = world.places[event.at], world.places[event.other]
    with closing(place.disk.open()) as storage, closing(other.disk.open()) as theirs:
        names = [name for name in storage.objects() if name.partition("/")[0] in DAMAGED[event.way]]
        if not names:
            return ""
        name = names[int(event.which * len(names))]
        done = _damage(world, event, name, storage, theirs)
    if done:
        place.is_damaged = place.was_damaged = True
        if name == "manifest":
            # Nothing may be left that shows it, so this counts as the loss of what only the index told.
            _forget(world, place)
    return f"in {place.name}, {done}" if done else ""


def _damage(world: World, event: Damage, name: str, storage: Storage, theirs: Storage) -> str:
    if event.way == "remove":
        storage.remove([name], ANY)
        return f"{name} is removed"
    there = storage.load(name)
    assert there is not None
    if event.way == "flip":
        storage.store(name, _flipped(there.data, event.where), ANY)
        return f"a bit of {name} flips"
    if event.way == "swap":
        foreign = theirs.load(name)
        if foreign is None or foreign.data == there.data:
            return ""
        storage.store(name, foreign.data, ANY)
        return f"{name} is replaced by that of {world.places[event.other].name}"
    older = world.older.get((event.at, name), [])
    older = [data for data in older if data != there.data]
    if not older:
        return ""
    storage.store(name, older[int(event.where * len(older))], ANY)
    return f"an older copy of {name} is put back"


def _flipped(data: bytes, where: float) -> bytes:
    bit = int(where * len(data) * 8)
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


def remember_objects(world: World, place: Place) -> None:
    """Keep what the index of a place holds now, to be put back later."""
    with closing(place.disk.open()) as storage:
        for name in storage.objects():
            found = storage.load(name)
            copies = world.older.setdefault((place.number, name), [])
            if found is not None and found.data not in copies:
                copies.append(found.data)


def forget_index(world: World, place: Place) -> None:
    """Remove the index of a place: its values are of unknown age from now on, and its deletes are forgotten."""
    with closing(place.disk.open()) as storage:
        storage.remove(storage.objects(), ANY)
    place.is_damaged = False
    _forget(world, place)
    world.count("indexes removed")


def _forget(world: World, place: Place) -> None:
    before = world.held()
    place.holding = Holding(world.heads_of(place.disk.values(), {}, {}))
    for key in place.holding.heads:
        place.holding.hide(key, NOTHING)
    world.ghosts.destroyed(before, world.held())
