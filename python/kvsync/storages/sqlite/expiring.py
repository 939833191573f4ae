"""A table of a SQLite database with a column that says when a row expires.

`?expires=COLUMN` names it: an INTEGER of wall-clock milliseconds; NULL and 0 mean never. A row whose time has come is
absent for every method. It stays in the table until something is written at its key, or deletes it: an application
that reads the table itself looks at the column, too.
"""

from __future__ import annotations

import dataclasses
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvsync.errors import StorageError, UsageError
from kvsync.native import digest_values
from kvsync.storages.expiry import noted, token_of, tokens_of
from kvsync.storages.sqlite.storage import READ_COUNT, SqliteStorage
from kvsync.storages.sqlite.table import NAME, Table
from kvsync.types import Refusal, Written

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Sequence

__all__ = ["ExpiringSqliteStorage", "ExpiringTable"]

NOW = "kvsync_now_ms"
"""The SQL function that is the storage's clock."""

_INTEGER = re.compile("INT", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ExpiringTable(Table):
    """The names of a table and its three columns.

    Raises:
        UsageError: a name is not of letters, digits and underscores, or is there twice.
    """

    expires: str = "expires"

    def __post_init__(self) -> None:
        """Check the names."""
        Table.__post_init__(self)
        if not NAME.match(self.expires):
            message = f"expires={self.expires!r:.200} is no plain name: use letters, digits and underscores"
            raise UsageError(message)
        if self.expires.lower() in {self.key.lower(), self.value.lower()}:
            message = f"expires is {self.expires!r}, as key or value is: name three columns"
            raise UsageError(message)

    @property
    def create(self) -> str:
        """The statement that makes the table."""
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
        """Return the statement that reads the times of `count` keys, of those that expire."""
        marks = ",".join("?" * count)
        return (
            f'SELECT "{self.key}", "{self.expires}" FROM "{self.name}" '  # noqa: S608 - checked names
            f'WHERE "{self.key}" IN ({marks}) AND "{self.expires}" IS NOT NULL AND {self._stays}'
        )

    def page(self, *, first: bool) -> str:
        """Return the statement that reads rows in the order of the keys' bytes, all or those after a key."""
        after = "" if first else f'"{self.key}" > ? AND '
        columns = f'"{self.key}", "{self.value}", "{self.expires}"'
        order = f'ORDER BY "{self.key}" COLLATE BINARY'
        return f'SELECT {columns} FROM "{self.name}" WHERE {after}{self._stays} {order}'  # noqa: S608 - checked names

    def exists(self, connection: sqlite3.Connection) -> bool:
        """Return whether the table is there; if it is, it has been checked.

        Raises:
            UsageError: it does not fit.
        """
        if not Table.exists(self, connection):
            return False
        columns = connection.execute(f'PRAGMA table_info("{self.name}")').fetchall()
        found = next((row for row in columns if row[1].lower() == self.expires.lower()), None)
        if found is None:
            message = (
                f"table {self.name!r} has no column {self.expires!r}: name it with expires=, or add it, an INTEGER of "
                "milliseconds that may be NULL"
            )
            raise UsageError(message)
        if found[3] or not _INTEGER.search(found[2]):
            message = (
                f"column {self.expires!r} of {self.name!r} is declared {found[2]!r}{' NOT NULL' if found[3] else ''}: "
                "it has to be an INTEGER that may be NULL"
            )
            raise UsageError(message)
        return True

    @property
    def _stays(self) -> str:
        # The function is in a query of its own so that it is called once, not for each row.
        column = f'"{self.expires}"'
        return f"({column} IS NULL OR {column} = 0 OR {column} > (SELECT {NOW}()))"


class ExpiringSqliteStorage(SqliteStorage):
    """A table of a SQLite database, with a column that says when a row expires; several threads may use it.

    Args:
        path: the database's file.
        table: the table's name and those of its columns.
        clock: returns wall-clock seconds; decides what has expired.
        options: those of `SqliteStorage`.
    """

    table: ExpiringTable
    capabilities = dataclasses.replace(SqliteStorage.capabilities, expiry=True)

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        table: ExpiringTable | None = None,
        clock: Callable[[], float] = time.time,
        **options: Any,
    ) -> None:
        super().__init__(path, table=table or ExpiringTable(), **options)
        self._clock = clock

    def __repr__(self) -> str:
        """Return the class and the storage's name."""
        return f"ExpiringSqliteStorage({self.name!r})"

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Write values that stay, with `expect` only where the value there has that token.

        Raises:
            StorageError: the database cannot be written.
        """
        return Written(tuple(self._put(keys, values, [0] * len(keys), expect)))

    def write_expiring(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expires: Sequence[int],
        expect: Sequence[bytes | None] | None = None,
    ) -> Written:
        """Write values, each until `expires[i]` (0: for ever), with `expect` only where there is that token.

        Raises:
            StorageError: the database cannot be written.
        """
        return noted(keys, values, expires, self._put(keys, values, expires, expect))

    def expiries(self, keys: Sequence[str]) -> list[int]:
        """Return when each value expires, wall-clock milliseconds; 0 where never, or where there is none.

        Raises:
            StorageError: the database cannot be read, or a row's time is no INTEGER.
        """
        with self._reading(self.table.name) as connection:
            found = self._select_expires(connection, keys) if connection is not None else {}
        return [found.get(key, 0) for key in keys]

    def _put(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expires: Sequence[int],
        expect: Sequence[bytes | None] | None,
    ) -> list[Refusal]:
        if not keys:
            return []
        with self._writing() as connection:
            self._make(connection, self.table.name, self.table.create)
            refused = self._unexpected(connection, keys, expect)
            rows = [
                (key, value, due or None)
                for key, value, due in zip(keys, values, expires, strict=True)
                if key not in refused
            ]
            refused.update(self._upsert(connection, rows))
        return list(refused.values())

    def _tokens_of(
        self, connection: sqlite3.Connection, keys: Sequence[str], values: Sequence[bytes]
    ) -> dict[str, bytes]:
        expires = self._select_expires(connection, keys)
        digests = digest_values(values)
        return {key: token_of(digest, expires.get(key, 0)) for key, digest in zip(keys, digests, strict=True)}

    def _tokens_of_rows(self, rows: Sequence[tuple[Any, ...]]) -> list[bytes]:
        return tokens_of(digest_values([row[1] for row in rows]), [self._checked(row[0], row[2]) for row in rows])

    def _select_expires(self, connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        wanted = self._storable(keys)
        for start in range(0, len(wanted), READ_COUNT):
            chunk = wanted[start : start + READ_COUNT]
            rows = connection.execute(self.table.select_expires(len(chunk)), chunk)
            found.update((key, self._checked(key, due)) for key, due in rows)
        return found

    def _checked(self, key: str, due: object) -> int:
        if due is None or isinstance(due, int):
            return due or 0
        message = (
            f"the row of key {key!r:.200} expires at {due!r:.100}, which is no INTEGER: milliseconds since 1970 belong "
            f"into column {self.table.expires!r}"
        )
        raise StorageError(message, storage=self.name, key=key)

    def _prepare(self, connection: sqlite3.Connection, *, fresh: bool) -> str:
        connection.create_function(NOW, 0, lambda: int(self._clock() * 1000))
        return super()._prepare(connection, fresh=fresh)
