"""Storages that keep a journal: the database notes within each write which key it changes, and when.

A journal is never the truth: it says at which keys a scan has to look. What is there, and what was known of it, decides
as in any other scan. docs/journal.md has the design.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeGuard

from kvsync.storages.contract import Storage, Support

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kvsync.storages.contract import Pages

__all__ = ["JOURNAL_OBJECT", "Journal", "SupportsJournal", "has_journal"]

JOURNAL_OBJECT = "journal"
"""The index object that has the mark of the journal that belongs to the log."""


class Journal(NamedTuple):
    """What a journal says.

    Attributes:
        changed: {key: when it was last changed, in wall-clock milliseconds, or None where that is not known} of all
            that was changed since the last `settle`; None where anything may have changed.
        position: how far it was read, for `settle`.
        fault: why it cannot tell what has changed, and what to do, in words for people; empty where all is well, or
            gets well by itself after the next scan.
        scope: what the last `settle` was about, as it was given there.
    """

    changed: Mapping[str, int | None] | None
    position: bytes
    fault: str = ""
    scope: bytes = b""


class SupportsJournal(Storage, Protocol):
    """A transactional storage, with tokens that are digests, whose database can note which keys anybody changes.

    What is noted is part of the transaction that changes the values: it is committed, or undone, with them.
    """

    def track(self) -> bool:
        """Begin to note changes; return False if they are noted already. Until `settle`, anything may have changed.

        Raises:
            UsageError: that is not possible with this table.
            StorageError: the storage failed, or does not allow it.
        """
        ...

    def untrack(self) -> bool:
        """Note changes no more, and remove all that was made for it; return False if they were not noted.

        Raises:
            StorageError: the storage failed, or does not allow it.
        """
        ...

    def journal(self, count_max: int) -> Journal | None:
        """Return what was noted, or None if nothing is; where that is more than `count_max` keys, say anything changed.

        Only what is committed was noted: a transaction that is open now is read next time.

        Raises:
            StorageError: the storage failed.
        """
        ...

    def settle(self, position: bytes, scope: bytes = b"") -> None:
        """Forget what was noted up to a position, within a transaction whose log has all that was changed until then.

        All that is in the `scope`, which `journal` returns from then on. Anything that is forgotten otherwise, or could
        not be noted, makes the next `journal` say that anything changed.

        Raises:
            StorageError: the storage failed.
        """
        ...

    def listed(self, keys: Sequence[str]) -> Pages:
        """Yield those of some ascending keys that are there, as `scan` does.

        Raises:
            StorageError: the storage failed.
        """
        ...


def has_journal(storage: Storage) -> TypeGuard[SupportsJournal]:
    """Whether the database of `storage` can note which keys are changed."""
    return Support.JOURNAL in storage.capabilities.supports
