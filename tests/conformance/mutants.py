"""Broken storages, each of which breaks one promise of the contract; `caught_by` names the tests that must fail."""

from __future__ import annotations

import hashlib
import threading
import time
import unicodedata
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from sound import PAGE, Sound, State

from kvsync.storages import Capabilities, ObjectMismatch, OpaqueTokens, Support, Tier
from kvsync.storages.sqlite import SqliteStorage
from kvsync.types import ABSENT, ANY, Refusal, Stored, Written

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from kvsync.types import Expectation, Version

MEBIBYTE = 1 << 20
_process_lock = threading.Lock()


class Mutant(Sound):
    """A storage with one fault."""

    caught_by: ClassVar[tuple[str, ...]]


# Index objects


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


# Values


class ValuesCutAtMebibyte(Mutant):
    """Stores a mebibyte of a value."""

    caught_by = ("test_no_size_is_special", "test_a_very_large_value_comes_back_whole_or_is_refused")

    def stored_value(self, value: bytes) -> bytes:
        return value[:MEBIBYTE]


class ValuesCutAtColumn(Mutant):
    """Stores 65,535 bytes of a value, as a column of a too short type does."""

    caught_by = ("test_no_size_is_special",)

    def stored_value(self, value: bytes) -> bytes:
        return value[:65_535]


class LastByteLost(Mutant):
    """Loses the last byte of a value of exactly one mebibyte."""

    caught_by = ("test_no_size_is_special",)

    def stored_value(self, value: bytes) -> bytes:
        return value[:-1] if len(value) == MEBIBYTE else value


class EmptyValueLost(Mutant):
    """Takes an empty value for none."""

    caught_by = ("test_an_empty_value_is_not_an_absent_one",)

    def found(self, key: str) -> tuple[bytes, int] | None:
        entry = super().found(key)
        return entry if entry and entry[0] else None


class KeysNormalised(Mutant):
    """Normalises keys, as some file systems do."""

    caught_by = ("test_hard_keys_all_at_once", "test_hard_keys_one_by_one")

    def stored_key(self, key: str) -> str:
        return unicodedata.normalize("NFC", key)


class KeysFolded(Mutant):
    """Does not tell upper from lower case, as some file systems and collations do not."""

    caught_by = ("test_hard_keys_all_at_once", "test_hard_keys_one_by_one")

    def stored_key(self, key: str) -> str:
        return key.casefold()


class KeysStripped(Mutant):
    """Drops spaces at the end of a key, as padded columns do."""

    caught_by = ("test_hard_keys_all_at_once", "test_hard_keys_one_by_one")

    def stored_key(self, key: str) -> str:
        return key.rstrip(" ")


class KeysCut(Mutant):
    """Stores 255 characters of a key."""

    caught_by = ("test_hard_keys_all_at_once", "test_hard_keys_one_by_one")

    def stored_key(self, key: str) -> str:
        return key[:255]


class ValuesCached(Mutant):
    """A handle goes on seeing a value as it first saw it."""

    caught_by = ("test_a_handle_sees_what_another_one_writes",)

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        cache: dict[str, bytes | None] = self.__dict__.setdefault("values", {})
        return [cache.setdefault(key, value) for key, value in zip(keys, super().read(keys), strict=True)]


class SecondsForMilliseconds(Mutant):
    """Reports modification times in seconds."""

    caught_by = ("test_modified_is_about_now",)

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        return [int(time.time()) if self.found(key) else None for key in keys]


# Listings


class ListingUnsorted(Mutant):
    """Lists keys in the order in which they came."""

    caught_by = ("test_a_scan_is_complete_and_in_order",)

    def listed(self) -> list[str]:
        return list(self.state.values)


class ListingSortedForPeople(Mutant):
    """Lists keys as a dictionary would, regardless of case."""

    caught_by = ("test_a_scan_is_complete_and_in_order",)

    def listed(self) -> list[str]:
        return sorted(self.state.values, key=str.casefold)


class LastPageLost(Mutant):
    """Lists only full pages."""

    caught_by = ("test_a_scan_is_complete_and_in_order",)

    def pages(self, pairs: list[tuple[str, bytes]]) -> list[list[tuple[str, bytes]]]:
        return [page for page in super().pages(pairs) if len(page) == PAGE]


class ListingCutOff(Mutant):
    """Lists a thousand keys and says nothing of the others."""

    caught_by = ("test_ten_thousand_keys_in_a_batch",)

    def pages(self, pairs: list[tuple[str, bytes]]) -> list[list[tuple[str, bytes]]]:
        return super().pages(pairs)[:1]


class PagesOverlap(Mutant):
    """Begins each page with the last key of the one before."""

    caught_by = ("test_ten_thousand_keys_in_a_batch",)

    def pages(self, pairs: list[tuple[str, bytes]]) -> list[list[tuple[str, bytes]]]:
        return [pairs[max(start - 1, 0) : start + PAGE] for start in range(0, len(pairs), PAGE)]


# Tokens


class TokensOfAnotherHash(Mutant):
    """Declares BLAKE3 and uses SHA-256."""

    caught_by = ("test_tokens_are_the_blake3_of_their_values",)

    def token(self, value: bytes, due: int) -> bytes:
        return hashlib.sha256(value).digest() + (b"%d" % due if due else b"")


class TokensOfSizes(Mutant):
    """Its own tokens are the sizes of the values."""

    caught_by = ("test_tokens_tell_values_apart",)
    capabilities = replace(Sound.capabilities, tokens=OpaqueTokens())

    def token(self, value: bytes, due: int) -> bytes:
        return b"%d %d" % (len(value), due)


