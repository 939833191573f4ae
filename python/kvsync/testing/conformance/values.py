"""Values: what is written comes back, is listed, and changes on condition only where it is asked for."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from kvsync.storages.contract import Capabilities, has_expiry, has_transaction
from kvsync.testing.conformance.hard import HARD_KEYS, HARD_VALUES
from kvsync.testing.conformance.tools import listing, write
from kvsync.types import ANY, Unreadable

if TYPE_CHECKING:
    from kvsync.storages.contract import Storage

__all__ = ["ValueTests"]


class ValueTests:
    """What kvsync takes for granted of values."""

    def test_it_is_a_storage_with_a_name(self, storage: Storage) -> None:
        assert storage.name
        assert isinstance(storage.capabilities, Capabilities)
        assert not has_transaction(storage) or callable(storage.transaction)
        assert not has_expiry(storage) or (callable(storage.expiries) and callable(storage.write_expiring))

    def test_an_empty_storage_has_nothing(self, storage: Storage) -> None:
        assert storage.read(["a", "b/c", ""]) == [None, None, None]
        assert storage.read([]) == []
        assert listing(storage) == {}
        assert storage.objects() == []
        assert storage.load("manifest") is None
        assert storage.modified_ms(["a"]) == [None]
        assert storage.delete(["a", "b/c"]).refused == ()
        storage.remove(["segment/0000000000000001-0"], ANY)

    def test_nothing_written_is_nothing_done(self, storage: Storage) -> None:
        assert storage.write([], []).refused == ()
        assert storage.write([], [], []).refused == ()
        assert storage.delete([]).refused == ()
        assert storage.delete([], []).refused == ()
        storage.remove([], ANY)
        assert listing(storage) == {}

    @pytest.mark.parametrize("value", HARD_VALUES.values(), ids=HARD_VALUES.keys())
    def test_bytes_come_back_as_they_went_in(self, storage: Storage, value: bytes) -> None:
        assert not write(storage, {"key": b"before", "other": b"untouched"})
        assert not write(storage, {"key": value})
        assert storage.read(["key", "other", "none"]) == [value, b"untouched", None]

    def test_hard_keys_all_at_once(self, storage: Storage) -> None:
        values = {key: f"value of {key!r}".encode() for key in HARD_KEYS}
        refused = write(storage, values)
        held = {key: value for key, value in values.items() if key not in refused}
        assert len(held) > len(values) // 2
        assert storage.read(list(held)) == list(held.values())
        assert set(listing(storage)) == set(held)
        assert storage.objects() == []

    def test_hard_keys_one_by_one(self, storage: Storage) -> None:
        for key in HARD_KEYS:
            if write(storage, {key: b"1"}):
                assert storage.read([key]) == [None]
                continue
            assert list(listing(storage)) == [key]
            assert not write(storage, {key: b"22"})
            assert storage.read([key]) == [b"22"]
            assert storage.delete([key]).refused == ()
            assert storage.read([key]) == [None]
            assert listing(storage) == {}

    @pytest.mark.parametrize("keys", [["a", "a/b", "a/b/c"], ["a/b/c", "a/b", "a"], ["a/b", "a", "a/b/c"]])
    def test_a_key_that_is_a_prefix_of_another(self, storage: Storage, keys: list[str]) -> None:
        held: dict[str, bytes] = {}
        for key in keys:
            if not write(storage, {key: key.encode()}):
                held[key] = key.encode()
            assert storage.read(keys) == [held.get(other) for other in keys]
            assert set(listing(storage)) == set(held)
        for key in keys:
            assert storage.delete([key]).refused == ()
            held.pop(key, None)
            assert storage.read(keys) == [held.get(other) for other in keys]
            assert set(listing(storage)) == set(held)

    def test_a_scan_is_complete_and_in_order(self, storage: Storage) -> None:
        keys = [
            "a",
            "a.b",
            "a/b",
            "a0",
            "b",
            "B",
            "é",
            "z",
            "\U0001f600",
            "\uff5e",
            *(f"k{i}" for i in range(300)),
        ]
        refused = write(storage, dict.fromkeys(reversed(keys), b"x"))
        assert set(listing(storage)) == set(keys) - refused
        assert storage.delete(keys[::2]).refused == ()
        assert set(listing(storage)) == set(keys[1::2]) - refused

    def test_tokens_tell_values_apart(self, storage: Storage) -> None:
        write(storage, {"a": b"1", "b": b"1"})
        before = listing(storage)
        assert listing(storage) == before
        written = storage.write(["a"], [b"2"])
        after = listing(storage)
        assert after["b"] == before["b"]
        assert after["a"] != before["a"]
        assert all(after.values())
        if written.tokens is not None:
            assert written.tokens == (after["a"],)

    def test_writing_on_condition(self, storage: Storage) -> None:
        write(storage, {"a": b"1", "b": b"2"})
        tokens = listing(storage)
        write(storage, {"b": b"3"})
        expect = [tokens["a"], tokens["b"], None, None]
        written = storage.write(["a", "b", "c", "b"][:3], [b"A", b"B", b"C"], expect[:3])
        assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("b", True)]
        assert storage.read(["a", "b", "c"]) == [b"A", b"3", b"C"]
        assert [r.key for r in storage.write(["c", "d"], [b"D", b"D"], [None, tokens["a"]]).refused] == [
            "c",
            "d",
        ]
        assert storage.read(["c", "d"]) == [b"C", None]

    def test_deleting_on_condition(self, storage: Storage) -> None:
        write(storage, {"a": b"1", "b": b"2", "c": b"3"})
        tokens = listing(storage)
        write(storage, {"b": b"3"})
        written = storage.delete(["a", "b", "c", "gone"], [tokens["a"], tokens["b"], None, tokens["c"]])
        assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("b", True), ("c", True)]
        assert storage.read(["a", "b", "c"]) == [None, b"3", b"3"]

    def test_a_thread_reads_while_another_writes(self, storage: Storage) -> None:
        keys = [f"k/{number}" for number in range(50)]
        write(storage, dict.fromkeys(keys, b"0" * 100))
        allowed = {b"%d" % turn * 100 for turn in range(10)}
        with ThreadPoolExecutor(1) as pool:
            reads = pool.submit(lambda: [storage.read(keys) for _ in range(20)])
            for turn in range(10):
                write(storage, dict.fromkeys(keys, b"%d" % turn * 100))
            for values in reads.result():
                assert all(isinstance(value, Unreadable) or value in allowed for value in values)

    def test_modified_is_about_now(self, storage: Storage) -> None:
        before = time.time() * 1000
        write(storage, {"a": b"1"})
        after = time.time() * 1000
        (modified, missing) = storage.modified_ms(["a", "b"])
        assert missing is None
        assert modified is None or before - 5000 <= modified <= after + 5000

    def test_ten_thousand_keys_in_a_batch(self, storage: Storage) -> None:
        keys = [f"group {number % 100}/{number:05d}" for number in range(10_000)]
        values = [b"%d" % number for number in range(10_000)]
        assert storage.write(keys, values).refused == ()
        assert storage.read(keys) == values
        assert set(listing(storage)) == set(keys)
        assert storage.delete(keys[:9_999]).refused == ()
        assert list(listing(storage)) == keys[9_999:]

    def test_closing_twice_is_fine(self, storage: Storage) -> None:
        write(storage, {"a": b"1"})
        storage.close()
        storage.close()
