"""What a table is like: decided once for each version of the database's schema."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from kvsync.errors import UsageError
from kvsync.storages.sqlite.fetch import fetch
from kvsync.storages.sqlite.keys import KeyKind
from kvsync.storages.sqlite.table import JOURNAL_TABLE
from kvsync.storages.sqlite.times import Unit

if TYPE_CHECKING:
    import sqlite3

    from kvsync.storages.sqlite.table import Table

__all__ = ["Column", "Schema", "inspect", "needed_columns", "other_triggers"]

SAMPLE_COUNT = 1_000
"""In so many rows, times are looked at to see whether their unit can be right."""

GENERATED = {2, 3}

TEXTUAL = ("JSON", "STRING")
"""Words for texts that SQLite does not know: it makes numbers of the texts that look like some."""


class Affinity(Enum):
    """What SQLite makes of a value that it stores in a column, by the declared type."""

    TEXT = "TEXT"
    BLOB = "BLOB"
    INTEGER = "INTEGER"
    REAL = "REAL"
    NUMERIC = "NUMERIC"

    @classmethod
    def of(cls, declared: str, *, strict: bool = False) -> Affinity:
        """Return the affinity of a declared type, by the rules of SQLite.

        >>> Affinity.of("varchar(40)"), Affinity.of("STRING")
        (<Affinity.TEXT: 'TEXT'>, <Affinity.NUMERIC: 'NUMERIC'>)
        """
        name = declared.upper()
        if "INT" in name:
            return cls.INTEGER
        if any(part in name for part in ("CHAR", "CLOB", "TEXT")):
            return cls.TEXT
        if "BLOB" in name or not name or (strict and name == "ANY"):
            return cls.BLOB
        return cls.REAL if any(part in name for part in ("REAL", "FLOA", "DOUB")) else cls.NUMERIC


class Column(NamedTuple):
    """A column as declared."""

    name: str
    declared: str
    affinity: Affinity
    required: bool
    default: bool
    place_in_key: int
    generated: bool

    @property
    def real(self) -> bool:
        """Whether it holds fractions of numbers."""
        return self.affinity is Affinity.REAL


@dataclass(frozen=True, slots=True)
class Schema:
    """What kvsync has to know of a table.

    Attributes:
        keys: what the key column holds.
        textual: the value column is declared as text, so values are stored as text.
        numeric: it is declared as a number: an integer is the value that SQLite writes it as.
        watched: triggers, the types of the columns or the encoding of texts may change what is written: look at what
            was stored.
        upserts: one statement writes a row, whether it exists or not.
        paged: the order of the index is that of the keys, so that rows can be read a page at a time.
        key_required: the key column does not allow NULL.
        expires: the column that says when a row expires, or None.
        modified: the column that says when a row was last modified, or None.
    """

    keys: KeyKind
    textual: bool
    numeric: bool
    watched: bool
    upserts: bool
    paged: bool
    key_required: bool
    expires: Column | None
    modified: Column | None


class _Roles(NamedTuple):
    """The columns that kvsync reads and writes."""

    key: Column
    value: Column
    expires: Column | None
    modified: Column | None


def inspect(connection: sqlite3.Connection, table: Table) -> Schema | None:
    """Return what a table is like; None if it does not exist.

    Raises:
        UsageError: it is not suitable.
    """
    create = _create_statement(connection, table)
    if not create:
        return None
    strict = "STRICT" in create.rpartition(")")[2].upper()
    columns = _columns(connection, table, strict=strict)
    roles = _roles(connection, table, columns)
    key, value, expires, modified = roles
    kind = _key_kind(key)
    utf8 = str(connection.execute("PRAGMA encoding").fetchone()[0]) == "UTF-8"
    faithful = utf8 and value.affinity in {Affinity.TEXT, Affinity.BLOB} and key.affinity is not Affinity.NUMERIC
    watched = not faithful or _has_triggers(connection, table)
    return Schema(
        keys=kind,
        textual=value.affinity is Affinity.TEXT or any(part in value.declared.upper() for part in TEXTUAL),
        numeric=value.affinity not in {Affinity.TEXT, Affinity.BLOB},
        watched=watched,
        upserts=not watched and kind is not KeyKind.BLOB and not _needed(columns, roles),
        paged=kind is KeyKind.TEXT and utf8,
        key_required=_is_rowid(columns, key) or key.required or (strict and key.place_in_key > 0),
        expires=expires,
        modified=modified,
    )


def _create_statement(connection: sqlite3.Connection, table: Table) -> str:
    """Return the statement that created a table; nothing if there is none."""
    query = "SELECT type, name, sql FROM sqlite_master WHERE type IN ('table', 'view') AND lower(name) = ?"
    found = connection.execute(query, (table.name.lower(),)).fetchone()
    if found is None:
        return ""
    kind, name, create = found[0], found[1], str(found[2])
    if kind == "view" or create.upper().startswith("CREATE VIRTUAL"):
        message = f"{name!r} is a {'view' if kind == 'view' else 'virtual table'}: name a table that holds rows"
        raise UsageError(message)
    return create


def _columns(connection: sqlite3.Connection, table: Table, *, strict: bool) -> list[Column]:
    rows = connection.execute(f'PRAGMA table_xinfo("{table.name}")').fetchall()
    return [
        Column(
            name,
            declared,
            Affinity.of(declared, strict=strict),
            required=bool(required),
            default=default is not None,
            place_in_key=place,
            generated=hidden in GENERATED,
        )
        for _, name, declared, required, default, place, hidden in rows
    ]


def _roles(connection: sqlite3.Connection, table: Table, columns: list[Column]) -> _Roles:
    """Return the columns that the URL names, which have to be suitable."""
    key = _column(columns, table, table.key, "key=")
    roles = _Roles(
        key,
        _column(columns, table, table.value, "value="),
        _time_column(connection, columns, table, table.expires, "expires="),
        _time_column(connection, columns, table, table.modified, "modified="),
    )
    if not _is_rowid(columns, key):
        _check_unique(connection, table)
    return roles


def needed_columns(connection: sqlite3.Connection, table: Table) -> list[str]:
    """Return the columns of a table that exists for which kvsync has no value, and a new row needs one.

    Raises:
        UsageError: the table is not suitable.
    """
    columns = _columns(connection, table, strict=False)
    return _needed(columns, _roles(connection, table, columns))


def _needed(columns: list[Column], roles: _Roles) -> list[str]:
    others = [column for column in columns if column not in roles and not _is_rowid(columns, column)]
    return [column.name for column in others if column.required and not column.default and not column.generated]


def _column(columns: list[Column], table: Table, name: str, option: str) -> Column:
    found = next((column for column in columns if column.name.lower() == name.lower()), None)
    if found is None:
        message = f"table {table.name!r} has no column {name!r}: name it with {option}"
        raise UsageError(message)
    if found.generated:
        message = f"column {name!r} of {table.name!r} is generated, and cannot be written: name another with {option}"
        raise UsageError(message)
    return found


def _key_kind(key: Column) -> KeyKind:
    if key.affinity is Affinity.INTEGER:
        return KeyKind.INTEGER
    if key.affinity in {Affinity.TEXT, Affinity.NUMERIC}:
        return KeyKind.TEXT
    if key.affinity is Affinity.BLOB:
        return KeyKind.BLOB if "BLOB" in key.declared.upper() else KeyKind.TEXT
    message = f"key column {key.name!r} is declared {key.declared!r}, which changes keys: TEXT, BLOB and INTEGER do not"
    raise UsageError(message)


def _is_rowid(columns: list[Column], column: Column) -> bool:
    """Whether a column is the number of its row, by its declaration."""
    alone = sum(1 for other in columns if other.place_in_key) == 1
    return alone and column.place_in_key == 1 and column.declared.upper() == "INTEGER"


def _check_unique(connection: sqlite3.Connection, table: Table) -> None:
    """Make sure that no two rows have one key, byte by byte."""
    for row in connection.execute(f'PRAGMA index_list("{table.name}")').fetchall():
        index, unique, partial = row[1], row[2], row[4]
        quoted = index.replace('"', '""')
        parts = connection.execute(f'PRAGMA index_xinfo("{quoted}")').fetchall()
        columns = [(part[2], part[4]) for part in parts if part[5]]
        if unique and not partial and len(columns) == 1:
            name, collation = columns[0]
            if name is not None and name.lower() == table.key.lower() and collation.upper() == "BINARY":
                return
    message = (
        f"key column {table.key!r} of {table.name!r} has to be unique on its own, byte by byte: CREATE UNIQUE INDEX "
        f'"{table.name}_{table.key}_binary" ON "{table.name}" ("{table.key}" COLLATE BINARY)'
    )
    raise UsageError(message)


def _time_column(
    connection: sqlite3.Connection, columns: list[Column], table: Table, name: str | None, option: str
) -> Column | None:
    """Return a column of times, whose type and first values fit its unit."""
    if name is None:
        return None
    column, unit = _column(columns, table, name, option), table.unit
    # Both names are checked.
    sample = f'SELECT "{name}" FROM (SELECT "{name}" FROM "{table.name}" LIMIT {SAMPLE_COUNT})'  # noqa: S608
    times = [row[0] for row in fetch(connection, sample) if row[0]]
    which, other = f"column {name!r} of {table.name!r}", unit.fitting(times)
    if other is not None:
        message = f"{which} holds {times[0]!r:.100}, which cannot be meant in unit={unit}: add unit={other} to the URL"
        raise UsageError(message)
    if not _fits(column, unit, known=bool(times)):
        message = (
            f"{which} is declared {column.declared!r}, which does not fit unit={unit}: use unit=ms or unit=s with "
            "INTEGER or REAL, unit=iso with TEXT or DATETIME"
        )
        raise UsageError(message)
    return column


def _fits(column: Column, unit: Unit, *, known: bool) -> bool:
    """Whether a column may hold times in a unit; `known`: it holds some, and they are."""
    if unit is Unit.ISO:
        return column.affinity not in {Affinity.INTEGER, Affinity.REAL}
    dated = any(part in column.declared.upper() for part in ("DATE", "TIME"))
    return column.affinity is not Affinity.TEXT and (known or column.affinity is not Affinity.NUMERIC or not dated)


def _has_triggers(connection: sqlite3.Connection, table: Table) -> bool:
    return bool(other_triggers(connection, table))


def other_triggers(connection: sqlite3.Connection, table: Table) -> list[str]:
    """Return the names of the triggers of a table, but for those of our journals, which change nothing in it."""
    query = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND lower(tbl_name) = ?"
    names = [str(row[0]) for row in connection.execute(query, (table.name.lower(),))]
    return [name for name in names if not name.startswith(f"{JOURNAL_TABLE}_")]
