"""A key whose newest value one side knows of and does not hold: nothing about it may be lost or undone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest

import kvsync
from kvsync import Delete, Put
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import CountingStorage, Fault, FaultyStorage
from kvsync.types import Unreadable

Mapping = dict[str, bytes]


class Flaky(MappingStorage):
    """Cannot read `k` this once."""

    def read(self, keys: Any) -> Any:
        return [Unreadable("EIO") if key == "k" else value for key, value in zip(keys, super().read(keys), strict=True)]


def plain(mapping: Mapping) -> Mapping:
    return {key: value for key, value in mapping.items() if not key.startswith(".kvsync/")}


def behind(second: Put | Delete) -> tuple[Mapping, Mapping]:
    """Return A with k=v3, and B that lacks it and holds what `second` made, which no scan of B has seen."""
    a: Mapping = {"k": b"v1"}
    b: Mapping = {}
    kvsync.sync(a, b, scan=True)
    kvsync.sync(a, b, [second])
    kvsync.commit(a, [Put("k", b"v3")])
    result = kvsync.sync(Flaky(a), b)
    assert [lack.key for lack in result.missing] == ["k"]
    return a, b


@pytest.mark.parametrize("second", [Put("k", b"v2"), Delete("k")], ids=["a value", "nothing"])
@pytest.mark.parametrize("compacted", [False, True])
def test_what_is_held_instead_is_no_local_change(second: Put | Delete, compacted: bool) -> None:
    """B's scan took the older value it held (or its absence) for a change made now, and it beat v3 everywhere."""
    a, b = behind(second)
    if compacted:
        kvsync.compact(b)
    result = kvsync.sync(a, b, scan=True)
    assert result.committed == (0, 0)
    assert plain(a) == plain(b) == {"k": b"v3"}


@pytest.mark.parametrize("policy", ["latest", "source", "target", "keep-both"])
@pytest.mark.parametrize("given", [False, True])
def test_a_local_change_over_a_missing_value_is_a_conflict(policy: Any, given: bool) -> None:
    """B changed k while it knew of v3 and lacked it. By the vectors B's change had seen v3, and beat it in silence."""
    a, b = behind(Put("k", b"v2"))
    if given:
        kvsync.commit(b, [Put("k", b"from b")])
    else:
        b["k"] = b"from b"
    result = kvsync.sync(a, b, scan=not given, conflict=policy)
    assert [conflict.key for conflict in result.conflicts] == ["k"]
    assert plain(a) == plain(b)
    assert a["k"] == (b"v3" if policy == "source" else b"from b")
    lost = [value.value for value in (*kvsync.lost(a), *kvsync.lost(b))]
    assert {b"v3", b"from b"} <= {*plain(a).values(), *lost}
    assert not kvsync.status(b).missing
    again = kvsync.sync(a, b)
    assert (again.pushed, again.pulled, again.conflicts, again.missing) == (0, 0, [], [])


def test_the_conflict_over_a_missing_value_waits_for_who_holds_it() -> None:
    """B meets C first, which has neither; the conflict is met when A comes."""
    a, b = behind(Put("k", b"v2"))
    c: Mapping = {}
    kvsync.commit(b, [Put("k", b"from b")])
    assert not kvsync.sync(b, c).conflicts
    result = kvsync.sync(a, b)
    assert [conflict.key for conflict in result.conflicts] == ["k"]
    kvsync.sync(a, c)
    assert plain(a) == plain(b) == plain(c) == {"k": b"from b"}
    assert [value.value for value in kvsync.lost(a)] == [b"v3"]


def test_a_refused_change_does_not_leave_the_others_unlogged() -> None:
    class Picky(MappingStorage):
        def write(self, keys: Any, values: Any, expect: Any = None) -> Any:
            if "bad" in keys:
                kept = [(k, v) for k, v in zip(keys, values, strict=True) if k != "bad"]
                super().write([k for k, _ in kept], [v for _, v in kept], expect)
                return kvsync.types.Written((kvsync.types.Refusal("bad", "no room", changed=False),))
            return super().write(keys, values, expect)

    a: Mapping = {}
    b: Mapping = {}
    with pytest.raises(kvsync.StorageError, match="no room") as refused:
        kvsync.sync(Picky(a), b, [Put("bad", b"1"), Put("good", b"2")])
    assert refused.value.key == "bad"
    kvsync.sync(a, b)
    assert plain(a) == plain(b) == {"good": b"2"}


def test_folders_within_each_other_are_refused(tmp_path: Any) -> None:
    (tmp_path / "inner").mkdir()
    with pytest.raises(kvsync.SameStorageError):
        kvsync.sync(tmp_path, tmp_path / "inner", scan=True)


def test_what_an_interrupted_run_wrote_and_cannot_be_read_is_no_new_change() -> None:
    """It landed, so it is known; a new stamp of its own would beat what others changed meanwhile."""
    a: Mapping = {}
    b: Mapping = {}
    kvsync.sync(a, b, [Put("k", b"v1")])
    writes = FaultyStorage(MappingStorage(b), Fault(at=count_to_the_manifest(a, b)))
    with pytest.raises(kvsync.StorageError):
        kvsync.sync(a, writes, [Put("k", b"v2")])
    assert b["k"] == b"v2"
    assert kvsync.log(b, "k")[0].size == 2
    assert kvsync.commit(Flaky(b), []) == 0
    before = kvsync.log(a, "k")
    result = kvsync.sync(a, b, scan=True)
    assert (result.committed, result.conflicts) == ((0, 0), [])
    assert kvsync.log(a, "k") == kvsync.log(b, "k") == before


def count_to_the_manifest(a: Mapping, b: Mapping) -> int:
    """Return which operation of a run that gives a value is the target's manifest write."""
    seen: list[str] = []

    class Noting(CountingStorage):
        def around(self, method: str, call: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(f"{method} {args[0] if method == 'store' else ''}")
            return super().around(method, call, *args, **kwargs)

    kvsync.sync(dict(a), Noting(MappingStorage(dict(b))), [Put("k", b"vx")])
    return seen.index("store manifest") + 1


def test_a_value_that_neither_side_holds_keeps_the_reason_why_it_is_missing(tmp_path: Any) -> None:
    """A run with a third storage said of both sides that the value "is not there any more"; it never was."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "new").write_bytes(b"1")
    table = f"sqlite:///{tmp_path / 't.db'}?table=t"
    with closing(sqlite3.connect(tmp_path / "t.db")) as database:
        database.execute("CREATE TABLE t (key TEXT PRIMARY KEY, value TEXT, x TEXT NOT NULL)")
    (first,) = kvsync.sync(table, tmp_path / "a", scan=True).missing
    assert "NOT NULL" in first.reason
    reasons = {entry.side: entry.reason for entry in kvsync.sync(table, {}, scan=True).missing}
    assert reasons["source"] == first.reason
    assert reasons["target"].startswith("neither side holds its value: sync with a storage that does; ")


def test_what_is_held_in_place_of_a_missing_value_is_kept_when_that_loses() -> None:
    one, other, third = dict[str, bytes](), dict[str, bytes](), dict[str, bytes]()
    kvsync.sync(one, other, [kvsync.Put("k", b"old")])
    kvsync.commit(one, [kvsync.Put("k", b"newer")])
    kvsync.sync(one, other, exclude=["k"])  # `other` knows of the newer value, and holds the old one
    kvsync.commit(third, [kvsync.Put("k", b"newest")])
    kvsync.sync(third, other)
    assert other["k"] == b"newest"
    assert [lost.value for lost in kvsync.lost(other)] == [b"old"]
