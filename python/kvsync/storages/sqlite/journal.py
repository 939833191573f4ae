"""The journal of a SQLite table: triggers note each key that is written or deleted, and when.

The triggers, and the table that they write to, belong to the database of the table, so they work for whoever opens it.
Rows of the journal are numbered in the order in which they are committed, since SQLite has one writer at a time.
"""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any, NamedTuple

from kvsync.errors import UsageError
from kvsync.storages.journal import JOURNAL_OBJECT, Journal
from kvsync.storages.sqlite.fetch import fetch
from kvsync.storages.sqlite.keys import KeyKind, reserved
from kvsync.storages.sqlite.table import JOURNAL_TABLE
from kvsync.types import ANY

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from kvsync.storages.sqlite.index import Index
    from kvsync.storages.sqlite.table import Table

__all__ = ["TableJournal"]

GONE = "its journal is gone: run `kvsync track` on it again"

MARK_BYTES = 8
"""A mark is so many random bytes, and the scope that it is about."""

NOW = "CAST((julianday('now') - 2440587.5) * 86400000 + 0.5 AS INTEGER)"
"""The wall clock in milliseconds, for every version of SQLite."""

STATES = (
    f"CREATE TABLE IF NOT EXISTS {JOURNAL_TABLE} (tbl TEXT PRIMARY KEY, mark BLOB NOT NULL, schema INTEGER NOT NULL)"
)

# ruff: noqa: S608 - every name is checked and quoted


class Position(NamedTuple):
    """How far a journal was read.

    Attributes:
        number: of the last row.
        schema: the version of the database's schema before that.
        mark: of the journal, in hexadecimal digits.
    """

    number: int
    schema: int
    mark: str

    def encode(self) -> bytes:
        """Return it as bytes."""
        return json.dumps(self).encode()

    @classmethod
    def decode(cls, data: bytes) -> Position:
        """Return what `encode` made bytes of."""
        return cls(*json.loads(data))


