"""The table of a SQLite storage: its names, whether it is suitable, and its statements."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvsync.errors import UsageError

if TYPE_CHECKING:
    import sqlite3

__all__ = ["INDEX_TABLE", "NAME", "Table"]

INDEX_TABLE = "kvsync_index"

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)
_NUMERIC = re.compile(r"INT|REAL|FLOA|DOUB|NUM|DEC|BOOL|DATE|TIME", re.IGNORECASE)
_TEXTUAL = re.compile(r"CHAR|CLOB|TEXT|BLOB|\A\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Table:
    """The names of a table and its two columns, checked against an allow-list.

    Raises:
        UsageError: a name is not made of letters, digits and underscores, or the table is that of the index.
    """

    name: str = "kv"
    key: str = "key"
    value: str = "value"

    def __post_init__(self) -> None:
        """Check the names."""
        for what, name in (("table", self.name), ("key", self.key), ("value", self.value)):
            if not NAME.match(name):
                message = f"{what}={name!r:.200} is not a plain name: use letters, digits and underscores"
                raise UsageError(message)
        if self.name.lower() == INDEX_TABLE or self.name.lower().startswith("sqlite_"):
            message = f"table={self.name!r} is reserved: name another table"
            raise UsageError(message)
        if self.key.lower() == self.value.lower():
            message = f"key and value are both {self.key!r}: name two columns"
            raise UsageError(message)

    @property
    def create(self) -> str:
        """The statement that creates the table."""
        return (
            f'CREATE TABLE IF NOT EXISTS "{self.name}" '
            f'("{self.key}" TEXT PRIMARY KEY, "{self.value}" BLOB NOT NULL) WITHOUT ROWID'
        )

    @property
    def upsert(self) -> str:
        """The statement that writes one (key, value)."""
        return (
            f'INSERT INTO "{self.name}" ("{self.key}", "{self.value}") VALUES (?, ?) '  # noqa: S608 - checked names
            f'ON CONFLICT ("{self.key}") DO UPDATE SET "{self.value}" = excluded."{self.value}"'
        )

    @property
    def delete(self) -> str:
        """The statement that deletes one key."""
        return f'DELETE FROM "{self.name}" WHERE "{self.key}" = ?'  # noqa: S608 - checked names

    def select(self, count: int) -> str:
        """Return the statement that reads `count` keys."""
        marks = ",".join("?" * count)
        return f'SELECT "{self.key}", "{self.value}" FROM "{self.name}" WHERE "{self.key}" IN ({marks})'  # noqa: S608

    def page(self, *, first: bool) -> str:
        """Return the statement that reads rows in byte order of their keys, all of them or those after a key.

        Storage classes are ordered (NULL, numbers, text, BLOB), so it also shows keys that are not text.
        """
        after = "" if first else f'WHERE "{self.key}" > ? '
        columns = f'"{self.key}", "{self.value}"'
        order = f'ORDER BY "{self.key}" COLLATE BINARY'
        return f'SELECT {columns} FROM "{self.name}" {after}{order}'  # noqa: S608 - checked names

    def exists(self, connection: sqlite3.Connection) -> bool:
        """Return whether the table exists; if it does, it has been checked.

        Raises:
            UsageError: it is not suitable.
        """
        columns = {row[1].lower(): (row[2], row[5]) for row in connection.execute(f'PRAGMA table_info("{self.name}")')}
        if not columns:
            return False
        for column in (self.key, self.value):
            if column.lower() not in columns:
                message = f"table {self.name!r} has no column {column!r}: name it with key= and value="
                raise UsageError(message)
        declared = columns[self.key.lower()][0]
        if _NUMERIC.search(declared) or not _TEXTUAL.search(declared):
            message = f"key column {self.key!r} is declared {declared!r}, which changes keys: it has to be TEXT"
            raise UsageError(message)
        if not self._is_unique(connection):
            message = f"key column {self.key!r} of {self.name!r} has to be unique on its own, with COLLATE BINARY"
            raise UsageError(message)
        return True

    def _is_unique(self, connection: sqlite3.Connection) -> bool:
        for row in connection.execute(f'PRAGMA index_list("{self.name}")').fetchall():
            index, unique, partial = row[1], row[2], row[4]
            quoted = index.replace('"', '""')
            parts = connection.execute(f'PRAGMA index_xinfo("{quoted}")').fetchall()
            columns = [(part[2], part[4]) for part in parts if part[5]]
            if unique and not partial and len(columns) == 1:
                name, collation = columns[0]
                if name is not None and name.lower() == self.key.lower() and collation.upper() == "BINARY":
                    return True
        return False
