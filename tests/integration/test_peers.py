"""Peers: which of them deletes wait for, and what becomes of one that is forgotten."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any, Literal

import pytest
from places import Clock

import kvsync
from kvsync import Delete, Put
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import CountingStorage
from kvsync.testing.faults import Fault, FaultyStorage, Killed

DAY = 86_400.0
GRACE = "1d"
Mapping = dict[str, bytes]


class World:
    """Storages by name, all of one clock, and a day before each run."""

    def __init__(self, *names: str) -> None:
        self.clock = Clock()
        self.values: dict[str, Mapping] = {name: {} for name in names}

    def storage(self, name: str) -> MappingStorage:
        return MappingStorage(self.values[name], name=name)

    def sync(
        self, source: str, target: str, *changes: Any, guard: Literal["none", "check"] = "none"
    ) -> kvsync.SyncResult:
        self.clock.sleep(DAY)
        return kvsync.sync(
            self.storage(source),
            self.storage(target),
            changes,
            guard=guard,
            tombstone_grace=GRACE,
            environment=self.clock.environment,
        )

    def scan(self, source: str, target: str) -> kvsync.SyncResult:
        self.clock.sleep(DAY)
        environment = self.clock.environment
        return kvsync.sync(self.storage(source), self.storage(target), scan=True, environment=environment)

    def meet(self, source: str, target: str) -> None:
        """Sync twice, each time with a change, so that each knows what the other knew of all before."""
        for number in range(2):
            self.sync(source, target, Put("meeting", b"%d %f" % (number, self.clock.now)))

    def held_back(self, name: str) -> dict[str, tuple[int, int]]:
        found = kvsync.peers(self.storage(name), tombstone_grace=GRACE, clock=self.clock)
        return {peer.name: (peer.holds_back, peer.alone) for peer in found if not peer.forgotten}

    def deletes(self, name: str) -> list[str]:
        return sorted(change.key for change in kvsync.log(self.values[name]) if change.deletes)

    def plain(self, name: str) -> Mapping:
        found = self.values[name].items()
        return {key: value for key, value in found if not key.startswith(".kvsync/") and key != "meeting"}

    def forget(self, name: str, peer: str) -> str:
        return kvsync.forget(self.storage(name), peer, environment=self.clock.environment)


def away() -> World:
    """Return a, b, c and d, where c and d are away while a and b delete: 2 keys that d knows of, and 3 more."""
    world = World("a", "b", "c", "d")
    world.sync("a", "b", *(Put(f"k{number}", b"1") for number in range(8)))
    for other in ("c", "d", "b"):
        world.meet("a", other)
    world.sync("a", "b", *(Delete(f"k{number}") for number in range(2)))
    world.meet("a", "d")
    world.meet("a", "b")
    world.sync("a", "b", *(Delete(f"k{number}") for number in range(2, 5)))
    world.meet("a", "b")
    return world


def test_each_peer_holds_back_the_deletes_that_it_is_not_known_to_have() -> None:
    world = away()
    assert world.deletes("a") == ["k0", "k1", "k2", "k3", "k4"]
    assert world.held_back("a") == {"b": (0, 0), "d": (3, 0), "c": (5, 2)}
    waiting = kvsync.status(world.storage("a"), tombstone_grace=GRACE, clock=world.clock).held_back_by
    assert [(peer.name, peer.holds_back) for peer in waiting] == [("c", 5), ("d", 3)]


def test_what_is_younger_than_the_grace_waits_for_nobody() -> None:
    world = away()
    peers = kvsync.peers(world.storage("a"), tombstone_grace="30d", clock=world.clock)
    assert {peer.holds_back for peer in peers} == {0}


def test_the_log_is_read_only_where_somebody_holds_something_back() -> None:
    world = World("a", "b", "c")
    world.sync("a", "b", *(Put(f"k{number}", b"1") for number in range(1000)))
    world.meet("a", "c")
    world.meet("a", "b")
    world.sync("a", "b", Delete("k0"))
    world.meet("a", "b")
    storage = CountingStorage(world.storage("a"))
    assert kvsync.peers(storage, tombstone_grace="365d", clock=world.clock)[0].holds_back == 0
    assert storage.operations["load"] == 1
    assert {peer.name: peer.alone for peer in kvsync.peers(storage, tombstone_grace=GRACE, clock=world.clock)} == {
        "b": 0,
        "c": 1,
    }
    assert storage.operations["load"] > 2


def test_a_peer_was_seen_when_it_was_met() -> None:
    world = World("a", "b", "c")
    world.meet("a", "b")
    then = world.clock.now
    world.meet("a", "c")
    assert [peer.name for peer in kvsync.peers(world.storage("a"))] == ["c", "b"]
    assert kvsync.peers(world.storage("a"))[1].seen == pytest.approx(then, abs=1)
    assert kvsync.peers(World("new").storage("new")) == []


@pytest.mark.parametrize("called", ["its name", "its id", "a part of its id"])
def test_the_deletes_of_a_forgotten_peer_alone_go_with_the_next_run(called: str) -> None:
    world = away()
    (c,) = (peer for peer in kvsync.peers(world.storage("a")) if peer.name == "c")
    assert world.forget("a", {"its name": "c", "its id": c.id.upper(), "a part of its id": c.id[:12]}[called]) == c.id
    assert world.deletes("a") == ["k0", "k1", "k2", "k3", "k4"]
    world.sync("a", "b", Put("x", b"1"))
    assert world.deletes("a") == ["k2", "k3", "k4"]
    assert world.held_back("a") == {"b": (0, 0), "d": (3, 3)}
    world.sync("a", "b", Put("x", b"2"))
    assert world.held_back("b") == {"a": (0, 0), "d": (3, 3)}, "b has learnt it from a"


def test_a_forgotten_peer_that_comes_back_revives_nothing_and_is_told() -> None:
    world = away()
    before = {peer.name: peer.id for peer in kvsync.peers(world.storage("a"))}
    for name in ("c", "d"):
        world.forget("a", name)
    world.meet("a", "b")
    assert world.deletes("a") == world.deletes("b") == []
    (life,) = world.sync("c", "b").lives
    assert (life.storage, life.forgotten) == ("c", True)
    assert str(life).startswith("c had been forgotten, and goes on as a new storage; ")
    result = world.sync("c", "a", Put("its own", b"1"))
    assert (result.conflicts, result.maybe_deleted, result.lives) == ([], [], [])
    world.meet("a", "b")
    left = {"k5": b"1", "k6": b"1", "k7": b"1", "its own": b"1"}
    assert world.plain("a") == world.plain("b") == world.plain("c") == left
    replica = kvsync.status(world.storage("c")).replica
    assert f"{replica:016x}" != before["c"], "it goes on under a fresh id"
    assert before["c"] not in [peer.id for peer in kvsync.peers(world.storage("a"))]


def test_what_a_forgotten_peer_wrote_meanwhile_is_kept_and_told() -> None:
    world = away()
    world.clock.sleep(DAY)
    kvsync.commit(world.storage("c"), [Put("its own", b"1")], environment=world.clock.environment)
    world.forget("a", "c")
    world.forget("a", "d")
    world.meet("a", "b")
    result = world.sync("c", "a")
    assert [(doubt.storage, doubt.keys) for doubt in result.maybe_deleted] == [("c", ["its own"])]
    assert world.plain("a") == world.plain("c") == {"k5": b"1", "k6": b"1", "k7": b"1", "its own": b"1"}


def returned_without_index() -> World:
    """Return a and b, which have collected a delete, and a storage that is back as it was before its first run."""
    world = World("a", "b", "c")
    world.sync("a", "b", Put("gone", b"1"), Put("there", b"1"))
    world.sync("a", "b", Delete("gone"))
    world.meet("a", "b")
    assert world.deletes("a") == world.deletes("b") == []
    world.values["c"] = {"gone": b"1", "there": b"1", "its own": b"1"}
    assert world.sync("c", "b").maybe_deleted == [], "a run without a scan sees none of these values"
    return world


def test_what_a_first_scan_finds_after_a_run_without_one_is_told() -> None:
    world = returned_without_index()
    result = world.scan("c", "a")
    assert [(doubt.storage, doubt.keys) for doubt in result.maybe_deleted] == [("c", ["gone", "its own"])]
    assert world.plain("a") == world.plain("c") == {"gone": b"1", "there": b"1", "its own": b"1"}
    assert world.scan("c", "b").maybe_deleted == [], "it is told once"


def test_a_first_scan_that_is_killed_before_the_other_side_has_its_values_is_told_by_the_next_run() -> None:
    for at in itertools.count(1):
        world = returned_without_index()
        fault = Fault(at, "killed")
        source, target = (FaultyStorage(world.storage(name), fault) for name in ("c", "a"))
        with contextlib.suppress(Killed):
            kvsync.sync(source, target, scan=True, environment=world.clock.environment)
        if "gone" in world.values["a"]:
            break
        (doubt,) = world.scan("c", "a").maybe_deleted
        assert doubt.keys == ["gone", "its own"]
    assert at > 10


def test_what_is_newer_than_a_first_scan_is_not_in_doubt() -> None:
    world = returned_without_index()
    kvsync.commit(world.storage("c"), scan=True, environment=world.clock.environment)
    world.values["c"]["newer"] = b"1"
    result = world.scan("c", "a")
    assert (result.committed, result.maybe_deleted) == ((1, 0), [])


def test_a_value_that_a_guard_left_alone_is_a_conflict_with_the_delete_that_was_collected_since() -> None:
    world = World("a", "b")
    world.scan("a", "b")
    world.values["a"]["k"] = b"1"
    saved = dict(world.values["a"])
    world.scan("a", "b")
    world.sync("a", "b", Delete("k"))
    world.values["a"] = saved
    left = world.sync("a", "b", guard="check").missing
    assert [(missing.key, missing.side) for missing in left] == [("k", "source")], (
        "the log of a does not know its value"
    )
    assert world.deletes("b") == []
    (conflict,) = world.scan("b", "a").conflicts
    assert (conflict.key, conflict.source.deletes, conflict.target.deletes) == ("k", True, False)


def test_who_cannot_be_meant_is_refused_with_those_who_can() -> None:
    world = away()
    before = dict(world.values["a"])
    ids = {peer.name: peer.id for peer in kvsync.peers(world.storage("a"))}
    with pytest.raises(kvsync.UsageError, match="no peer is called 'nobody'") as unknown:
        world.forget("a", "nobody")
    for name, id_ in ids.items():
        assert f"{id_} ({name}, seen 20" in str(unknown.value)
    with pytest.raises(kvsync.UsageError, match="no peer is called ''"):
        world.forget("a", "")
    with pytest.raises(kvsync.UsageError, match="this storage knows none"):
        kvsync.forget({}, "b")
    with pytest.raises(kvsync.UsageError, match="no peer"):
        world.forget("a", f"{kvsync.status(world.storage('a')).replica:016x}")
    assert world.values["a"] == before


def test_two_peers_of_one_name_are_told_apart_by_id() -> None:
    world = World("a", "b", "c")
    world.meet("a", "b")
    world.values["b"] = {}
    world.meet("a", "b")
    with pytest.raises(kvsync.UsageError, match=r"2 peers are called 'b'.*give the id"):
        world.forget("a", "b")
    newer, older = kvsync.peers(world.storage("a"))
    assert world.forget("a", older.id) == older.id
    assert [peer.forgotten for peer in kvsync.peers(world.storage("a"))] == [False, True]
    assert newer.id != older.id


def test_forgetting_twice_writes_once() -> None:
    world = away()
    world.forget("a", "c")
    once = dict(world.values["a"])
    world.forget("a", "c")
    assert kvsync.status(world.storage("a")).generation == kvsync.status(MappingStorage(once)).generation


def test_values_that_have_expired_wait_like_deletes(tmp_path: Any) -> None:
    clock = Clock()
    a, b, c = (f"sqlite:///{tmp_path}/{name}.db?expires=until" for name in "abc")

    def sync(target: str, *changes: Any) -> None:
        clock.sleep(DAY)
        kvsync.sync(a, target, changes, tombstone_grace=GRACE, environment=clock.environment)

    sync(b, Put("k", b"1"))
    sync(c)
    sync(b, Put("session", b"open", expires=clock.now + 2 * DAY))
    for number in range(4):
        sync(b, Put("k", b"%d" % number))
    found = kvsync.peers(a, tombstone_grace=GRACE, clock=clock)
    assert {peer.name.rpartition("/")[2][0]: (peer.holds_back, peer.alone) for peer in found} == {
        "b": (0, 0),
        "c": (1, 1),
    }
