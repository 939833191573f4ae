"""Storages that tell what they do not keep as given, and what they may lose by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeGuard

from kvsync.storages.contract import Storage, Support

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "SupportsLimits",
    "has_limits",
    "of_generated",
    "of_keys",
    "of_required",
    "of_texts",
    "of_triggers",
    "of_unique_values",
    "of_values",
]

SHOWN_COUNT = 5
"""A sentence names so many triggers, tables or columns."""


class SupportsLimits(Storage, Protocol):
    """A storage that finds out by looking what it does not keep as given, or may lose by itself."""

    def limits(self) -> list[str]:
        """Return what to know of this storage as it is now, one sentence each; write nothing.

        Name what applies to this one table or bucket, such as its triggers, and nothing that is true of all of its
        kind. `kvsync doctor` prints it.
        """
        ...


def has_limits(storage: Storage) -> TypeGuard[SupportsLimits]:
    """Whether `storage` tells its limits."""
    return Support.LIMITS in storage.capabilities.supports


def of_triggers(names: Iterable[str], what: str = "triggers") -> list[str]:
    """Return the limit of a table with triggers or rules."""
    sentence = "a row that one of them ignores, changes or refuses is refused by its key"
    return [f"the table has {what} ({shown}): {sentence}" for shown in _shown(names)]


def of_required(columns: Iterable[str]) -> list[str]:
    """Return the limit of a table with columns that a new row lacks."""
    sentence = "rows that exist are updated, and new keys are refused"
    return [f"a new row needs a value in other columns ({shown}): {sentence}" for shown in _shown(columns)]


def of_generated(columns: Iterable[str]) -> list[str]:
    """Return the limit of a table with columns that the database calculates."""
    sentence = "a row for which that fails is refused by its key"
    return [f"the database calculates columns of each row ({shown}): {sentence}" for shown in _shown(columns)]


def of_keys(kind: str) -> list[str]:
    """Return the limit of a key column that takes only some texts."""
    return [f"its keys are of the type {kind}: any other key is refused by name"]


def of_values(kind: str) -> list[str]:
    """Return the limit of a value column that does not take all bytes."""
    return [f"its values are of the type {kind}: what that type does not show unchanged is refused by its key"]


def of_texts() -> list[str]:
    """Return the limit of a value column of texts."""
    return ["its values are texts: bytes that are not UTF-8 are refused by their key"]


def of_unique_values() -> list[str]:
    """Return the limit of a value column with a unique index."""
    return ["no two rows have the same value: values that change places are refused by their keys"]


def _shown(names: Iterable[str]) -> list[str]:
    found = sorted(names)
    if not found:
        return []
    more = f" and {len(found) - SHOWN_COUNT} more" if len(found) > SHOWN_COUNT else ""
    return [f"{', '.join(found[:SHOWN_COUNT])}{more}"]
