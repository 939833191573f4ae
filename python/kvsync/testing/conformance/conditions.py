"""Conditions: a value is written or deleted, and an index object changed, only if it is still the expected version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvsync.storages.contract import ObjectMismatch
from kvsync.testing.conformance.tools import listing, refuses, write
from kvsync.types import ABSENT, ANY

if TYPE_CHECKING:
    from kvsync.storages.contract import Storage

__all__ = ["ConditionTests"]


class ConditionTests:
    """Conditions hold for each key and each object, one after the other; `races` has several writers at once."""

    def test_writing_on_condition(self, storage: Storage) -> None:
        write(storage, {"a": b"1", "b": b"2"})
        tokens = listing(storage)
        write(storage, {"b": b"3"})
        written = storage.write(["a", "b", "c"], [b"A", b"B", b"C"], [tokens["a"], tokens["b"], None])
        assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("b", True)]
        assert storage.read(["a", "b", "c"]) == [b"A", b"3", b"C"]
        written = storage.write(["c", "d"], [b"D", b"D"], [None, tokens["a"]])
        assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("c", True), ("d", True)]
        assert storage.read(["c", "d"]) == [b"C", None]

    def test_an_empty_token_is_never_the_expected_one(self, storage: Storage) -> None:
        write(storage, {"a": b"1", "empty": b""})
        written = storage.write(["a", "empty", "none"], [b"2"] * 3, [b""] * 3)
        assert [refusal.key for refusal in written.refused] == ["a", "empty", "none"]
        assert [refusal.key for refusal in storage.delete(["a", "empty"], [b""] * 2).refused] == ["a", "empty"]
        assert storage.read(["a", "empty", "none"]) == [b"1", b"", None]

    def test_creating_on_condition_never_replaces(self, storage: Storage) -> None:
        write(storage, {"empty": b"", "full": b"1"})
        for key in ("empty", "full"):
            (refusal,) = storage.write([key], [b"2"], [None]).refused
            assert (refusal.key, refusal.changed) == (key, True)
        assert storage.read(["empty", "full"]) == [b"", b"1"]

    def test_a_refused_key_leaves_the_rest_of_its_batch_alone(self, storage: Storage) -> None:
        keys = [f"k{number}" for number in range(9)]
        write(storage, dict.fromkeys(keys[::3], b"there"))
        written = storage.write(keys, [b"new"] * 9, [None] * 9)
        assert [refusal.key for refusal in written.refused] == keys[::3]
        assert storage.read(keys) == [b"new" if number % 3 else b"there" for number in range(9)]
        tokens = listing(storage)
        expect = [tokens[key] if number % 3 else None for number, key in enumerate(keys)]
        written = storage.delete(keys, expect)
        assert [refusal.key for refusal in written.refused] == keys[::3]
        assert storage.read(keys) == [None if number % 3 else b"there" for number in range(9)]

    def test_deleting_on_condition(self, storage: Storage) -> None:
        write(storage, {"a": b"1", "b": b"2", "c": b"3"})
        tokens = listing(storage)
        write(storage, {"b": b"3"})
        written = storage.delete(["a", "b", "c", "gone"], [tokens["a"], tokens["b"], None, tokens["c"]])
        assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("b", True), ("c", True)]
        assert storage.read(["a", "b", "c"]) == [None, b"3", b"3"]

    def test_compare_and_swap(self, storage: Storage) -> None:
        first = storage.store("manifest", b"1", ABSENT)
        refuses(storage, b"x", ABSENT)
        second = storage.store("manifest", b"2", first)
        assert second != first
        refuses(storage, b"x", first)
        refuses(storage, b"x", b"no such version")
        assert storage.load("manifest") == (b"2", second)
        third = storage.store("manifest", b"3", ANY)
        refuses(storage, b"x", second)
        assert storage.load("manifest") == (b"3", third)
        with pytest.raises(ObjectMismatch):
            storage.store("lease", b"x", third)
        assert storage.load("lease") is None
        storage.store("lease", b"1", ANY)
        assert storage.objects() == ["lease", "manifest"]

    def test_removing_on_condition(self, storage: Storage) -> None:
        first = storage.store("lease", b"1", ABSENT)
        second = storage.store("lease", b"2", first)
        with pytest.raises(ObjectMismatch):
            storage.remove(["lease"], first)
        assert storage.load("lease") == (b"2", second)
        storage.remove(["lease"], second)
        assert storage.load("lease") is None
        with pytest.raises(ObjectMismatch):
            storage.remove(["lease"], second)
        storage.store("lease", b"3", ABSENT)
        storage.store("manifest", b"3", ABSENT)
        storage.remove(["lease", "segment/none", "manifest"], ANY)
        assert storage.objects() == []

    def test_a_version_does_not_come_back_with_other_bytes(self, storage: Storage) -> None:
        versions: list[bytes] = []
        for number in range(60):
            expect = ABSENT if number % 2 == 0 else versions[-1]
            versions.append(storage.store("lease", b"%03d" % number, expect))
            if number % 2:
                storage.remove(["lease"], versions[-1])
        assert len(set(versions)) == 60
        version = storage.store("manifest", b"now", ABSENT)
        for old in versions[:2] + versions[-2:]:
            refuses(storage, b"x", old)
        assert storage.load("manifest") == (b"now", version)
