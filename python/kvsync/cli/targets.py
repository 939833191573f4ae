"""Opening what the command line names, so that a name misspelt is never an empty storage."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kvsync.errors import SameStorageError, StorageError, UsageError
from kvsync.storages import open_storage
from kvsync.storages.url import scheme_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvsync.storages.contract import Storage

__all__ = ["opened", "opened_pair"]


@contextmanager
def opened(target: str, *, create: bool = False) -> Iterator[Storage]:
    """Open a storage, and close it; without `create`, what lies at a path on this machine must be there.

    Raises:
        UsageError: it is named wrongly.
        StorageError: it is not there.
    """
    if scheme_of(target) is None and Path(target).is_file():
        message = f"this is a file, not a folder; a SQLite database is named sqlite:///{target}"
        raise UsageError(message, storage=target)
    storage, owned = open_storage(target, create=create)
    try:
        path = _path_of(storage)
        if path is not None and not create and not os.path.lexists(path):
            message = f"there is nothing at {path!r}; check the spelling, or create or mount it"
            raise StorageError(message, storage=storage.name)
        yield storage
    finally:
        if owned:
            storage.close()


@contextmanager
def opened_pair(source: str, target: str, *, create: bool = False) -> Iterator[tuple[Storage, Storage]]:
    """Open a source, which must be there, and a target, which with `create` need not be.

    Raises:
        SameStorageError: they are one.
        UsageError: one of them is named wrongly.
        StorageError: one of them is not there.
    """
    with opened(source) as one, opened(target, create=create) as other:
        if source == target or _same_folder(one, other):
            message = "source and target are one storage"
            raise SameStorageError(message, storage=one.name)
        yield one, other


def _path_of(storage: Storage) -> str | None:
    """Return where a storage lies on this machine, or None for one that does not."""
    path = getattr(storage, "path", None)
    return path if isinstance(path, str) else None


def _same_folder(one: Storage, other: Storage) -> bool:
    first, second = _path_of(one), _path_of(other)
    if first is None or second is None or not (Path(first).is_dir() and Path(second).is_dir()):
        return False
    return Path(first).samefile(second)
