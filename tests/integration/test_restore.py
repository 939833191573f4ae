"""A value that lost a conflict is put back as a change, in every kind of storage, and can be put away again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from places import KINDS, SERVER_KINDS, Blind, Clock, DictPlace, Hooked, make

import kvsync
from kvsync import Delete, Put
from kvsync.errors import IndexDamagedError, LockHeldError, StorageError, UsageError
from kvsync.index.lost import keep_lost
from kvsync.options import Options
from kvsync.run.lock import lock
from kvsync.storages import open_storage
from kvsync.testing import Fault, FaultyStorage, crashes

if TYPE_CHECKING:
    from pathlib import Path

    from places import Place

BINARY = bytes(range(256))


@pytest.fixture(params=[*KINDS, *SERVER_KINDS])
def place(request: pytest.FixtureRequest, folder: Path) -> Place:
    """Return a place of each kind in turn."""
    return make(request.param, folder, "one")


def conflict(place: Place, peer: dict[str, bytes], *, key: str = "k", loser: bytes = BINARY) -> None:
    """Let `place` lose a conflict about a key."""
    kvsync.commit(place.target, [Put(key, loser)])
    kvsync.commit(peer, [Put(key, b"winner")])
    result = kvsync.sync(place.target, peer, conflict="target")
    assert [each.key for each in result.conflicts] == [key]


def test_what_was_lost_is_put_back_and_moves_on(place: Place) -> None:
    peer: dict[str, bytes] = {}
    third: dict[str, bytes] = {}
    conflict(place, peer)
    kvsync.sync(peer, third)
    restored = kvsync.restore(place.target, "k")
    assert (restored.key, restored.value) == ("k", BINARY)
    assert place.values() == {"k": BINARY}
    assert kvsync.sync(place.target, peer).pushed == 1
    assert kvsync.sync(peer, third).pushed == 1
    assert peer["k"] == third["k"] == BINARY
    assert kvsync.verify(place.target, peer).equal


def test_restoring_again_undoes_it(place: Place) -> None:
    peer: dict[str, bytes] = {}
    conflict(place, peer)
    kvsync.restore(place.target, "k")
    assert [value.value for value in kvsync.lost(place.target, "k")] == [BINARY, b"winner"]
    assert kvsync.restore(place.target, "k").value == b"winner"
    kvsync.sync(place.target, peer)
    assert place.values() == {"k": b"winner"}
    assert peer["k"] == b"winner"


def test_what_is_discarded_is_gone(place: Place) -> None:
    peer: dict[str, bytes] = {}
    conflict(place, peer)
    conflict(place, peer, key="other", loser=b"")
    (one,) = kvsync.lost(place.target, "k")
    assert kvsync.discard(place.target, [one]) == 1
    assert kvsync.discard(place.target, [one]) == 0
    assert [(value.key, value.value) for value in kvsync.lost(place.target)] == [("other", b"")]
    with pytest.raises(UsageError, match="no value of 'k' that lost a conflict is kept"):
        kvsync.restore(place.target, "k")
    assert kvsync.sync(place.target, peer, [Put("later", b"1")]).pushed == 1


def lost_in(storage: dict[str, bytes]) -> list[str]:
    return sorted(name for name in storage if name.startswith(".kvsync/lost/"))


def many_lost(count: int, size: int = 3) -> dict[str, bytes]:
    """Return a storage that lost as many conflicts in one run."""
    one: dict[str, bytes] = {}
    other: dict[str, bytes] = {}
    kvsync.commit(one, [Put(f"k{i:03}", b"%d" % i * size) for i in range(count)])
    kvsync.commit(other, [Put(f"k{i:03}", b"winner") for i in range(count)])
    result = kvsync.sync(one, other, conflict="target")
    assert {name for each in result.conflicts for name in each.lost_as} == {name[8:] for name in lost_in(one)}
    return one


def test_many_small_values_share_an_object_and_go_one_by_one() -> None:
    one = many_lost(150)
    assert len(lost_in(one)) == 3
    values = kvsync.lost(one)
    assert [value.id for value in values] == sorted(value.id for value in values)
    assert {value.key: value.value for value in values} == {f"k{i:03}": b"%d" % i * 3 for i in range(150)}
    assert kvsync.restore(one, "k007").value == b"777"
    chosen = [value for value in values if value.key in {"k001", "k002", "k149"}]
    assert kvsync.discard(one, chosen) == 3
    assert kvsync.discard(one, chosen) == 0
    left = {value.id for value in kvsync.lost(one)}
    assert {value.id for value in values} - left == {value.id for value in chosen}
    assert len(lost_in(one)) == 4  # one more for what k007 had before
    assert kvsync.discard(one, kvsync.lost(one)) == 148
    assert lost_in(one) == []


def test_large_values_have_objects_of_their_own() -> None:
    one = many_lost(5, size=600_000)
    assert len(lost_in(one)) == 5
    assert len(kvsync.lost(one)) == 5


def test_what_is_kept_twice_is_told_once() -> None:
    one = many_lost(70)
    values = kvsync.lost(one)
    keep_lost(open_storage(one)[0], [values[3], values[69], values[68]])
    assert kvsync.lost(one) == values
    assert kvsync.discard(one, values[69:]) == 1
    assert kvsync.lost(one) == values[:69]


def test_a_discard_that_is_cut_off_anywhere_loses_no_other_value() -> None:
    def discard(one: dict[str, bytes], fault: Fault) -> None:
        values = kvsync.lost(one)
        kvsync.discard(
            FaultyStorage(open_storage(one)[0], fault), values[:4], environment=Clock(time.time()).environment
        )

    for _, one in crashes(lambda: many_lost(10), discard):
        left = kvsync.lost(one)
        assert [value.key for value in left][-6:] == [f"k{i:03}" for i in range(4, 10)]
        kvsync.discard(one, left[:-6], environment=Clock(time.time() + 3600).environment)
        assert kvsync.lost(one) == left[-6:]


def test_what_was_written_and_not_logged_yet_is_kept_too() -> None:
    place, peer = DictPlace(), dict[str, bytes]()
    conflict(place, peer)
    place.put("k", b"fresh work")
    kvsync.restore(place.target, "k")
    assert b"fresh work" in place.lost()["k"]


def test_a_deleted_key_comes_back() -> None:
    place, peer = DictPlace(), dict[str, bytes]()
    kvsync.sync(place.target, peer, [Put("k", b"1")])
    kvsync.commit(place.target, [Put("k", b"edited")])
    kvsync.commit(peer, [Delete("k")])
    kvsync.sync(place.target, peer, conflict="target")
    assert place.values() == {}
    kvsync.restore(place.target, "k")
    kvsync.sync(place.target, peer)
    assert peer["k"] == b"edited"
    assert len(place.lost()["k"]) == 1


def test_nothing_is_written_over_what_cannot_be_read() -> None:
    place, peer = DictPlace(), dict[str, bytes]()
    conflict(place, peer)
    with pytest.raises(StorageError, match="bad sector") as caught:
        kvsync.restore(Blind(place.target, "k"), "k")
    assert caught.value.key == "k"
    assert place.values() == {"k": b"winner"}


def test_one_damaged_value_is_in_the_way_of_no_other() -> None:
    place, peer = DictPlace(), dict[str, bytes]()
    conflict(place, peer)
    whole = {name for name in place.objects() if name.startswith("lost/")}
    conflict(place, peer, key="other", loser=b"spoilt")
    (name,) = {name for name in place.objects() if name.startswith("lost/")} - whole
    place.replace(name, b"nonsense")
    assert kvsync.restore(place.target, "k").value == BINARY
    for call in (lambda: kvsync.lost(place.target), lambda: kvsync.restore(place.target, "other")):
        with pytest.raises(IndexDamagedError) as caught:
            call()
        assert caught.value.name == name


def test_a_held_lease_is_respected() -> None:
    place, peer = DictPlace(), dict[str, bytes]()
    conflict(place, peer)
    clock = Clock(time.time())
    storage, _ = open_storage(place.target)
    with lock((storage,), Options(), clock.environment):
        with pytest.raises(LockHeldError):
            kvsync.restore(place.target, "k", wait_seconds=0, environment=clock.environment)
        kept = kvsync.lost(place.target)
        with pytest.raises(LockHeldError):
            kvsync.discard(place.target, kept, wait_seconds=0, environment=clock.environment)
    assert place.values() == {"k": b"winner"}


@pytest.mark.parametrize("stop", range(1, 12))
def test_a_crash_at_any_operation_leaves_one_of_the_two_values(stop: int) -> None:
    """Whatever was done by then, the value that is there can be moved, and the other one is still kept."""
    place, peer = DictPlace(), dict[str, bytes]()
    conflict(place, peer)
    clock = Clock(time.time())
    calls = iter(range(1, 1000))

    def crash(*_: object) -> None:
        if next(calls) >= stop:
            raise StorageError("the power failed")

    try:
        kvsync.restore(Hooked(place.target, before=crash), "k", environment=clock.environment)
    except StorageError:
        clock.now += 3600
    kvsync.sync(place.target, peer, scan=True, environment=clock.environment)
    assert place.values() == {key: value for key, value in peer.items() if not key.startswith(".kvsync")}
    assert place.values()["k"] in {BINARY, b"winner"}
    assert {BINARY, b"winner"} <= {place.values()["k"], *place.lost()["k"]}
