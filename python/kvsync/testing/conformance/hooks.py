"""What a store does by itself, planted there by a hook of the adapter's own test class.

The suite cannot make a store refuse a row, or put a link in the place of a file. A test class that can has a fixture
of that name, which returns a callable; the tests of a hook that it does not have are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import kvsync
from kvsync.storages.contract import has_skipped
from kvsync.testing.conformance.tools import listing, write
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsync.storages.contract import Storage
    from kvsync.types import Written

    AtKey: TypeAlias = "Callable[[str], object]"
    Nowhere: TypeAlias = "Callable[[], object]"
    Looking: TypeAlias = "Callable[[str], Callable[[], object]]"

__all__ = ["HOOKS", "DressTests", "HinderTests", "MisnameTests", "SpoilTests"]

KEYS = ["a", "b", "c"]


def refused(written: Written) -> list[str]:
    """Return the refused keys of a call; each has a reason."""
    assert all(refusal.reason for refusal in written.refused)
    return [refusal.key for refusal in written.refused]


class HinderTests:
    """`hinder(key)`: from now on the store does not do with this key as told: it refuses, ignores or rewrites."""

    def test_a_key_that_is_not_written_as_told_is_refused_alone(self, storage: Storage, hinder: AtKey) -> None:
        write(storage, dict.fromkeys(KEYS, b"1"))
        tokens = listing(storage)
        hinder("b")
        assert refused(storage.write(KEYS, [b"2"] * 3)) == ["b"]
        assert storage.read(["a", "c"]) == [b"2", b"2"]
        now = listing(storage)
        if now.get("b") == tokens["b"]:
            assert refused(storage.write(KEYS, [b"3"] * 3, [now[key] for key in KEYS])) == ["b"]
            assert storage.read(["a", "c"]) == [b"3", b"3"]

    def test_a_key_that_is_not_deleted_as_told_is_refused_alone(self, storage: Storage, hinder: AtKey) -> None:
        write(storage, dict.fromkeys(KEYS, b"1"))
        hinder("b")
        assert refused(storage.delete(KEYS)) == ["b"]
        assert [value is None for value in storage.read(KEYS)] == [True, False, True]


class SpoilTests:
    """`spoil(key)`: put something that is no value at a key that has one, or make its value one that cannot be read."""

    def test_what_is_no_value_is_neither_a_value_nor_absent(self, storage: Storage, spoil: AtKey) -> None:
        write(storage, dict.fromkeys(KEYS, b"1"))
        spoil("b")
        found = storage.read(KEYS)
        assert [found[0], found[2]] == [b"1", b"1"]
        assert isinstance(found[1], Unreadable)
        assert found[1].reason

    def test_what_is_no_value_fails_no_scan(self, storage: Storage, spoil: AtKey) -> None:
        write(storage, dict.fromkeys(KEYS, b"1"))
        before = listing(storage)
        spoil("b")
        after = listing(storage)
        after.pop("b", None)  # it may be listed, and need not be
        assert after == {"a": before["a"], "c": before["c"]}

    def test_what_is_no_value_is_not_written_over_on_condition(self, storage: Storage, spoil: AtKey) -> None:
        write(storage, dict.fromkeys(KEYS, b"1"))
        tokens = listing(storage)
        spoil("b")
        for expect in (None, tokens["b"], b""):
            assert refused(storage.write(["b"], [b"2"], [expect])) == ["b"]
            assert refused(storage.delete(["b"], [expect])) == ["b"]
        assert refused(storage.write(KEYS, [b"2"] * 3, [tokens[key] for key in KEYS])) == ["b"]
        found = storage.read(KEYS)
        assert [found[0], found[2]] == [b"2", b"2"]
        assert isinstance(found[1], Unreadable)

    def test_a_write_without_a_condition_over_what_is_no_value_is_done_or_refused(
        self, storage: Storage, spoil: AtKey
    ) -> None:
        write(storage, dict.fromkeys(KEYS, b"1"))
        spoil("b")
        for expected in (b"2", None):
            kept = refused(storage.write(KEYS, [expected] * 3) if expected is not None else storage.delete(KEYS))
            assert kept in ([], ["b"])
            found = storage.read(KEYS)
            assert [found[0], found[2]] == [expected] * 2
            assert isinstance(found[1], Unreadable) if kept else found[1] == expected

    def test_a_run_names_what_is_no_value_and_moves_the_rest(self, storage: Storage, spoil: AtKey) -> None:
        peer = dict.fromkeys(KEYS, b"1")
        kvsync.sync(peer, storage, scan=True)
        spoil("b")
        peer["c"] = b"2"
        result = kvsync.sync(peer, storage, scan=True)
        assert [(entry.key, entry.side) for entry in result.unreadable] == [("b", "target")]
        assert [peer[key] for key in KEYS] == [b"1", b"1", b"2"]
        assert storage.read(["a", "c"]) == [b"1", b"2"]


class MisnameTests:
    """`misname()`: put a value in the store whose name cannot be a key."""

    def test_a_name_that_cannot_be_a_key_fails_no_scan_and_is_reported(
        self, storage: Storage, misname: Nowhere
    ) -> None:
        write(storage, dict.fromkeys(KEYS, b"1"))
        before = listing(storage)
        misname()
        assert listing(storage) == before
        assert storage.read(KEYS) == [b"1"] * 3
        assert has_skipped(storage)
        (entry,) = storage.skipped
        assert entry.name
        assert entry.reason
        assert not entry.harmless


class DressTests:
    """`dress(key)`: give a value what the store keeps beside it: other columns, a mode. Return a look at that."""

    def test_what_is_kept_beside_a_value_stays(self, storage: Storage, dress: Looking) -> None:
        write(storage, dict.fromkeys(KEYS, b"1"))
        look = dress("b")
        before = look()
        write(storage, {"b": b"2"})
        assert (storage.read(["b"]), look()) == ([b"2"], before)
        assert not refused(storage.write(["b"], [b"3"], [listing(storage)["b"]]))
        assert (storage.read(["b"]), look()) == ([b"3"], before)


HOOKS: dict[str, type] = {"hinder": HinderTests, "spoil": SpoilTests, "misname": MisnameTests, "dress": DressTests}
"""The hooks by name, and their tests."""
