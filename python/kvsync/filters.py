"""Filters: which keys a run leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvsync.errors import UsageError
from kvsync.native import Filter, digest_values
from kvsync.storages.capabilities import Tier
from kvsync.storages.wrapper import innermost

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kvsync.native import FoundValues
    from kvsync.storages.contract import Storage

__all__ = ["IGNORE_FILE", "KeyFilter", "filter_of"]

IGNORE_FILE: Final = ".kvsyncignore"
"""The key of a value of a folder whose lines are patterns of keys to leave out; it is synced like any other."""

SCOPE_BYTES: Final = 16


class KeyFilter:
    """Says which keys to leave out: those that nothing includes, or that any list excludes.

    Attributes:
        scope: some bytes that only filters of the same patterns have.

    >>> sorted(KeyFilter(["*.md"], [["drafts/"]]).excluded(["a.md", "b.txt", "drafts/c.md"]))
    ['b.txt', 'drafts/c.md']
    """

    def __init__(self, include: Sequence[str], excludes: Iterable[Sequence[str]]) -> None:
        included = [Filter(include, [])] if include else []
        excluding = [list(exclude) for exclude in excludes if exclude]
        self._filters = included + [Filter([], exclude) for exclude in excluding]
        self.scope = digest_values([repr((list(include), excluding)).encode()])[0][:SCOPE_BYTES]

    def excluded(self, keys: Sequence[str]) -> set[str]:
        """Return those of some keys that are left out."""
        found: set[str] = set()
        for each in self._filters:
            found.update(each.excluded(keys))
        return found

    def excluded_of(self, found: FoundValues) -> set[str]:
        """Return the keys that are left out of what a scan found."""
        return {key for each in self._filters for key in found.excluded(each)}


def filter_of(include: Sequence[str], exclude: Sequence[str], storages: Iterable[Storage]) -> KeyFilter | None:
    """Return what a run leaves out: by its options, and by files in folders; None if nothing.

    Raises:
        StorageError: a folder cannot be read.
    """
    files = [lines for storage in storages if (lines := _lines_of(storage))]
    return KeyFilter(include, [*files, exclude]) if include or exclude or files else None


def _lines_of(storage: Storage) -> list[str]:
    """Return the patterns in the file of a folder.

    Raises:
        UsageError: it cannot be read, or is not UTF-8.
    """
    folder = innermost(storage)
    if folder.capabilities.tier is not Tier.FOLDER:
        return []
    (value,) = folder.read([IGNORE_FILE])
    if value is None:
        return []
    try:
        return value.decode("utf-8-sig").splitlines() if isinstance(value, bytes) else _refuse(storage, value.reason)
    except UnicodeDecodeError:
        return _refuse(storage, "it is not UTF-8")


def _refuse(storage: Storage, why: str) -> list[str]:
    message = f"{IGNORE_FILE} cannot be read: {why}; without it nobody knows what to leave out"
    raise UsageError(message, storage=storage.name, key=IGNORE_FILE)
