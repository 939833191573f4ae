"""Tracking: the journal of a storage tells a scan at which keys to look, instead of a listing of all of them.

What is there and what was known of it decides, as in a scan of everything: the two differ in where they look. So a key
that a journal names for nothing costs a look, and is no change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.storages.contract import has_expiry
from kvsync.storages.journal import has_journal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.replica.log import Log
    from kvsync.scan.budget import Budget
    from kvsync.storages.journal import Journal

__all__ = ["may_exceed", "missed", "read_journal"]

COUNT_MIN = 1_000
"""So many keys are always looked at one by one."""

MANY_SHARE = 8
"""If more than one logged change in so many was followed by another, a scan of everything is cheaper."""


def read_journal(log: Log, scope: bytes = b"") -> Journal | None:
    """Return what the journal of a storage says, or None if it has none.

    One that was last settled by a run that left out other keys says nothing of these: anything may have changed.

    Raises:
        StorageError: the storage failed.
    """
    if not has_journal(log.storage):
        return None
    found = log.storage.journal(max(COUNT_MIN, sum(entry.length for entry in log.manifest.segments) // MANY_SHARE))
    return found if found is None or found.scope == scope else found._replace(changed=None)


def may_exceed(budget: Budget, log: Log, deletes: Sequence[str], overwritten: Sequence[str]) -> bool:
    """Whether so many deleted or overwritten keys may be more than is allowed: only a scan of everything can tell.

    How many keys there are nobody has counted. At least those are known that the oldest segment puts, but for as many
    as newer segments delete.
    """
    if not (deletes or overwritten):
        return False
    known = _known_min(log)
    return (bool(deletes) and len(deletes) >= known) or not budget.allows(len(deletes) + len(overwritten), known)


def _known_min(log: Log) -> int:
    """Return how many keys with values the log has at least."""
    entries = log.manifest.segments
    if not entries:
        return 0
    base, *newer = entries
    missing = len(log.manifest.knowledge.missing)
    return max(0, base.length - base.passing_length - sum(entry.passing_length for entry in newer) - missing)


def missed(log: Log, keys: Sequence[str], journal: Journal) -> list[str]:
    """Return the keys, of those that a scan of everything found to be changed, that a journal should have named.

    What was changed after it was read it names by now. That a value has expired it never tells.

    Raises:
        StorageError: the storage failed.
    """
    named = journal.changed
    if named is None or all(key in named for key in keys) or has_expiry(log.storage):
        return []
    again = read_journal(log)
    later = again.changed if again is not None else None
    return [key for key in keys if key not in named and key not in later] if later is not None else []
