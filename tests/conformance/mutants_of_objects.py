"""Broken storages: index objects, and the lock around them. `caught_by` names the tests that must fail."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from sound import Mutant

from kvsync.storages import Capabilities, ObjectMismatch, Support, Tier
from kvsync.storages.sqlite import SqliteStorage
from kvsync.types import ABSENT, ANY, Stored

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from kvsync.types import Expectation, Version

_process_lock = threading.Lock()
MEBIBYTE = 1 << 20


class SwapsWithoutLock(Mutant):
    """Compares, then swaps: another thread gets in between."""

    caught_by = ("test_threads_that_replace_an_object_lose_no_update",)

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        self.check(name, expect)
        stored = Stored(data, self.new_version(name))
        self.state.objects[name] = stored
        return stored.version


class CreatesWithoutLock(Mutant):
    """Looks whether an object is absent, then creates it; replacing one is atomic."""

    caught_by = ("test_of_many_threads_one_creates_an_object",)

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        if expect is ABSENT:
            self.check(name, expect)
            expect = ANY
        return super().store(name, data, expect)


class RemovesWithoutLock(Mutant):
    """Compares, then removes."""

    caught_by = ("test_of_many_threads_one_removes_an_object",)

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        for name in names:
            self.check(name, expect)
        for name in names:
            self.state.objects.pop(name, None)


class LocksItsHandles(Mutant):
    """Each handle has a lock of its own."""

    caught_by = ("test_threads_that_replace_an_object_lose_no_update",)

    def locked(self) -> AbstractContextManager[object]:
        lock: threading.RLock = self.__dict__.setdefault("lock", threading.RLock())
        return lock


class HandlesForOneThread(Mutant):
    """Locks other handles out, not another thread with the same handle."""

    caught_by = ("test_threads_that_share_a_handle_lose_no_update",)

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        users: list[int] = self.__dict__.setdefault("users", [])
        if users:
            return self.unlocked_store(name, data, expect)
        with self.locked():
            users.append(1)
            try:
                return self.unlocked_store(name, data, expect)
            finally:
                users.clear()

    def unlocked_store(self, name: str, data: bytes, expect: Expectation) -> Version:
        self.check(name, expect)
        stored = Stored(data, self.new_version(name))
        self.state.objects[name] = stored
        return stored.version


class CreateOverwrites(Mutant):
    """Takes `ABSENT` for no condition."""

    caught_by = ("test_compare_and_swap",)

    def check(self, name: str, expect: Expectation) -> None:
        if expect is not ABSENT:
            super().check(name, expect)


class StaleReplaceAccepted(Mutant):
    """Replaces an object that exists, whatever its version is."""

    caught_by = ("test_compare_and_swap",)

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        known = name in self.state.objects and expect is not ABSENT
        return super().store(name, data, ANY if known else expect)


class StaleRemoveAccepted(Mutant):
    """Removes an object that exists, whatever its version is."""

    caught_by = ("test_removing_on_condition",)

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        super().remove(names, ANY if names and names[0] in self.state.objects else expect)


class VersionsComeBack(Mutant):
    """Counts versions for each object, and from the start again once it was removed."""

    caught_by = ("test_a_version_does_not_come_back_with_other_bytes",)

    def new_version(self, name: str) -> Version:
        stored = self.state.objects.get(name)
        return b"%d" % (int(stored.version) + 1 if stored else 0)


class ObjectsCut(Mutant):
    """Stores a mebibyte of an object."""

    caught_by = ("test_objects_of_any_size_come_back_whole",)

    def stored_object(self, data: bytes) -> bytes:
        return data[:MEBIBYTE]


class ObjectsCached(Mutant):
    """A handle goes on seeing an object as it first saw it."""

    caught_by = ("test_a_handle_sees_the_objects_that_another_one_stores",)

    def load(self, name: str) -> Stored | None:
        cache: dict[str, Stored | None] = self.__dict__.setdefault("cache", {})
        return cache.setdefault(name, super().load(name))

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        version = super().store(name, data, expect)
        self.__dict__.setdefault("cache", {})[name] = Stored(data, version)
        return version

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        super().remove(names, expect)
        self.__dict__.setdefault("cache", {}).clear()


class ObjectsAreValues(Mutant):
    """Keeps index objects among the values."""

    caught_by = ("test_objects_are_no_values_and_values_no_objects",)

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        self.put(f".kvsync/{name}", data, 0)
        return super().store(name, data, expect)


class LocksItsProcessOnly(SqliteStorage):
    """Compares and swaps under a lock that other processes do not see."""

    caught_by = ("test_processes_that_replace_an_object_lose_no_update",)
    capabilities = Capabilities(
        Tier.TRANSACTIONAL, distance="mapped", supports=SqliteStorage.capabilities.supports - {Support.DRY_PROBE}
    )

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        with _process_lock:
            stored = self.load(name)
            if expect is not ANY and (stored and stored.version) != (None if expect is ABSENT else expect):
                raise ObjectMismatch(name)
            return super().store(name, data, ANY)


class CountsRangesFromOne(Mutant):
    """Reads ranges as SQL counts bytes."""

    caught_by = ("test_ranges_are_those_of_the_whole_object",)

    def load_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
        return super().load_ranges(name, [(max(offset - 1, 0), length) for offset, length in ranges])


class HasRangesOfAbsentObjects(Mutant):
    """Takes an absent object for an empty one."""

    caught_by = ("test_ranges_are_those_of_the_whole_object",)

    def load_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
        found = super().load_ranges(name, ranges)
        return [b""] * len(ranges) if found is None else found
