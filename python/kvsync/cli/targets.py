"""Open the storages named on the command line; a misspelt name is an error, never an empty storage."""

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
    """Open a storage, and close it at the end; without `create`, a path on this machine must exist.

    Raises:
        UsageError: the name is wrong.
        StorageError: it does not exist.
    """
    if scheme_of(target) is None and Path(target).is_file():
        message = f"this is a file, not a folder; if it is a SQLite database, write sqlite:///{target}"
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
    """Open a source, which must exist, and a target, which need not with `create`.

    Raises:
        SameStorageError: both are the same storage.
        UsageError: a name is wrong.
        StorageError: one of them does not exist.
    """
    with opened(source) as one, opened(target, create=create) as other:
        if source == target or _same_folder(one, other):
            message = "source and target are the same storage"
            raise SameStorageError(message, storage=one.name)
        yield one, other


def _path_of(storage: Storage) -> str | None:
    """Return the path of a storage on this machine, or None if it has none."""
    path = getattr(storage, "path", None)
    return path if isinstance(path, str) else None


def _same_folder(one: Storage, other: Storage) -> bool:
    first, second = _path_of(one), _path_of(other)
    if first is None or second is None or not (Path(first).is_dir() and Path(second).is_dir()):
        return False
    return Path(first).samefile(second)
