"""Values: what is written comes back unchanged, and is listed."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from kvsync.testing.conformance.hard import HARD_KEYS, HARD_VALUES, brief, value_of
from kvsync.testing.conformance.tools import listing, write
from kvsync.types import ANY, Unreadable

if TYPE_CHECKING:
    from kvsync.storages.contract import Storage

__all__ = ["ValueTests", "check_batch"]


class ValueTests:
    """Values and keys of any kind come back unchanged, whoever reads them."""

    def test_an_empty_storage_has_nothing(self, storage: Storage) -> None:
        assert storage.read(["a", "b/c", ""]) == [None, None, None]
        assert storage.read([]) == []
        assert listing(storage) == {}
        assert storage.objects() == []
        assert storage.load("manifest") is None
        assert storage.modified_ms(["a"]) == [None]
        assert storage.delete(["a", "b/c"]).refused == ()
        storage.remove(["segment/0000000000000001-0"], ANY)

    def test_an_empty_batch_does_nothing(self, storage: Storage) -> None:
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
        assert brief(storage.read(["key", "other", "none"])) == brief([value, b"untouched", None])

    @pytest.mark.parametrize("around", [1 << 12, 1 << 15, 1 << 16, 1_000_000, 1 << 20])
    def test_no_size_is_special(self, storage: Storage, around: int) -> None:
        values = {f"{size} bytes": value_of(size) for size in (around - 1, around, around + 1)}
        refused = write(storage, values)
        expected = [None if key in refused else value for key, value in values.items()]
        assert brief(storage.read(list(values))) == brief(expected)
        assert set(listing(storage)) == values.keys() - refused

    def test_a_very_large_value_comes_back_whole_or_is_refused(self, storage: Storage) -> None:
        value = value_of(9 << 20)
        refused = write(storage, {"large": value, "small": b"1"})
        assert "small" not in refused
        assert brief(storage.read(["large", "small"])) == brief([None if refused else value, b"1"])

    def test_an_empty_value_is_not_an_absent_one(self, storage: Storage, another: Storage) -> None:
        write(storage, {"empty": b"", "emptied": b"1"})
        write(storage, {"emptied": b""})
        for handle in (storage, another):
            assert handle.read(["empty", "emptied", "absent"]) == [b"", b"", None]
            assert list(listing(handle)) == ["emptied", "empty"]

    def test_a_handle_sees_what_another_one_writes(self, storage: Storage, another: Storage) -> None:
        keys = ["a", "b", "c"]
        assert another.read(keys) == storage.read(keys) == [None] * 3
        for turn in range(3):
            here, there = (storage, another) if turn % 2 == 0 else (another, storage)
            write(here, {"a": b"%d" % turn, "b": b"%d" % turn})
            assert there.read(keys) == [b"%d" % turn, b"%d" % turn, None]
            here.delete(["b"])
            assert there.read(keys) == [b"%d" % turn, None, None]
            assert list(listing(there)) == ["a"]

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
        check_batch(storage, 10_000)

    def test_closing_twice_is_fine(self, storage: Storage) -> None:
        write(storage, {"a": b"1"})
        storage.close()
        storage.close()


def check_batch(storage: Storage, count: int) -> None:
    """Write, read, list and delete so many keys in a batch each."""
    keys = [f"group {number % 100}/{number:05d}" for number in range(count)]
    values = [b"%d" % number for number in range(count)]
    assert storage.write(keys, values).refused == ()
    assert storage.read(keys) == values
    assert set(listing(storage)) == set(keys)
    assert storage.delete(keys[:-1]).refused == ()
    assert list(listing(storage)) == keys[-1:]