# Conditions


class WritesValuesWithoutLock(Mutant):
    """Compares a value, then writes: another thread gets in between."""

    caught_by = ("test_threads_that_replace_a_value_lose_no_update", "test_of_many_threads_one_creates_a_value")

    def locked(self) -> AbstractContextManager[object]:
        return nullcontext()


class FirstConditionOnly(Mutant):
    """Looks at the condition of the first key of a batch."""

    caught_by = ("test_writing_on_condition",)

    def refusals(self, keys: Sequence[str], expect: Sequence[bytes | None] | None) -> dict[str, Refusal]:
        return super().refusals(keys[:1], expect and expect[:1])


class AbsentIsNoCondition(Mutant):
    """Takes `None` in `expect` for no condition, not for "absent"."""

    caught_by = ("test_creating_on_condition_never_replaces",)

    def matches(self, key: str, wanted: bytes | None) -> bool:
        return wanted is None or super().matches(key, wanted)


class RefusedKeyStopsBatch(Mutant):
    """Writes nothing after a key that it refuses, and does not say so."""

    caught_by = ("test_a_refused_key_leaves_the_rest_of_its_batch_alone",)

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        refused = self.refusals(keys, expect)
        end = next((place for place, key in enumerate(keys) if key in refused), len(keys))
        super().write(keys[:end], values[:end])
        return Written(tuple(refused.values()))


class BatchIsAllOrNothing(Mutant):
    """Writes nothing if it refuses a key."""

    caught_by = ("test_a_refused_key_leaves_the_rest_of_its_batch_alone",)

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        refused = self.refusals(keys, expect)
        return Written(tuple(refused.values())) if refused else super().write(keys, values)


class DeleteIgnoresConditions(Mutant):
    """Deletes whatever is there."""

    caught_by = ("test_deleting_on_condition",)

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        return super().delete(keys)


class AbsentKeyNotDeleted(Mutant):
    """Refuses to delete an absent key."""

    caught_by = ("test_an_empty_storage_has_nothing",)

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        absent = [Refusal(key, "no such key", changed=False) for key in keys if not self.found(key)]
        return Written((*super().delete(keys, expect).refused, *absent))


# Transactions


class LargeValuesNotUndone(Mutant):
    """Keeps large values in files of their own, which no transaction undoes."""

    caught_by = ("test_a_transaction_undoes_values_of_any_size",)

    def put(self, key: str, value: bytes, due: int) -> None:
        super().put(key, value, due)
        if len(value) >= 1 << 15:
            self.disk.state.values[key] = (value, due)


class DeletesNotUndone(Mutant):
    """Deletes at once, also inside a transaction."""

    caught_by = ("test_a_transaction_undoes_values_of_any_size",)

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        before = self.state.values.keys() - set()
        written = super().delete(keys, expect)
        for key in before - self.state.values.keys():
            self.disk.state.values.pop(key, None)
        return written


class ObjectsNotUndone(Mutant):
    """Keeps index objects where no transaction undoes them."""

    caught_by = ("test_a_transaction_undoes_everything", "test_a_transaction_undoes_objects_of_any_size")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self.disk.lock:
            self.own = State(dict(self.disk.state.values), self.disk.state.objects)
            try:
                yield
                self.disk.state = self.own
            finally:
                self.own = None


class NothingUndone(Mutant):
    """Has transactions that only lock."""

    caught_by = ("test_a_transaction_undoes_everything", "test_a_transaction_commits_as_one")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self.disk.lock:
            yield


# Expiry


class ExpiryIgnored(Mutant):
    """Keeps the time at which a value expires, and does nothing then."""

    caught_by = ("test_a_time_in_the_past_leaves_the_key_absent",)

    def found(self, key: str) -> tuple[bytes, int] | None:
        return self.state.values.get(key)


class ExpiredStillListed(Mutant):
    """Lists a value that has expired, until somebody cleans up."""

    caught_by = ("test_an_expired_value_is_absent_for_every_method",)

    def scan(self) -> Iterator[tuple[list[str], list[bytes]]]:
        pairs = [(key, self.token(*self.state.values[key])) for key in self.listed()]
        for page in self.pages(pairs):
            yield [key for key, _ in page], [token for _, token in page]


class ExpiryStays(Mutant):
    """A plain write keeps the time at which the value before it was to expire."""

    caught_by = ("test_a_plain_write_makes_a_value_never_expire",)

    def put(self, key: str, value: bytes, due: int) -> None:
        before = self.found(key)
        super().put(key, value, due or (before[1] if before else 0))


class ExpiryNotInToken(Mutant):
    """The same value with another expiry has the same token."""

    caught_by = ("test_the_same_value_with_another_expiry_has_another_token",)

    def token(self, value: bytes, due: int) -> bytes:
        return super().token(value, 0)


# Declarations


class DeclaresLess(Mutant):
    """Does not declare its transactions, so that nobody would use or test them."""

    caught_by = ("test_it_declares_what_is_expected",)
    capabilities = replace(Sound.capabilities, supports=frozenset({Support.EXPIRY}))


class DeclaresMore(Mutant):
    """Declares a protocol of which it has no method."""

    caught_by = ("test_it_has_what_it_declares",)
    capabilities = replace(Sound.capabilities, supports=Sound.capabilities.supports | {Support.SIZES})


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


MUTANTS: dict[str, type[Mutant]] = {mutant.__name__: mutant for mutant in Mutant.__subclasses__()}
