"""Journals: the database notes which keys are changed, within the transaction that changes them."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from kvsync.storages.journal import has_journal
from kvsync.testing.conformance.tools import Interrupted, transactional, write

if TYPE_CHECKING:
    from kvsync.storages.contract import Storage
    from kvsync.storages.journal import Journal, SupportsJournal

__all__ = ["JournalTests"]

COUNT_MAX = 1_000


class JournalTests:
    """`SupportsJournal`: what is changed is named, until a run has logged it."""

    def test_what_anybody_changes_is_named_with_its_time(self, storage: Storage, another: Storage) -> None:
        tracked = _tracked(storage)
        before = _now_ms()
        write(another, {"a": b"1", "b/c": b"2"})
        another.delete(["a"])
        named = _named(tracked)
        assert set(named) == {"a", "b/c"}
        assert all(before - 2 <= (when or 0) <= _now_ms() + 2 for when in named.values())

    def test_until_it_is_settled_anything_may_have_changed(self, storage: Storage) -> None:
        write(storage, {"a": b"1"})
        assert has_journal(storage)
        assert storage.journal(COUNT_MAX) is None
        assert storage.track()
        assert not storage.track()
        journal = _read(storage)
        assert journal.changed is None
        assert not journal.fault
        _settle(storage, journal)
        assert _named(storage) == {}

    def test_what_is_undone_is_not_named(self, storage: Storage, another: Storage) -> None:
        tracked = _tracked(storage)
        with contextlib.suppress(Interrupted), transactional(another).transaction():
            write(another, {"a": b"1"})
            raise Interrupted
        assert _named(tracked) == {}

    def test_what_was_changed_after_it_was_read_stays_named(self, storage: Storage, another: Storage) -> None:
        tracked = _tracked(storage)
        write(another, {"a": b"1"})
        journal = _read(tracked)
        write(another, {"b": b"2"})
        _settle(tracked, journal)
        assert set(_named(tracked)) == {"b"}

    def test_what_is_forgotten_is_named_again_if_that_is_undone(self, storage: Storage, another: Storage) -> None:
        tracked = _tracked(storage)
        write(another, {"a": b"1"})
        journal = _read(tracked)
        with contextlib.suppress(Interrupted), transactional(storage).transaction():
            tracked.settle(journal.position)
            raise Interrupted
        assert set(_named(tracked)) == {"a"}

    def test_a_position_that_was_settled_before_forgets_nothing(self, storage: Storage, another: Storage) -> None:
        tracked = _tracked(storage)
        write(another, {"a": b"1"})
        journal = _read(tracked)
        _settle(tracked, journal)
        write(another, {"b": b"2"})
        _settle(tracked, journal)
        assert set(_named(tracked)) == {"b"}

    def test_more_keys_than_asked_for_are_not_named(self, storage: Storage, another: Storage) -> None:
        tracked = _tracked(storage)
        write(another, {"a": b"1", "b": b"2", "c": b"3"})
        assert set(_named(tracked, 3)) == {"a", "b", "c"}
        assert _read(tracked, 2).changed is None
        _settle(tracked, _read(tracked, 2))
        assert _named(tracked) == {}

    def test_what_is_not_tracked_any_more_is_not_named(self, storage: Storage, another: Storage) -> None:
        tracked = _tracked(storage)
        assert tracked.untrack()
        assert not tracked.untrack()
        write(another, {"a": b"1"})
        assert tracked.journal(COUNT_MAX) is None
        assert tracked.track()
        assert _read(tracked).changed is None

    def test_keys_are_listed_as_a_scan_lists_them(self, storage: Storage) -> None:
        tracked = _tracked(storage)
        values = {f"k/{number:04}": b"%d" % number for number in range(1_100)}
        write(storage, values)
        keys = ["a", *list(values)[::2], "k/0999", "z"]
        listed: list[str] = []
        for page, _ in tracked.listed(sorted(keys)):
            listed += page
        assert listed == sorted(set(keys) - {"a", "z"})


def _tracked(storage: Storage) -> SupportsJournal:
    """Track a storage, all of whose changes are taken to be logged."""
    write(storage, {"first": b""})
    assert has_journal(storage)
    storage.track()
    _settle(storage, _read(storage))
    return storage


def _read(storage: SupportsJournal, count_max: int = COUNT_MAX) -> Journal:
    journal = storage.journal(count_max)
    assert journal is not None
    return journal


def _named(storage: SupportsJournal, count_max: int = COUNT_MAX) -> dict[str, int | None]:
    changed = _read(storage, count_max).changed
    assert changed is not None
    return dict(changed)


def _settle(storage: SupportsJournal, journal: Journal) -> None:
    with transactional(storage).transaction():
        storage.settle(journal.position)


def _now_ms() -> int:
    return int(time.time() * 1000)
