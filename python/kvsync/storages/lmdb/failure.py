"""What errors of LMDB mean, and what to do about them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from kvsync.errors import StorageError, UsageError
from kvsync.storages.path import is_full

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Failures"]

_ADVICE = {
    "MapFullError": "the map is full: open it with a larger map_size=, once all its handles are closed, and run again",
    "DiskError": "the disk failed: check it and run again",
    "CorruptedError": "the environment is damaged: restore it from a backup",
    "PageNotFoundError": "the environment is damaged: restore it from a backup",
    "InvalidError": "it is not an LMDB environment: name another path",
    "VersionMismatchError": "another version of LMDB created it: export it there and import it here",
    "ReadersFullError": "too many readers: end some, or open it first with a larger max_readers",
    "DbsFullError": "too many databases: open the environment with a larger max_dbs",
    "LockError": "another program holds an exclusive lock on it: end that program",
    "MemoryError": "there is no room for the map: open it with a smaller map_size=",
    "BadTxnError": "the transaction failed before this call: run again",
    "MapResizedError": "another process enlarged the map: open it again",
}

_ERRNO_ADVICE = {
    errno.EACCES: "check the permissions of the folder and its files",
    errno.ENOSPC: "the disk is full: make room and run again",
    errno.ENOTDIR: "check the path: a part of it is not a folder",
    errno.ENOMEM: "there is no room for the map: open it with a smaller map_size=",
    errno.EROFS: "the file system is read-only: mount it for writing",
}


class Failures:
    """Turns exceptions of LMDB and the operating system into ours; reusable and reentrant.

    A generator would cost four times as much, fifteen times a run.

    Args:
        library: the module `lmdb`.
        storage: the storage's name, for messages.
        path: where the environment is.

    Raises:
        StorageError: instead of theirs.
    """

    __slots__ = ("_kinds", "_path", "_storage")

    def __init__(self, library: ModuleType, storage: str, path: str) -> None:
        self._kinds: tuple[type[Exception], ...] = (library.Error, OSError)
        self._storage = storage
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, StorageError | UsageError):
            error.storage = error.storage or self._storage
        elif isinstance(error, self._kinds):
            raise _failure(error, storage=self._storage, path=self._path) from error


def _failure(error: Exception, *, storage: str, path: str) -> StorageError:
    """Return the error to raise for one of LMDB's or of the operating system's."""
    number = getattr(error, "errno", None) or getattr(error, "code", None) or 0
    if number == errno.EIO and is_full(path):  # LMDB says so where a part of a write had no room
        number = errno.ENOSPC
    advice = _ADVICE.get(type(error).__name__) or _ERRNO_ADVICE.get(number, "fix that and run again")
    return StorageError(f"{error!s:.500}: {advice}", storage=storage)
