"""The index objects of a SQLite storage: rows of a table of their own, by the name of the table of values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.errors import StorageError
from kvsync.storages.contract import ObjectMismatch
from kvsync.storages.sqlite.table import INDEX_TABLE
from kvsync.types import ABSENT, ANY, Stored

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from kvsync.types import Expectation, Version

__all__ = ["VERSION_BYTES", "Index"]

VERSION_BYTES = 8

# ruff: noqa: S608 - every statement is made of constants


class Index:
    """The statements for the objects of one table of values.

    Args:
        owner: names the storage among all of the database.
    """

    name = INDEX_TABLE
    create = (
        f"CREATE TABLE IF NOT EXISTS {INDEX_TABLE} "
        "(tbl TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL, version INTEGER NOT NULL, "
        "PRIMARY KEY (tbl, name))"
    )

    def __init__(self, owner: str) -> None:
        self._owner = owner

    def exists(self, connection: sqlite3.Connection) -> bool:
        """Return whether the table of objects exists."""
        query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
        return connection.execute(query, (INDEX_TABLE,)).fetchone() is not None

    def load(self, connection: sqlite3.Connection, name: str) -> Stored | None:
        """Return an object, or None.

        Raises:
            StorageError: another program has changed its row.
        """
        query = f"SELECT data, version FROM {INDEX_TABLE} WHERE tbl = ? AND name = ?"
        row = connection.execute(query, (self._owner, name)).fetchone()
        if row is None:
            return None
        if not isinstance(row[0], bytes) or not isinstance(row[1], int):
            message = f"object {name!r:.200} in table {INDEX_TABLE} was changed by another program: delete its row"
            raise StorageError(message)
        return Stored(row[0], row[1].to_bytes(VERSION_BYTES, "little", signed=True))

    def load_ranges(
        self, connection: sqlite3.Connection, name: str, ranges: Sequence[tuple[int, int]]
    ) -> list[bytes] | None:
        """Return ranges of an object, each cut at its end, or None."""
        query = f"SELECT rowid FROM {INDEX_TABLE} WHERE tbl = ? AND name = ?"
        row = connection.execute(query, (self._owner, name)).fetchone()
        if row is None:
            return None
        parts: list[bytes] = []
        with connection.blobopen(INDEX_TABLE, "data", row[0], readonly=True) as blob:
            for offset, length in ranges:
                blob.seek(min(offset, len(blob)))
                parts.append(blob.read(length))
        return parts

    def store(
        self, connection: sqlite3.Connection, name: str, data: bytes, version: Version, expect: Expectation
    ) -> None:
        """Write an object.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was written.
        """
        row = (data, _number(version), self._owner, name)
        if isinstance(expect, bytes):
            update = f"UPDATE {INDEX_TABLE} SET data = ?, version = ? WHERE tbl = ? AND name = ? AND version = ?"
            changed = connection.execute(update, (*row, _number(expect))).rowcount
        else:
            overwrite = "DO UPDATE SET data = excluded.data, version = excluded.version"
            conflict = "DO NOTHING" if expect is ABSENT else overwrite
            insert = (
                f"INSERT INTO {INDEX_TABLE} (data, version, tbl, name) VALUES (?, ?, ?, ?) "
                f"ON CONFLICT (tbl, name) {conflict}"
            )
            changed = connection.execute(insert, row).rowcount
        if changed != 1:
            raise ObjectMismatch(name)

    def remove(self, connection: sqlite3.Connection, names: Sequence[str], expect: Expectation) -> None:
        """Remove objects; skip absent ones, unless a version is expected.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was removed.
        """
        if expect is not ANY:
            for name in names:
                self._check(connection, name, expect)
        statement = f"DELETE FROM {INDEX_TABLE} WHERE tbl = ? AND name = ?"
        connection.executemany(statement, [(self._owner, name) for name in names])

    def names(self, connection: sqlite3.Connection) -> list[str]:
        """Return the names of all objects, ascending."""
        query = f"SELECT name FROM {INDEX_TABLE} WHERE tbl = ? ORDER BY name"
        return [row[0] for row in connection.execute(query, (self._owner,))]

    def _check(self, connection: sqlite3.Connection, name: str, expect: Expectation) -> None:
        query = f"SELECT version FROM {INDEX_TABLE} WHERE tbl = ? AND name = ?"
        row = connection.execute(query, (self._owner, name)).fetchone()
        if (row is None) != (expect is ABSENT):
            raise ObjectMismatch(name)
        if row is not None and isinstance(expect, bytes) and row[0] != _number(expect):
            raise ObjectMismatch(name)


def _number(version: bytes) -> int | None:
    return int.from_bytes(version, "little", signed=True) if len(version) == VERSION_BYTES else None