class TableJournal:
    """The statements for the journal of one table, on any connection to its database.

    A journal is believed as long as two things hold. Its mark is the one that the index has: each time that rows are
    forgotten, both get a new one, so neither can be older than the other. And the schema is of the version that it had
    when the triggers were last seen to be in place: nobody can have dropped or replaced them, or the table, since.

    Args:
        table: the table whose changes are noted.
        index: the index objects of the storage.
        random_bytes: returns that many random bytes.

    Attributes:
        name: of the table of what was noted.
        create: what makes that table.
    """

    def __init__(self, table: Table, index: Index, random_bytes: Callable[[int], bytes]) -> None:
        self._table = table
        self._index = index
        self._random_bytes = random_bytes
        self.name = f"{JOURNAL_TABLE}_{table.owner}"
        self._rows = f'"{self.name}"'
        self.create = (
            f"CREATE TABLE IF NOT EXISTS {self._rows} (seq INTEGER PRIMARY KEY, key NOT NULL, at INTEGER NOT NULL)"
        )
        self._insert = f"INSERT INTO {self._rows} (key, at)"

    # Making it

    def make(self, connection: sqlite3.Connection) -> bool:
        """Make the journal and its triggers, as far as they do not exist; return whether anything was made.

        Raises:
            UsageError: nothing can note which rows of this table are replaced.
        """
        triggers = self._triggers(connection)
        if self._state(connection) is not None and self._present(connection) == triggers and self.exists(connection):
            return False
        self.unmake(connection)
        connection.execute(self._index.create)
        connection.execute(STATES)
        connection.execute(self.create)
        for statement in triggers.values():
            connection.execute(statement)
        # Nothing was seen to be in place before: the next scan proves it.
        self._set_mark(connection, schema=-1)
        return True

    def unmake(self, connection: sqlite3.Connection) -> bool:
        """Remove all that `make` made; return whether there was anything."""
        names = self._present(connection)
        existed = bool(names) or self.exists(connection)
        for name in names:
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute(f"DROP TABLE IF EXISTS {self._rows}")
        if _has_table(connection, JOURNAL_TABLE):
            connection.execute(f"DELETE FROM {JOURNAL_TABLE} WHERE tbl = ?", (self._table.owner,))
            if not connection.execute(f"SELECT EXISTS(SELECT 1 FROM {JOURNAL_TABLE})").fetchone()[0]:
                connection.execute(f"DROP TABLE {JOURNAL_TABLE}")
        if self._index.exists(connection):
            self._index.remove(connection, [JOURNAL_OBJECT], ANY)
        return existed

    # Reading it

    def read(self, connection: sqlite3.Connection, kind: KeyKind, count_max: int) -> Journal | None:
        """Return what the journal says, or None if there is none; `kind` is what keys of the table are."""
        # First of all: whatever changes the schema from now on is told by its version.
        schema = _schema_version(connection)
        state = self._state(connection)
        if state is None:
            return Journal(None, b"", GONE) if self.exists(connection) else None
        mark, seen_schema = state
        number = self.last(connection)
        position = Position(number, schema, mark.hex()).encode()
        if seen_schema != schema or mark != self._indexed_mark(connection):
            return Journal(None, position, self._fault(connection))
        return Journal(self._changed(connection, kind, number, count_max), position, scope=mark[MARK_BYTES:])

    def last(self, connection: sqlite3.Connection) -> int:
        """Return the number of the last row."""
        return int(connection.execute(f"SELECT coalesce(max(seq), 0) FROM {self._rows}").fetchone()[0])

    def _changed(
        self, connection: sqlite3.Connection, kind: KeyKind, number: int, count_max: int
    ) -> Mapping[str, int | None] | None:
        """Return which keys were changed, and when; None if they are more, or a scan has to tell what they are."""
        query = f"SELECT key, max(at) FROM {self._rows} WHERE seq <= ? GROUP BY key LIMIT ?"
        changed: dict[str, int] = {}
        for raw, time in fetch(connection, query, (number, count_max + 1)):
            key = kind.text(raw)
            if key is None:
                return None  # a scan skips such a row, and says so
            changed[key] = max(time, changed.get(key, 0))
        return None if len(changed) > count_max or reserved(list(changed)) else changed

    def _fault(self, connection: sqlite3.Connection) -> str:
        """Return what is wrong with the triggers, and what to do; empty if nothing is."""
        if not self.exists(connection):
            return GONE
        try:
            is_whole = self._present(connection) == self._triggers(connection)
        except UsageError as error:
            return error.message
        return "" if is_whole else "triggers of its journal are gone or were changed: run `kvsync track` on it again"

    # Forgetting what was read

    def settle(self, connection: sqlite3.Connection, position: bytes, scope: bytes) -> None:
        """Forget all rows up to a position; from then on the journal is believed, if its triggers were there."""
        number, schema, mark = Position.decode(position)
        state = self._state(connection)
        if state is None or state[0].hex() != mark:
            return  # somebody else has read it, or made another one
        is_seen = state[1] == schema or not self._fault(connection)
        if schema != _schema_version(connection) or not is_seen:
            self._set_mark(connection, schema=-1)
            return
        connection.execute(f"DELETE FROM {self._rows} WHERE seq <= ?", (number,))
        self._set_mark(connection, schema=schema, scope=scope)

    def forget_after(self, connection: sqlite3.Connection, number: int) -> None:
        """Forget the rows behind a number: those that this transaction has noted, as nobody else can write."""
        connection.execute(f"DELETE FROM {self._rows} WHERE seq > ?", (number,))

    # What is there

    def exists(self, connection: sqlite3.Connection) -> bool:
        """Return whether there is a table of what was noted."""
        return _has_table(connection, self.name)

    def _state(self, connection: sqlite3.Connection) -> tuple[bytes, int] | None:
        """Return the mark, and the version of the schema for which the triggers were seen; None without a journal."""
        if not _has_table(connection, JOURNAL_TABLE):
            return None
        query = f"SELECT mark, schema FROM {JOURNAL_TABLE} WHERE tbl = ?"
        row: tuple[bytes, int] | None = connection.execute(query, (self._table.owner,)).fetchone()
        if row is None:
            return None
        return row if self.exists(connection) else (row[0], -1)

    def _indexed_mark(self, connection: sqlite3.Connection) -> bytes | None:
        stored = self._index.load(connection, JOURNAL_OBJECT) if self._index.exists(connection) else None
        return stored.data if stored is not None else None

    def _set_mark(self, connection: sqlite3.Connection, *, schema: int, scope: bytes = b"") -> None:
        mark = self._random_bytes(MARK_BYTES) + scope
        row = (self._table.owner, mark, schema)
        connection.execute(f"INSERT OR REPLACE INTO {JOURNAL_TABLE} (tbl, mark, schema) VALUES (?, ?, ?)", row)
        self._index.store(connection, JOURNAL_OBJECT, mark, self._random_bytes(MARK_BYTES), ANY)

    # The triggers

    def _present(self, connection: sqlite3.Connection) -> dict[str, str]:
        """Return {name: statement} of our triggers that exist."""
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND substr(name, 1, ?) = ?"
        start = f"{self.name}:"
        return dict(connection.execute(query, (len(start), start)).fetchall())

    def _triggers(self, connection: sqlite3.Connection) -> dict[str, str]:
        """Return {name: statement} of the triggers that note each change.

        Raises:
            UsageError: nothing can note which rows of this table are replaced.
        """
        key = self._table.key
        is_moved = f'OLD."{key}" IS NOT NULL AND OLD."{key}" IS NOT NEW."{key}" COLLATE BINARY'
        moved = f'{self._insert} SELECT OLD."{key}", {NOW} WHERE {is_moved}'
        bodies = {
            "insert": ("AFTER INSERT", [self._note("NEW")]),
            "update": ("AFTER UPDATE", [self._note("NEW"), moved]),
            "delete": ("AFTER DELETE", [self._note("OLD")]),
        }
        others = list(_other_rules(connection, self._table))
        if others:
            bodies["before_insert"] = ("BEFORE INSERT", [self._note_replaced(rule) for rule in others])
            bodies["before_update"] = ("BEFORE UPDATE", [self._note_replaced(rule) for rule in others])
        return {
            f"{self.name}:{name}": (
                f'CREATE TRIGGER "{self.name}:{name}" {event} ON "{self._table.name}" BEGIN {"; ".join(notes)}; END'
            )
            for name, (event, notes) in bodies.items()
        }

    def _note(self, row: str) -> str:
        return f'{self._insert} SELECT {row}."{self._table.key}", {NOW} WHERE {row}."{self._table.key}" IS NOT NULL'

    def _note_replaced(self, rule: str) -> str:
        """Return what notes the row that `OR REPLACE` removes by another rule than that of the keys."""
        return (
            f'{self._insert} SELECT "{self._table.key}", {NOW} FROM "{self._table.name}" '
            f'WHERE {rule} AND "{self._table.key}" IS NOT NULL'
        )


