"""A table of a SQLite database with a column that says when a row expires.

`?expires=COLUMN` names it, `unit=` what it holds: wall-clock milliseconds, seconds, or ISO texts. An expired row is
absent for every method. It stays in the table until its key is written or deleted: applications that read the table
have to check the column, too.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from kvsync.storages.batch import Batch
from kvsync.storages.contract import Support
from kvsync.storages.expiry import written_with_digests
from kvsync.storages.sqlite.storage import SqliteStorage
from kvsync.storages.sqlite.table import Table
from kvsync.storages.sqlite.writing import Writer

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from kvsync.types import Written

__all__ = ["ExpiringSqliteStorage"]


class ExpiringSqliteStorage(SqliteStorage):
    """A table of a SQLite database, with a column that says when a row expires; several threads may use it.

    Args:
        path: the database's file.
        table: the table's name and those of its columns, by default with one named `expires`.
        options: those of `SqliteStorage`.
    """

    capabilities = dataclasses.replace(
        SqliteStorage.capabilities, supports=SqliteStorage.capabilities.supports | {Support.EXPIRY}
    )

    def __init__(self, path: str | os.PathLike[str], *, table: Table | None = None, **options: Any) -> None:
        super().__init__(path, table=table or Table(expires="expires"), **options)

    def __repr__(self) -> str:
        """Return the class and the storage's name."""
        return f"ExpiringSqliteStorage({self.name!r})"

    def write_expiring(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expires: Sequence[int],
        expect: Sequence[bytes | None] | None = None,
    ) -> Written:
        """Write values that expire at `expires[i]` (0: never), with `expect` only where the token is the current one.

        Raises:
            StorageError: the database cannot be written.
        """
        batch = Batch(keys, values, expect, expires)
        if keys:
            with self._database.writing(self._rows) as connection:
                Writer(connection, self._rows, batch).write()
        return written_with_digests(batch)

    def expiries(self, keys: Sequence[str]) -> list[int]:
        """Return when each value expires, wall-clock milliseconds; 0 if never, or if the key is absent.

        Raises:
            StorageError: the database cannot be read.
        """
        with self._database.reading(self._rows) as connection:
            return [0] * len(keys) if connection is None else self._rows.times(connection, keys)
