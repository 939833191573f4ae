"""Storages that notice changes as they happen.

A hint says that a run is due, never what changed: hints get lost, come twice, and come for what a run itself wrote. Who
follows hints scans all the same, now and then.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeGuard

from kvsync.storages.contract import Storage, Support

if TYPE_CHECKING:
    from collections.abc import Callable

    Wake: TypeAlias = Callable[[str | None], None]

__all__ = ["Hints", "NoHintsError", "SupportsHints", "file_identity", "has_hints"]


class NoHintsError(Exception):
    """The storage cannot notice changes now, for the reason that the text gives; it is scanned now and then instead."""


class Hints(Protocol):
    """Notices changes of one storage, until it is closed. Only one thread calls its methods."""

    @property
    def poll_seconds(self) -> float:
        """How often `poll` has to be called, as things stand."""
        ...

    @property
    def complete(self) -> bool:
        """Whether any change of a value is noticed, so that no scan has to look for those that are not."""
        ...

    @property
    def reason(self) -> str:
        """Why that is not so, in words for people; empty if it is."""
        ...

    def poll(self) -> bool:
        """Return whether something may have changed since the last call, beyond what was reported by `wake`.

        This is also where a lost connection is found. Do not return True for what this handle itself wrote, if that
        can be told.

        Raises:
            StorageError: changes cannot be noticed any more; the storage has to be opened again.
        """
        ...

    def close(self) -> None:
        """Stop noticing; closing twice is allowed."""
        ...


class SupportsHints(Storage, Protocol):
    """A storage that notices changes as they happen, whoever makes them."""

    def hints(self, wake: Wake) -> Hints:
        """Begin to notice changes of values; leave out those of index objects.

        Call `wake`, from any thread and as often as it happens, with the key that may have changed, or None if that is
        not known. A storage that can only be asked does that in `Hints.poll`.

        Raises:
            NoHintsError: that is not possible here, and why.
            StorageError: the storage failed.
        """
        ...


def has_hints(storage: Storage) -> TypeGuard[SupportsHints]:
    """Whether `storage` notices changes as they happen."""
    return Support.HINTS in storage.capabilities.supports


def file_identity(path: str) -> tuple[int, int] | None:
    """Return what tells the file or folder at a path from another one that takes its place; None where nothing is."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
