"""Places: a storage that is restored again and again goes by one id after another, and nobody waits for former ones."""

from __future__ import annotations

from typing import Any

import pytest
from places import Clock

import kvsync
from kvsync import Delete, Put
from kvsync.replica.log import Log
from kvsync.replica.peers import REPLACED, STRUCK
from kvsync.storages.mapping import MappingStorage

HOUR = 3600.0
Mapping = dict[str, bytes]


class World:
    """Storages by name, all of one clock, and an hour before each run."""

    def __init__(self, *names: str) -> None:
        self.clock = Clock()
        self.values: dict[str, Mapping] = {name: {} for name in names}

    def storage(self, name: str) -> MappingStorage:
        return MappingStorage(self.values[name], name=name)

    def manifest(self, name: str) -> Any:
        return Log.read(self.storage(name), self.clock.environment, dry=True).manifest

    def sync(self, source: str, target: str, *changes: Any) -> kvsync.SyncResult:
        self.clock.sleep(HOUR)
        pair = self.storage(source), self.storage(target)
        return kvsync.sync(*pair, changes, tombstone_grace="1h", environment=self.clock.environment)

    def meet(self, *names: str) -> None:
        """Sync the first storage with each other one, each time with a change, until all know what each of them had."""
        for number in range(3):
            for other in names[1:]:
                self.sync(names[0], other, Put("meeting", b"%d %f" % (number, self.clock.now)))

    def deletes(self) -> dict[str, list[str]]:
        return {name: [c.key for c in kvsync.log(values) if c.deletes] for name, values in self.values.items()}

    def plain(self, name: str) -> Mapping:
        found = self.values[name].items()
        return {key: value for key, value in found if not key.startswith(".kvsync/") and key not in {"meeting", "x"}}


def restored_twice() -> World:
    """Return a hub, a peer, and a storage that was put back twice from the same backup, and met the hub in between."""
    world = World("hub", "peer", "restored")
    world.sync("hub", "restored", *(Put(f"k{number}", b"1") for number in range(4)))
    world.meet("hub", "peer", "restored")
    backup = dict(world.values["restored"])
    for number in range(3):
        world.sync("restored", "hub", Put("its own", b"%d" % number))
        world.values["restored"] = dict(backup)
    world.sync("restored", "hub")
    return world


def test_a_storage_that_was_restored_twice_blocks_no_collection() -> None:
    """Its id between the two restores is in no backup: it could never be met again, and deletes waited for it."""
    world = restored_twice()
    world.meet("hub", "peer", "restored")
    assert len(kvsync.peers(world.storage("hub"))) == 2
    world.sync("hub", "peer", Delete("k0"), Delete("k1"))
    world.meet("hub", "peer", "restored")
    world.meet("hub", "peer", "restored")
    assert world.deletes() == {"hub": [], "peer": [], "restored": []}
    assert world.plain("hub") == world.plain("peer") == world.plain("restored")
    assert {peer.name for peer in kvsync.peers(world.storage("peer"))} == {"hub", "restored"}


def test_a_fresh_id_keeps_the_place() -> None:
    world = World("a", "b")
    world.meet("a", "b")
    place, backup = world.manifest("b").place, dict(world.values["b"])
    assert place not in {0, world.manifest("a").place}
    before = world.manifest("b").replica
    world.sync("b", "a", Put("x", b"1"))
    world.values["b"] = backup
    world.sync("b", "a", Put("x", b"2"))
    assert world.manifest("b").replica != before
    assert world.manifest("b").place == place == world.manifest("a").peers[world.manifest("b").replica].place
    assert world.manifest("a").gone == {before: REPLACED}


def test_the_id_between_two_restores_is_struck_by_whoever_meets_the_next() -> None:
    world = restored_twice()
    hub = world.manifest("hub")
    assert sorted(hub.gone.values()) == [REPLACED, STRUCK, STRUCK]
    assert hub.gone.keys().isdisjoint(hub.peers)
    world.meet("hub", "peer")
    assert world.manifest("peer").gone == hub.gone


@pytest.mark.parametrize("third", [False, True], ids=["they meet", "a third meets both"])
def test_a_copy_that_is_used_beside_its_original_gets_a_place_of_its_own(third: bool) -> None:
    """Else whoever meets one of them would strike the other, for ever."""
    world = World("a", "b", "c")
    world.meet("c", "a", "b")
    world.values["copy"] = dict(world.values["a"])
    for _ in range(4):
        for one in ("a", "copy"):
            world.sync(one, "c" if third else {"a": "copy", "copy": "a"}[one], Put("x", one.encode()))
    ids = {name: world.manifest(name).replica for name in ("a", "copy")}
    assert ids["a"] != ids["copy"]
    assert world.manifest("a").place != world.manifest("copy").place
    world.sync("c", "a", Delete("meeting"))
    for _ in range(4):
        for pair in (("c", "a"), ("c", "copy"), ("c", "b"), ("a", "copy")):
            world.sync(*pair, Put("x", b"%f" % world.clock.now))
    assert ids == {name: world.manifest(name).replica for name in ids}, "all is quiet"
    assert not any(world.deletes().values())
    assert world.plain("a") == world.plain("copy") == world.plain("b") == world.plain("c")


def test_copies_of_different_ids_that_meet_differ_in_their_place_afterwards() -> None:
    """Each took a fresh id from a third storage before they met."""
    world = World("a", "c")
    world.meet("c", "a")
    world.values["copy"] = dict(world.values["a"])
    world.sync("copy", "c", Put("x", b"1"))
    world.sync("a", "c", Put("y", b"1"))
    assert world.manifest("a").place == world.manifest("copy").place
    assert world.manifest("a").replica != world.manifest("copy").replica
    result = world.sync("a", "copy")
    assert world.manifest("a").place != world.manifest("copy").place
    assert result.conflicts == []
    world.meet("a", "copy", "c")
    assert world.plain("a") == world.plain("copy") == world.plain("c")
    assert len({world.manifest(name).replica for name in ("a", "copy", "c")}) == 3
