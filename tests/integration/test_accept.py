"""A key whose newest value nobody holds any more: what is there meanwhile is accepted, and all agree again."""

from __future__ import annotations

from typing import Any

import pytest
from places import START, Clock

import kvsync
from kvsync import Delete, Put
from kvsync.replica.log import Log
from kvsync.storages import open_storage
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import Fault, FaultyStorage, crashes, virtual_environment
from kvsync.types import Unreadable

Mapping = dict[str, bytes]


class Flaky(MappingStorage):
    """Cannot read `k`."""

    def read(self, keys: Any) -> Any:
        return [Unreadable("EIO") if key == "k" else value for key, value in zip(keys, super().read(keys), strict=True)]


def plain(mapping: Mapping) -> Mapping:
    return {key: value for key, value in mapping.items() if not key.startswith(".kvsync/")}


def unreconciled(storage: Any) -> list[str]:
    one, _ = open_storage(storage)
    manifest = Log.read(one, Clock().environment, dry=True).manifest
    return [change.key for change in manifest.knowledge.unreconciled]


OLDER = Put("k", b"v2")


def behind(second: Put | Delete = OLDER) -> tuple[Mapping, Mapping, Mapping]:
    """Return A with k=v3, B that knows of it and holds what `second` made, and a backup of A from before v3."""
    a: Mapping = {}
    b: Mapping = {}
    kvsync.sync(a, b, [Put("k", b"v1"), Put("x", b"1")])
    kvsync.sync(a, b, [second])
    backup = dict(a)
    kvsync.commit(a, [Put("k", b"v3")])
    assert [lack.key for lack in kvsync.sync(Flaky(a), b).missing] == ["k"]
    return a, b, backup


@pytest.mark.parametrize("second", [OLDER, Delete("k")], ids=["a value", "nothing"])
def test_what_is_there_is_the_newest_once_it_is_accepted(second: Put | Delete) -> None:
    """A was restored from before v3, and nobody else held it: each run told the key as missing, for ever."""
    _, b, restored = behind(second)
    for _ in range(2):
        told = kvsync.sync(restored, b).missing
        assert {lack.side for lack in told} == {"source", "target"}
        assert all("`kvsync accept`" in lack.reason for lack in told), told
    (change,) = kvsync.accept(b, ["k"])
    assert (change.key, change.deletes, change.inexact, change.decided) == (
        "k",
        isinstance(second, Delete),
        False,
        False,
    )
    result = kvsync.sync(restored, b, scan=True)
    assert (result.missing, result.conflicts, result.committed) == ([], [], (0, 0))
    left = {"x": b"1"} | ({} if isinstance(second, Delete) else {"k": b"v2"})
    assert plain(restored) == plain(b) == left
    assert kvsync.status(b).missing == kvsync.status(restored).missing == {}
    assert kvsync.verify(restored, b).equal


def test_a_new_storage_gets_what_was_accepted() -> None:
    _, b, _ = behind()
    c: Mapping = {}
    (lack, _) = kvsync.sync(b, c).missing
    assert "sync with a storage that does" in lack.reason
    assert plain(c) == {"x": b"1"}
    kvsync.accept(b, None)
    assert kvsync.sync(b, c).missing == []
    assert plain(c) == {"k": b"v2", "x": b"1"}
    d: Mapping = {}
    kvsync.sync(c, d)
    assert plain(d) == plain(c)


def test_what_is_accepted_is_what_is_there_also_if_nobody_has_logged_it() -> None:
    _, b, restored = behind()
    b["k"] = b"written beside kvsync"
    kvsync.accept(b, ["k"])
    result = kvsync.sync(restored, b, scan=True)
    assert (result.conflicts, result.missing) == ([], [])
    assert restored["k"] == b["k"] == b"written beside kvsync"


def test_a_storage_that_holds_the_value_after_all_loses_it_as_an_older_one() -> None:
    """So the command asks first, and says it."""
    a, b, _ = behind()
    kvsync.accept(b, ["k"])
    result = kvsync.sync(a, b)
    assert result.conflicts == []
    assert plain(a) == plain(b) == {"k": b"v2", "x": b"1"}


def test_a_change_that_another_storage_makes_meanwhile_is_a_conflict() -> None:
    _, b, _ = behind()
    c: Mapping = {}
    kvsync.sync(b, c)
    kvsync.commit(c, [Put("k", b"from c")])
    kvsync.accept(b, ["k"])
    result = kvsync.sync(b, c)
    assert [(conflict.key, conflict.winner) for conflict in result.conflicts] == [("k", "source")]
    assert plain(b) == plain(c) == {"k": b"v2", "x": b"1"}
    assert [value.value for value in kvsync.lost(c)] == [b"from c"]


