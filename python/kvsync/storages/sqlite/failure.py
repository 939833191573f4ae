"""What errors of SQLite mean, and what to do about them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kvsync.errors import StorageError
from kvsync.storages.path import is_full

if TYPE_CHECKING:
    import sqlite3

__all__ = ["failure"]

FULL = "the disk is full: make room and run again"
NO_FOLDER = (
    "create it, or check the path: after sqlite:/// it is relative to the working directory, after sqlite://// absolute"
)

_ADVICE = {
    "SQLITE_BUSY": "another program has locked the database: wait for it, or raise busy_timeout",
    "SQLITE_CANTOPEN": "the file cannot be opened: check the path and its permissions",
    "SQLITE_CORRUPT": "the database is damaged: restore it from a backup",
    "SQLITE_FULL": FULL,
    "SQLITE_IOERR_SHMSIZE": FULL,  # the file beside the database cannot grow
    "SQLITE_IOERR": "the disk failed, or a quota is used up: check both and run again",
    "SQLITE_LOCKED": "another connection has locked the table: wait for it, or raise busy_timeout",
    "SQLITE_NOTADB": "the file is not a SQLite database: name another one",
    "SQLITE_READONLY": "the database is read-only: change its permissions, and its folder's",
}


def failure(error: sqlite3.Error, *, storage: str, path: str) -> StorageError:
    """Return the error to raise for one of SQLite's; `path` is that of the database."""
    code = getattr(error, "sqlite_errorname", "")
    if code.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN")) and is_full(path):
        return StorageError(f"{error}: {FULL}", storage=storage)
    folder = os.path.dirname(path)
    if code.startswith("SQLITE_CANTOPEN") and not os.path.isdir(folder):
        return StorageError(f"the folder {folder!r:.300} does not exist: {NO_FOLDER}", storage=storage)
    known = (text for name, text in _ADVICE.items() if code.startswith(name))
    return StorageError(f"{error}: {next(known, 'fix that and run again')}", storage=storage)
