"""Broken storages: conditions of values, transactions, expiry and what is declared."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from sound import Mutant, Sound, State

from kvsync.storages import Support
from kvsync.types import Refusal, Written

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager


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

    def scan(self, splits: Sequence[str] = ()) -> Iterator[tuple[list[str], list[bytes]]]:
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