def test_a_conflict_that_waits_for_a_value_that_nobody_holds_ends() -> None:
    """B wrote over v3 without having held it. That stayed an open conflict, here and wherever B went."""
    _, b, restored = behind()
    c: Mapping = {}
    kvsync.commit(b, [Put("k", b"from b")])
    kvsync.sync(b, c)
    kvsync.sync(restored, b)
    assert unreconciled(b) == unreconciled(c) == unreconciled(restored) == ["k"]
    (change,) = kvsync.accept(c, ["k"])
    assert change.size == len(b"from b")
    for _ in range(2):
        assert kvsync.sync(c, b).conflicts == kvsync.sync(c, restored).conflicts == []
    assert unreconciled(b) == unreconciled(c) == unreconciled(restored) == []
    assert plain(b) == plain(c) == plain(restored) == {"k": b"from b", "x": b"1"}


def test_an_accepted_delete_can_be_collected() -> None:
    """What is missing or unreconciled keeps the delete of its key logged, however old it is."""
    clock = Clock(max(START, 2_000_000_000.0))
    _, b, _ = behind(Delete("k"))
    c: Mapping = {}
    kvsync.sync(b, c)
    kvsync.accept(b, None, environment=clock.environment)
    for number in range(4):
        clock.sleep(7200)
        changes = [Put("x", b"%d" % number)]
        kvsync.sync(b, c, changes, tombstone_grace="1h", environment=clock.environment)
        for peer in kvsync.peers(b)[1:]:
            kvsync.forget(b, peer.id, environment=clock.environment)
    assert [change.key for change in kvsync.log(b)] == [change.key for change in kvsync.log(c)] == ["x"]


def test_when_a_value_expires_is_accepted_too(tmp_path: Any) -> None:
    clock = Clock()
    url = f"sqlite:///{tmp_path}/b.db?expires=until"
    a: Mapping = {}
    until = clock.now + 1e9
    kvsync.sync(url, a, [Put("k", b"v1", expires=until)], environment=clock.environment)
    kvsync.commit(a, [Put("k", b"v2")], environment=clock.environment)
    kvsync.sync(Flaky(a), url, environment=clock.environment)
    (change,) = kvsync.accept(url, ["k"], environment=clock.environment)
    assert change.expires == int(until * 1000)


@pytest.mark.parametrize("keys", [["x"], ["k", "x"], ["nothing"], "k"])
def test_only_what_is_missing_can_be_accepted(keys: Any) -> None:
    _, b, _ = behind()
    before = plain(b), kvsync.log(b), kvsync.status(b).generation
    with pytest.raises(kvsync.UsageError, match=r"nothing is missing at|sequence of keys"):
        kvsync.accept(b, keys)
    assert (plain(b), kvsync.log(b), kvsync.status(b).generation) == before
    assert kvsync.accept(b, []) == []
    assert list(kvsync.status(b).missing) == ["k"]


def test_what_cannot_be_read_cannot_be_accepted() -> None:
    _, b, _ = behind()
    before = kvsync.log(b)
    with pytest.raises(kvsync.StorageError, match=r"cannot accept what is at 'k'.*EIO") as error:
        kvsync.accept(Flaky(b), None)
    assert error.value.key == "k"
    assert kvsync.log(b) == before


def test_a_crash_anywhere_accepts_all_or_nothing() -> None:
    def make() -> tuple[Mapping, Mapping, Any]:
        _, b, restored = behind()
        return b, restored, virtual_environment(2_000_000_000.0)

    def accepting(world: tuple[Mapping, Mapping, Any], fault: Fault) -> None:
        kvsync.accept(FaultyStorage(MappingStorage(world[0]), fault), None, environment=world[2])

    seen = set()
    for _, (b, restored, _) in crashes(make, accepting):
        later = virtual_environment(2_000_010_000.0)
        accepted = not kvsync.status(b).missing
        seen.add(accepted)
        result = kvsync.sync(restored, b, scan=True, environment=later)
        assert [lack.key for lack in result.missing] == ([] if accepted else ["k", "k"])
        assert (result.conflicts, b["k"]) == ([], b"v2")
        kvsync.accept(b, None, environment=later)
        assert kvsync.sync(restored, b, scan=True, environment=later).missing == []
        assert plain(restored) == plain(b) == {"k": b"v2", "x": b"1"}
    assert seen == {False, True}
