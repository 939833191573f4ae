"""Begin and end to track a storage: its database notes which keys are changed, so that a scan looks at no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.errors import UsageError
from kvsync.opening import opened
from kvsync.storages.journal import has_journal

if TYPE_CHECKING:
    from kvsync.storages import Target
    from kvsync.storages.contract import Storage
    from kvsync.storages.journal import SupportsJournal

__all__ = ["track", "untrack"]


def track(storage: Target) -> bool:
    """Have the database of a table note each key that anybody changes, and when; return False if it does already.

    A scan then looks at these keys alone, and their changes have exact times. The first scan looks at everything. What
    it takes is a journal table and triggers, in the database of the table. SQLite and PostgreSQL have them.

    Raises:
        UsageError: this storage cannot be tracked.
        StorageError: the storage failed, does not exist, or does not allow it.
    """
    with opened(storage) as one:
        return _journaling(one).track()


def untrack(storage: Target) -> bool:
    """Remove all that `track` made; return False if there was nothing. Scans look at everything again.

    Raises:
        UsageError: this storage cannot be tracked.
        StorageError: the storage failed, does not exist, or does not allow it.
    """
    with opened(storage) as one:
        return _journaling(one).untrack()


def _journaling(storage: Storage) -> SupportsJournal:
    """Return a storage as one that may have a journal.

    Raises:
        UsageError: it cannot have one.
    """
    if has_journal(storage):
        return storage
    message = "it has no database that could note changes: only tables of SQLite and PostgreSQL can be tracked"
    raise UsageError(message, storage=storage.name)
