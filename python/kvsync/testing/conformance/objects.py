"""Index objects: kept apart from values, and seen by every handle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvsync.storages.contract import ObjectMismatch, has_ranges
from kvsync.testing.conformance.hard import HARD_VALUES, SIZES, brief, value_of
from kvsync.testing.conformance.tools import listing, refuses, write
from kvsync.types import ABSENT, ANY

if TYPE_CHECKING:
    from kvsync.storages.contract import Storage
    from kvsync.types import Version

__all__ = ["ObjectTests", "RangeTests", "UniqueVersionTests"]


class ObjectTests:
    """Index objects are no values, and come back unchanged."""

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
        self.holds(storage, "lost/0123456789abcdef-0123456789abcdef-01234567", value, version)

    def holds(self, storage: Storage, name: str, data: bytes, version: Version) -> None:
        stored = storage.load(name)
        assert stored is not None
        assert brief([stored.data, stored.version]) == brief([data, version])

    @pytest.mark.parametrize("size", SIZES)
    def test_objects_of_any_size_come_back_whole(self, storage: Storage, size: int) -> None:
        version = storage.store("segment/0000000000000001-0", value_of(size), ABSENT)
        self.holds(storage, "segment/0000000000000001-0", value_of(size), version)
        again = storage.store("segment/0000000000000001-0", value_of(size, 1), version)
        self.holds(storage, "segment/0000000000000001-0", value_of(size, 1), again)

    def test_reopening_finds_the_same(self, storage: Storage, another: Storage) -> None:
        write(storage, {"a": b"1", "b/c": b"2"})
        version = storage.store("manifest", b"M", ABSENT)
        assert another.read(["a", "b/c"]) == [b"1", b"2"]
        assert another.load("manifest") == (b"M", version)
        assert listing(another) == listing(storage)
        another.store("manifest", b"N", version)
        refuses(storage, b"x", version)

    def test_a_handle_sees_the_objects_that_another_one_stores(self, storage: Storage, another: Storage) -> None:
        assert another.load("manifest") is None
        version = storage.store("manifest", b"0", ABSENT)
        for turn in range(1, 4):
            here, there = (another, storage) if turn % 2 else (storage, another)
            assert here.load("manifest") == (b"%d" % (turn - 1), version)
            version = here.store("manifest", b"%d" % turn, version)
            assert there.load("manifest") == (b"%d" % turn, version)


class RangeTests:
    """`SupportsRanges`: parts of an object are those of the whole."""

    def test_ranges_are_those_of_the_whole_object(self, storage: Storage) -> None:
        assert has_ranges(storage)
        name, data = "pack/0123456789abcdef0123456789abcdef", value_of(300_000)
        assert storage.load_ranges(name, [(0, 1)]) is None
        storage.store(name, data, ABSENT)
        for ranges in (
            [(0, 1)],
            [(0, len(data))],
            [(0, 24), (24, 100), (4_096, 100_000), (299_999, 1)],
            [(offset, 7) for offset in range(0, 100_000, 997)],
            [(299_990, 100)],
            [(100, 5), (400_000, 5)],
        ):
            read = storage.load_ranges(name, ranges)
            assert read is not None
            assert brief(read) == brief([data[offset : offset + length] for offset, length in ranges])
        storage.store("pack/empty", b"", ABSENT)
        assert storage.load_ranges("pack/empty", [(0, 1)]) == [b""]
        storage.remove([name], ANY)
        assert storage.load_ranges(name, [(0, 1)]) is None


class UniqueVersionTests:
    """An object that is stored anew with the same bytes has another version."""

    def test_a_version_does_not_come_back_with_the_same_bytes(self, storage: Storage) -> None:
        old = storage.store("lease", b"same", ABSENT)
        storage.remove(["lease"], old)
        storage.store("lease", b"same", ABSENT)
        with pytest.raises(ObjectMismatch):
            storage.store("lease", b"x", old)
        again = storage.store("lease", b"same", ANY)
        assert storage.store("lease", b"same", again) != again
