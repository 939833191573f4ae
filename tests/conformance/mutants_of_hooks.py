"""Broken storages: what a store does by itself goes unnoticed, or takes the rest with it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sound import Mutant, Sound

from kvsync.errors import StorageError
from kvsync.storages import Support
from kvsync.types import Refusal, Skipped, Unreadable, Written

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class NoticesOnlyNewKeys(Mutant):
    """Hints at nothing when a value is overwritten."""

    caught_by = ("test_a_hint_comes_for_whatever_another_handle_writes",)

    def noticed(self) -> object:
        return set(self.state.values)


class NoticesItsIndex(Mutant):
    """Hints at what a run writes to the index, so that runs never end."""

    caught_by = ("test_no_hint_comes_for_index_objects_of_our_own",)

    def noticed(self) -> object:
        return dict(self.state.values), dict(self.state.objects)


class RefusalIgnored(Mutant):
    """Does not look whether the store did what it was told."""

    caught_by = (
        "test_a_key_that_is_not_written_as_told_is_refused_alone",
        "test_a_key_that_is_not_deleted_as_told_is_refused_alone",
    )

    def write_expiring(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expires: Sequence[int],
        expect: Sequence[bytes | None] | None = None,
    ) -> Written:
        written = super().write_expiring(keys, values, expires, expect)
        return Written(tuple(refusal for refusal in written.refused if refusal.changed), written.tokens)

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        return Written(tuple(refusal for refusal in super().delete(keys, expect).refused if refusal.changed))


class RefusedRowEndsWrite(Mutant):
    """Lets the error of one row undo the whole statement."""

    caught_by = ("test_a_key_that_is_not_written_as_told_is_refused_alone",)

    def write_expiring(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expires: Sequence[int],
        expect: Sequence[bytes | None] | None = None,
    ) -> Written:
        if self.disk.hindered.intersection(keys):
            message = "RAISE(ABORT)"
            raise StorageError(message)
        return super().write_expiring(keys, values, expires, expect)


class RefusedRowEndsDelete(Mutant):
    """Lets the error of one row undo the whole delete, and refuses all of it."""

    caught_by = ("test_a_key_that_is_not_deleted_as_told_is_refused_alone",)

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        if self.disk.hindered.intersection(keys):
            return Written(tuple(Refusal(key, "RAISE(ABORT)", changed=False) for key in keys))
        return super().delete(keys, expect)


class NoValueIsAbsent(Mutant):
    """Takes what is no value for nothing."""

    caught_by = (
        "test_what_is_no_value_is_neither_a_value_nor_absent",
        "test_a_run_names_what_is_no_value_and_moves_the_rest",
    )

    def shown(self, key: str) -> bytes | Unreadable | None:
        return None if key in self.disk.spoiled else super().shown(key)


class NoValueIsEmpty(Mutant):
    """Takes what is no value for an empty one."""

    caught_by = (
        "test_what_is_no_value_is_neither_a_value_nor_absent",
        "test_a_run_names_what_is_no_value_and_moves_the_rest",
    )

    def shown(self, key: str) -> bytes | Unreadable | None:
        return b"" if key in self.disk.spoiled else super().shown(key)


class NoValueFailsScan(Mutant):
    """Fails the whole scan for one key."""

    caught_by = ("test_what_is_no_value_fails_no_scan", "test_a_run_names_what_is_no_value_and_moves_the_rest")

    def scan(self, splits: Sequence[str] = ()) -> Iterator[tuple[list[str], list[bytes]]]:
        if self.disk.spoiled:
            message = "it has a key that is no value"
            raise StorageError(message)
        yield from super().scan(splits)


class NoValueEndsScan(Mutant):
    """Lists nothing after what is no value."""

    caught_by = ("test_what_is_no_value_fails_no_scan",)

    def listed(self) -> list[str]:
        end = min(self.disk.spoiled, default="\U0010ffff")
        return [key for key in super().listed() if key < end]


class NoValueIsOverwrittenOnCondition(Mutant):
    """Takes what is no value for what the writer expects: nothing."""

    caught_by = ("test_what_is_no_value_is_not_written_over_on_condition",)

    def write_expiring(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expires: Sequence[int],
        expect: Sequence[bytes | None] | None = None,
    ) -> Written:
        for key, wanted in zip(keys, expect or (), strict=False):
            if wanted is None and key in self.disk.spoiled:
                self.disk.spoiled.discard(key)
                self.state.values.pop(key, None)
        return super().write_expiring(keys, values, expires, expect)


class NoValueIsOverwritten(Mutant):
    """Refuses to write over what is no value, and has done so."""

    caught_by = ("test_a_write_without_a_condition_over_what_is_no_value_is_done_or_refused",)

    def write_expiring(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expires: Sequence[int],
        expect: Sequence[bytes | None] | None = None,
    ) -> Written:
        written = super().write_expiring(keys, values, expires, expect)
        if expect is None:
            self.disk.spoiled.difference_update(keys)
        return written


class MisnamedFailsScan(Mutant):
    """Fails the whole scan for one name."""

    caught_by = ("test_a_name_that_cannot_be_a_key_fails_no_scan_and_is_reported",)

    def scan(self, splits: Sequence[str] = ()) -> Iterator[tuple[list[str], list[bytes]]]:
        for name in self.disk.misnamed:
            message = f"{name} cannot be a key"
            raise StorageError(message)
        yield from super().scan(splits)


class MisnamedIsHarmless(Mutant):
    """Leaves a value behind, and says that this is fine."""

    caught_by = ("test_a_name_that_cannot_be_a_key_fails_no_scan_and_is_reported",)

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        return tuple(entry._replace(harmless=True) for entry in super().skipped)


class MisnamedIsNotReported(Mutant):
    """Leaves a value behind without a word."""

    caught_by = ("test_a_name_that_cannot_be_a_key_fails_no_scan_and_is_reported",)
    capabilities = replace(Sound.capabilities, supports=Sound.capabilities.supports - {Support.SKIPPED})


class WhatIsBesideIsLost(Mutant):
    """Replaces a whole row, with what is kept beside the value."""

    caught_by = ("test_what_is_kept_beside_a_value_stays",)

    def put(self, key: str, value: bytes, due: int) -> None:
        super().put(key, value, due)
        self.disk.beside.pop(key, None)