def _other_rules(connection: sqlite3.Connection, table: Table) -> Iterator[str]:
    """Yield what is so of a row that has to go if `NEW` replaces it, though it has another key.

    Raises:
        UsageError: that cannot be told.
    """
    columns = connection.execute(f'PRAGMA table_xinfo("{table.name}")').fetchall()
    key = table.key.lower()
    primary = [column for column in columns if column[5]]
    if len(primary) == 1 and primary[0][2].upper() == "INTEGER":
        if primary[0][1].lower() != key:
            yield _equals(primary[0][1], "BINARY")
    elif number := _row_number(connection, table, {column[1].lower() for column in columns}):
        yield f"{number} = NEW.{number}"
    generated = {column[1] for column in columns if column[6] in {2, 3}}
    for row in connection.execute(f'PRAGMA index_list("{table.name}")').fetchall():
        index, is_unique, is_partial = row[1], row[2], row[4]
        if not is_unique:
            continue
        quoted = index.replace('"', '""')
        parts = connection.execute(f'PRAGMA index_xinfo("{quoted}")').fetchall()
        names = [(part[2], part[4]) for part in parts if part[5]]
        if any(name is not None and (name.lower(), collation.upper()) == (key, "BINARY") for name, collation in names):
            continue  # who replaces a row by this rule has its key
        if is_partial or any(name is None or name in generated for name, _ in names):
            message = (
                f"the unique index {index!r} of {table.name!r} is partial or on expressions: nothing can note which "
                "rows a REPLACE removes by it, so this table cannot be tracked"
            )
            raise UsageError(message)
        yield " AND ".join(_equals(name, collation) for name, collation in names)


def _row_number(connection: sqlite3.Connection, table: Table, columns: Collection[str]) -> str:
    """Return a name of the number of a row, which a statement may give; empty where it has none, or none is free."""
    name = next((name for name in ("rowid", "_rowid_", "oid") if name not in columns), "")
    try:
        connection.execute(f'SELECT {name or "NULL"} FROM "{table.name}" LIMIT 0')
    except sqlite3.OperationalError:  # WITHOUT ROWID
        return ""
    return name


def _equals(column: str, collation: str) -> str:
    quoted = column.replace('"', '""')
    return f'"{quoted}" = NEW."{quoted}" COLLATE "{collation}"'


def _has_table(connection: sqlite3.Connection, name: str) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (name,)).fetchone() is not None


def _schema_version(connection: sqlite3.Connection) -> int:
    version: Any = connection.execute("PRAGMA schema_version").fetchone()[0]
    return int(version)
