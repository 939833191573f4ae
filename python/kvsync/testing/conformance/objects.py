"""Index objects: apart from values, and changed by compare-and-swap."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from kvsync.storages.contract import ObjectMismatch
from kvsync.testing.conformance.hard import HARD_VALUES
from kvsync.testing.conformance.tools import listing, refuses, write
from kvsync.types import ABSENT, ANY

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsync.storages.contract import Storage

__all__ = ["ObjectTests"]


class ObjectTests:
    """What kvsync takes for granted of index objects."""

    def test_objects_are_no_values_and_values_no_objects(self, storage: Storage) -> None:
        storage.store("manifest", b"M", ABSENT)
        storage.store("segment/0000000000000001-0", b"S", ABSENT)
        write(storage, {"manifest": b"value", "segment/0000000000000001-0": b"value", "lease": b"value"})
        assert storage.objects() == ["manifest", "segment/0000000000000001-0"]
        assert set(listing(storage)) == {"manifest", "segment/0000000000000001-0", "lease"}
        assert storage.load("lease") is None
        storage.remove(["manifest", "segment/0000000000000001-0"], ANY)
        assert storage.read(["manifest", "segment/0000000000000001-0"]) == [b"value", b"value"]
        assert storage.objects() == []

    def test_keys_like_ours_reach_no_object(self, storage: Storage) -> None:
        storage.store("manifest", b"M", ABSENT)
        keys = [".kvsync/manifest", ".KVSYNC/manifest", "./.kvsync/manifest", "/.kvsync/manifest", ".kvsync"]
        write(storage, dict.fromkeys(keys, b"attack"))
        storage.delete(keys)
        stored = storage.load("manifest")
        assert stored is not None
        assert stored.data == b"M"
        assert storage.objects() == ["manifest"]

    @pytest.mark.parametrize("value", HARD_VALUES.values(), ids=HARD_VALUES.keys())
    def test_objects_come_back_as_they_went_in(self, storage: Storage, value: bytes) -> None:
        version = storage.store("lost/0123456789abcdef-0123456789abcdef-01234567", value, ABSENT)
        assert storage.load("lost/0123456789abcdef-0123456789abcdef-01234567") == (value, version)

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

    def test_reopening_finds_the_same(self, storage: Storage, another: Storage) -> None:
        write(storage, {"a": b"1", "b/c": b"2"})
        version = storage.store("manifest", b"M", ABSENT)
        assert another.read(["a", "b/c"]) == [b"1", b"2"]
        assert another.load("manifest") == (b"M", version)
        assert listing(another) == listing(storage)
        another.store("manifest", b"N", version)
        refuses(storage, b"x", version)

    def test_eight_threads_and_one_winner(self, storage: Storage, reopen: Callable[[], Storage]) -> None:
        storage.store("manifest", b"M", ABSENT)
        for turn in range(5):
            barrier = Barrier(8)

            def race(number: int, barrier: Barrier = barrier, turn: int = turn) -> bool:
                with contextlib.closing(reopen()) as mine:
                    barrier.wait(30)
                    try:
                        mine.store("lease", b"%d of turn %d" % (number, turn), ABSENT)
                    except ObjectMismatch:
                        return False
                    return True

            with ThreadPoolExecutor(8) as pool:
                won = list(pool.map(race, range(8)))
            assert won.count(True) == 1
            stored = storage.load("lease")
            assert stored is not None
            assert stored.data == b"%d of turn %d" % (won.index(True), turn)
            storage.remove(["lease"], ANY)
