"""Trying a storage that kvsync has never written to, so that nothing of it stays."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol, TypeGuard, runtime_checkable

from kvsync.storages.base import Storage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from kvsync.storages.base import SupportsTransaction

__all__ = ["SupportsRehearsal", "has_rehearsal", "undone"]


@runtime_checkable
class SupportsRehearsal(Storage, Protocol):
    """A storage whose first write makes something that stays: a table, a directory, a bucket."""

    def rehearsal(self) -> AbstractContextManager[str]:
        """Give an empty text; inside, objects can be tried, and what is made for them is gone on leaving.

        Where that is not to be had, give what the first write makes, in words for people, and let nothing be tried.
        """
        ...


def has_rehearsal(storage: Storage) -> TypeGuard[SupportsRehearsal]:
    """Whether the first write to `storage` makes something that stays."""
    return hasattr(storage, "rehearsal")


class _UndoneError(Exception):
    pass


@contextmanager
def undone(storage: SupportsTransaction) -> Iterator[None]:
    """Do what is done inside in a transaction that is never committed."""
    with suppress(_UndoneError), storage.transaction():
        yield
        raise _UndoneError
