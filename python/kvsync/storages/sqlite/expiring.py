"""A table of a SQLite database with a column that says when a row expires.

`?expires=COLUMN` names it: an INTEGER of wall-clock milliseconds; NULL and 0 mean never. An expired row is absent for
every method. It stays in the table until its key is written or deleted: applications that read the table have to check
the column, too.
"""

from __future__ import annotations

import dataclasses
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvsync.errors import StorageError, UsageError
from kvsync.storages.batch import Batch
from kvsync.storages.contract import Support
from kvsync.storages.expiry import tokens_of, written_with_digests
from kvsync.storages.sqlite.rows import Rows
from kvsync.storages.sqlite.storage import SqliteStorage
from kvsync.storages.sqlite.table import NAME, Table

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Sequence

    from kvsync.types import Written

__all__ = ["ExpiringRows", "ExpiringSqliteStorage", "ExpiringTable"]

NOW = "kvsync_now_ms"
"""The SQL function that is the storage's clock."""

_INTEGER = re.compile("INT", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ExpiringTable(Table):
    """The names of a table and its three columns.

    Raises:
        UsageError: a name is not made of letters, digits and underscores, or is used twice.
    """

    expires: str = "expires"

    def __post_init__(self) -> None:
        """Check the names."""
        Table.__post_init__(self)
        if not NAME.match(self.expires):
            message = f"expires={self.expires!r:.200} is not a plain name: use letters, digits and underscores"
            raise UsageError(message)
        if self.expires.lower() in {self.key.lower(), self.value.lower()}:
            message = f"expires is {self.expires!r}, the same as key or value: name three columns"
            raise UsageError(message)

    @property
    def create(self) -> str:
        """The statement that creates the table."""
        return (
            f'CREATE TABLE IF NOT EXISTS "{self.name}" ("{self.key}" TEXT PRIMARY KEY, "{self.value}" BLOB NOT NULL, '
            f'"{self.expires}" INTEGER) WITHOUT ROWID'
        )

    @property
    def upsert(self) -> str:
        """The statement that writes one (key, value, time)."""
        return (
            f'INSERT INTO "{self.name}" ("{self.key}", "{self.value}", "{self.expires}") '  # noqa: S608 - checked names
            f'VALUES (?, ?, ?) ON CONFLICT ("{self.key}") DO UPDATE SET "{self.value}" = excluded."{self.value}", '
            f'"{self.expires}" = excluded."{self.expires}"'
        )

    def select(self, count: int) -> str:
        """Return the statement that reads `count` keys."""
        return f"{Table.select(self, count)} AND {self._stays}"

    def select_expires(self, count: int) -> str:
        """Return the statement that reads the times of those of `count` keys that expire."""
        marks = ",".join("?" * count)
        return (
            f'SELECT "{self.key}", "{self.expires}" FROM "{self.name}" '  # noqa: S608 - checked names
            f'WHERE "{self.key}" IN ({marks}) AND "{self.expires}" IS NOT NULL AND {self._stays}'
        )

    def page(self, *, first: bool) -> str:
        """Return the statement that reads rows in byte order of their keys, all of them or those after a key."""
        after = "" if first else f'"{self.key}" > ? AND '
        columns = f'"{self.key}", "{self.value}", "{self.expires}"'
        order = f'ORDER BY "{self.key}" COLLATE BINARY'
        return f'SELECT {columns} FROM "{self.name}" WHERE {after}{self._stays} {order}'  # noqa: S608 - checked names

    def exists(self, connection: sqlite3.Connection) -> bool:
        """Return whether the table exists; if it does, it has been checked.

        Raises:
            UsageError: it is not suitable.
        """
        if not Table.exists(self, connection):
            return False
        columns = connection.execute(f'PRAGMA table_info("{self.name}")').fetchall()
        found = next((row for row in columns if row[1].lower() == self.expires.lower()), None)
        if found is None:
            message = (
                f"table {self.name!r} has no column {self.expires!r}: name it with expires=, or add it, an INTEGER of "
                "milliseconds that allows NULL"
            )
            raise UsageError(message)
        if found[3] or not _INTEGER.search(found[2]):
            message = (
                f"column {self.expires!r} of {self.name!r} is declared {found[2]!r}{' NOT NULL' if found[3] else ''}: "
                "it has to be an INTEGER that allows NULL"
            )
            raise UsageError(message)
        return True

    @property
    def _stays(self) -> str:
        # The function is in a query of its own, so that it is called once instead of once for each row.
        column = f'"{self.expires}"'
        return f"({column} IS NULL OR {column} = 0 OR {column} > (SELECT {NOW}()))"


class ExpiringRows(Rows):
    """The statements for the rows of one table, some of which expire.

    Args:
        table: its name and those of its columns.
        clock: returns wall-clock seconds; decides what has expired.
    """

    table: ExpiringTable

    def __init__(self, table: ExpiringTable, clock: Callable[[], float]) -> None:
        super().__init__(table)
        self._clock = clock

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Register the clock with a new connection."""
        clock = self._clock
        connection.create_function(NOW, 0, lambda: int(clock() * 1000))

    def _rows_of(self, batch: Batch) -> list[tuple[Any, ...]]:
        expires = batch.expires or [0] * len(batch.keys)
        return [(key, value, due or None) for key, value, due in zip(batch.keys, batch.values, expires, strict=True)]

    def times(self, connection: sqlite3.Connection, keys: Sequence[str]) -> list[int]:
        """Return when each value expires, wall-clock milliseconds; 0 if never, or if the key is absent.

        Raises:
            StorageError: a row's time is not an INTEGER.
        """
        found: dict[str, int] = {}
        for chunk in self._chunks(keys):
            rows = connection.execute(self.table.select_expires(len(chunk)), chunk)
            found.update((key, self._milliseconds(key, due)) for key, due in rows)
        return [found.get(key, 0) for key in keys]

    def tokens(self, rows: Sequence[tuple[Any, ...]]) -> list[bytes]:
        """Return the tokens of the values in a page: the BLAKE3 of each, and its time if it expires."""
        return tokens_of(super().tokens(rows), [row[2] or 0 for row in rows])

    def _tokens_at(self, connection: sqlite3.Connection, values: dict[str, bytes]) -> dict[str, bytes]:
        digests = super()._tokens_at(connection, values)
        times = self.times(connection, list(digests))
        return dict(zip(digests, tokens_of(list(digests.values()), times), strict=True))

    def _check(self, rows: Sequence[tuple[Any, ...]]) -> None:
        super()._check(rows)
        for row in rows:
            self._milliseconds(row[0], row[2])

    def _milliseconds(self, key: str, due: object) -> int:
        if due is None or isinstance(due, int):
            return due or 0
        message = (
            f"the row of key {key!r:.200} expires at {due!r:.100}, which is not an INTEGER: store milliseconds of "
            f"Unix time in column {self.table.expires!r}"
        )
        raise StorageError(message, key=key)


class ExpiringSqliteStorage(SqliteStorage):
    """A table of a SQLite database, with a column that says when a row expires; several threads may use it.

    Args:
        path: the database's file.
        table: the table's name and those of its columns.
        clock: returns wall-clock seconds; decides what has expired.
        options: those of `SqliteStorage`.
    """

    table: ExpiringTable
    capabilities = dataclasses.replace(
        SqliteStorage.capabilities, supports=SqliteStorage.capabilities.supports | {Support.EXPIRY}
    )
    _rows: ExpiringRows

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        table: ExpiringTable | None = None,
        clock: Callable[[], float] = time.time,
        **options: Any,
    ) -> None:
        super().__init__(path, rows=ExpiringRows(table or ExpiringTable(), clock), **options)

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
            with self._database.writing(self.table) as connection:
                self._rows.write(connection, batch)
        return written_with_digests(batch)

    def expiries(self, keys: Sequence[str]) -> list[int]:
        """Return when each value expires, wall-clock milliseconds; 0 if never, or if the key is absent.

        Raises:
            StorageError: the database cannot be read, or a row's time is not an INTEGER.
        """
        with self._database.reading(self.table) as connection:
            return [0] * len(keys) if connection is None else self._rows.times(connection, keys)
