"""Notice changes of a SQLite database: by its data version, which costs no reading of the file."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kvsync.errors import StorageError
from kvsync.storages.hints import file_identity

if TYPE_CHECKING:
    from kvsync.storages.sqlite.database import Database

__all__ = ["DatabaseHints"]

POLL_SECONDS = 0.08
BUSY_POLL_SECONDS = 0.015
BUSY_SECONDS = 2.0
"""For so long after a change, more of them are likely, and are looked for more often."""


class DatabaseHints:
    """Compares the data version as our own connection sees it, so that what we commit ourselves is no change.

    Args:
        database: the database, which may not exist yet.
        path: its absolute path.
        name: the storage's name, for errors.
    """

    complete = True
    reason = ""

    def __init__(self, database: Database, path: str, name: str) -> None:
        self._database = database
        self._path = path
        self._name = name
        self._file = file_identity(self._path)
        self._changed = float("-inf")
        self._version = database.data_version()

    @property
    def poll_seconds(self) -> float:
        """How often to ask: the more often the shorter the last change is ago."""
        return BUSY_POLL_SECONDS if time.monotonic() - self._changed < BUSY_SECONDS else POLL_SECONDS

    def poll(self) -> bool:
        """Return whether another connection has committed since the last call.

        Raises:
            StorageError: another file is at the path now, which our connection does not see.
        """
        self._check_file()
        version = self._database.data_version()
        if version == self._version:
            return False
        self._version, self._changed = version, time.monotonic()
        return True

    def close(self) -> None:
        """Do nothing: the connection belongs to the storage."""

    def _check_file(self) -> None:
        file = file_identity(self._path)
        if file == self._file:
            return
        if self._file is not None:
            message = "the file was replaced, moved or removed while it was open: open it again"
            raise StorageError(message, storage=self._name)
        self._file = file
